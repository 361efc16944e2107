"""What to do next, derived from the files alone: each sentence names the figure it rests on."""

from collections.abc import Iterator

from scripts.evaluation.evaluate import points
from scripts.pipeline.words import counted
from scripts.report.curves import checkpoint_step
from scripts.report.material import FILES, Material
from scripts.report.overview import boxes_by_class

CAUSES = {
    "localisation": ("boxes that lie loosely (IoU 0.1 to 0.5)",
                     "look whether the labels are drawn tightly and all in one manner; more training pictures help"),
    "class": ("things found as another class", "look in the confusion matrix which; label more of these classes"),
    "both": ("another class and a loose box", "look at these pictures first for slips in the labels"),
    "duplicate": ("second boxes on one thing", "look whether labels are drawn double, or things stand close together"),
    "background": ("boxes where nothing is labelled",
                   "look whether a label is missing there; if not, add pictures of what it mistakes, without boxes"),
    "missed": ("things not found", "add training pictures in which they look as they do here"),
}
"""Cause of `eval/errors.json` -> what it is in words, and what one does about it."""

FEWER = 2
"""Times fewer training boxes than the largest class, from which that is worth a sentence; `check` warns from 10 on."""


def _named(name: str) -> str:
    """A class name inside a sentence, where backticks would mark something to type."""
    return name.replace("`", "\u02cb")


def by_cost(causes: dict) -> list[tuple[str, dict]]:
    """Causes of `eval/errors.json`, those first without which AP50 would gain most."""
    return sorted(causes.items(), key=lambda item: -(item[1]["ap50_gain"] or 0))


def next_steps(material: Material) -> list[str]:
    """Sentences, the most urgent first; commands in them stand between backticks."""
    return list(_of_steps(material)) + list(_of_errors(material)) + list(_of_data(material)) + list(_of_files(material))


def _of_steps(material: Material) -> Iterator[str]:
    """What has not run, or not to its end."""
    run = material.run
    for name in ("run", "metrics"):
        if getattr(material, name) is None:
            yield f"{FILES[name][0]} is not there: type `invoke {FILES[name][1]}`."
    if run is None:
        return
    asked = run.get("settings", {}).get("trainer.train_steps")
    if run.get("stopped_by") is None and asked and run["steps"] < asked:
        yield f"Training stands at step {run['steps']:,} of {asked:,}: `invoke train` goes on."
    elif run.get("best_checkpoint") and checkpoint_step(run["best_checkpoint"]) == run["steps"]:
        yield (f"The last checkpoint was the best ({run['best_checkpoint']}, AP {points(run['best_AP'])} on the "
               "validation pictures): AP had not stopped rising, raise `train.minutes` and type `invoke tflite`.")


def _of_errors(material: Material) -> Iterator[str]:
    """What costs most, and what may be wrong with the labels."""
    if material.analysis and material.analysis["too_small"]:
        yield f"{material.analysis['too_small'].rstrip('.')}: label more test pictures."
    if material.errors:
        worst, row = by_cost(material.errors["causes"])[0]
        if row["count"] and row["ap50_gain"]:
            what, how = CAUSES.get(worst, (worst, "look at them below"))
            yield (f"Most costly are {what}: {row['count']:,} of them; without them AP50 would be "
                   f"{points(row['ap50_gain'])} points higher. {how[0].upper()}{how[1:]}.")
    elif material.metrics:
        yield "Which mistakes cost most is not known yet: type `invoke evaluate`."
    if material.suspects is None:
        if material.metrics:
            yield "Labels that look wrong can be listed: type `invoke suspects`."
    elif material.suspects["suspects"]:
        count = len(material.suspects["suspects"])
        yield (f"{counted(count, 'label is', 'labels are')} worth a look, the most suspicious first in "
               "eval/suspects.csv: correct them, then type `invoke tflite`.")


def _of_data(material: Material) -> Iterator[str]:
    """The class with fewest boxes, the one with the lowest AP, and the findings that count."""
    counts = {name: row["train"] for name, row in boxes_by_class(material).items()}
    if len(counts) > 1 and material.pictures.get("train"):
        fewest, most = min(counts, key=counts.get), max(counts, key=counts.get)
        if counts[fewest] * FEWER <= counts[most]:
            yield (f"The class with fewest training boxes is {_named(fewest)}: {counts[fewest]:,} where "
                   f"{_named(most)} has {counts[most]:,}. Label more of it.")
    known = {name: row for name, row in ((material.metrics or {}).get("per_class") or {}).items()
             if row["AP"] is not None}
    if len(known) > 1:
        worst = min(known, key=lambda name: known[name]["AP"])
        boxes = counted(counts.get(worst, 0), "training box", "training boxes")
        yield f"The class with the lowest AP is {_named(worst)}: {points(known[worst]['AP'])} points, {boxes}."
    if material.check and material.check["warnings"]:
        warnings = counted(material.check["warnings"], "warning")
        yield f"`invoke check` gave {warnings}: they stand under “Data”."


def _of_files(material: Material) -> Iterator[str]:
    """What keeps the file from being shipped."""
    tflite = material.tflite
    if tflite is None:
        if material.metrics:
            yield "There is no file for the phone yet: type `invoke tflite`."
        return
    shipped = tflite["variants"].get(tflite["ship"])
    if shipped and not shipped["passed"]:
        yield (f"{shipped['file']} lost {points(shipped['ap_drop'])} points of AP and was refused: `invoke tflite` "
               "says what to try.")

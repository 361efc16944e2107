"""What to do next, and what in the report does not belong together.

Every sentence is derived from the files of the steps and names the figure that it rests on.
Commands in the sentences stand between backticks.
"""

from collections.abc import Iterator

from scripts.core.text import counted, points
from scripts.report.material import COMMANDS, Material, checkpoint_step

CAUSES = {
    "localization": ("boxes that fit loosely (IoU 0.1 to 0.5)",
                     "check that the labels are tight and all drawn in the same way; more training "
                     "images help"),
    "class": ("objects found as another class",
              "see in the confusion matrix which ones; label more of these classes"),
    "both": ("another class and a loose box", "check these images first for wrong labels"),
    "duplicate": ("second boxes on one object",
                  "check for double labels, and for objects that stand close together"),
    "background": ("boxes where nothing is labeled",
                   "check whether a label is missing there; if not, add images of such places, "
                   "without boxes"),
    "missed": ("objects not found", "add training images that show such objects in the same way"),
}
"""Cause of `eval/errors.json` -> its meaning, and what to do about it."""

FEWER = 2
"""A class is called rare if the largest class has this many times its training boxes; `check` warns
from 10 on."""


def by_cost(causes: dict) -> list[tuple[str, dict]]:
    """Sort the causes of `eval/errors.json`: first the one that costs most AP50."""
    return sorted(causes.items(), key=lambda item: -(item[1]["ap50_gain"] or 0))


def next_steps(material: Material) -> list[str]:
    """Return what to do next, the most urgent first."""
    parts = (_of_training, _of_errors, _of_suspects, _of_data, _of_tflite)
    return [sentence for part in parts for sentence in part(material)]


def _of_training(material: Material) -> Iterator[str]:
    """What has not run, or not to its end."""
    run = material.run
    for name in ("run", "metrics"):
        if getattr(material, name) is None:
            yield f"{material.files[name]} is not there: type `invoke {COMMANDS[name]}`."
    if run is None:
        return
    planned = run.get("settings", {}).get("trainer.train_steps")
    if run.get("stopped_by") is None and planned and run["steps"] < planned:
        yield (f"Training stopped at step {run['steps']:,} of {planned:,}: `invoke train` "
               "continues it.")
    elif run.get("best_checkpoint") and checkpoint_step(run["best_checkpoint"]) == run["steps"]:
        yield (f"The last checkpoint was the best ({run['best_checkpoint']}, "
               f"AP {points(run['best_AP'])} on the validation images): AP was still rising. "
               "Raise `train.minutes` and type `invoke tflite`.")


def _of_errors(material: Material) -> Iterator[str]:
    """What costs most."""
    if material.analysis and material.analysis["too_small"]:
        yield f"{material.analysis['too_small'].rstrip('.')}: label more test images."
    if material.errors:
        cause, row = by_cost(material.errors["causes"])[0]
        if row["count"] and row["ap50_gain"]:
            meaning, advice = CAUSES.get(cause, (cause, "look at them below"))
            yield (f"Most costly are {meaning}: {row['count']:,} of them. Without them AP50 would "
                   f"be {points(row['ap50_gain'])} points higher. {advice[0].upper()}{advice[1:]}.")
    elif material.metrics:
        yield "Which mistakes cost most is not known yet: type `invoke evaluate`."


def _of_suspects(material: Material) -> Iterator[str]:
    """Labels that may be wrong."""
    if material.suspects is None:
        if material.metrics:
            yield "To list the labels that look wrong, type `invoke suspects`."
    elif material.suspects["suspects"]:
        labels = counted(len(material.suspects["suspects"]), "label is", "labels are")
        yield (f"{labels} worth a look; eval/suspects.csv lists the most suspicious first. "
               "Correct them, then type `invoke tflite`.")


def _of_data(material: Material) -> Iterator[str]:
    """The class with fewest boxes, the one with the lowest AP, and the warnings of `check`."""
    counts = {name: row["train"] for name, row in material.boxes_by_class().items()}
    if len(counts) > 1 and material.tables.get("train"):
        fewest, most = min(counts, key=counts.get), max(counts, key=counts.get)
        if counts[fewest] * FEWER <= counts[most]:
            yield (f"The class with fewest training boxes is {_name(fewest)}: {counts[fewest]:,}, "
                   f"while {_name(most)} has {counts[most]:,}. Label more of it.")
    per_class = (material.metrics or {}).get("per_class") or {}
    known = {name: row["AP"] for name, row in per_class.items() if row["AP"] is not None}
    if len(known) > 1:
        worst = min(known, key=known.get)
        boxes = counted(counts.get(worst, 0), "training box", "training boxes")
        yield (f"The class with the lowest AP is {_name(worst)}: {points(known[worst])} points, "
               f"{boxes}.")
    if material.check and material.check["warnings"]:
        warnings = counted(material.check["warnings"], "warning")
        yield f"`invoke check` gave {warnings}: see “Data” below."


def _of_tflite(material: Material) -> Iterator[str]:
    """What keeps the file from being shipped."""
    if material.tflite is None:
        if material.metrics:
            yield "There is no file for the phone yet: type `invoke tflite`."
    elif material.shipped and not material.shipped["passed"]:
        lost = points(material.shipped["ap_drop"])
        yield (f"{material.shipped['file']} lost {lost} points of AP and was refused: "
               "`invoke tflite` says what to try.")


def _name(class_name: str) -> str:
    """A class name inside a sentence, where backticks would mark something to type."""
    return class_name.replace("`", "\u02cb")


def disagreements(material: Material, unfinished: list[tuple[str, str]]) -> list[str]:
    """Return sentences about files of different checkpoints, and about steps that would run again.

    `unfinished` are these steps as (name, reason).
    """
    sentences = []
    if unfinished:
        (name, reason), *later = unfinished
        others = f", and after it {', '.join(other for other, _ in later)}" if later else ""
        sentences.append(f"{name} would run again ({reason}){others}: this page shows what they "
                         f"wrote before. Type `invoke {unfinished[-1][0]}`, then `invoke report`.")
    checkpoint = (material.metrics or {}).get("checkpoint")
    for name in ("analysis", "errors", "suspects"):
        other = (getattr(material, name) or {}).get("checkpoint")
        if checkpoint and other and other != checkpoint:
            sentences.append(f"{material.files[name]} is of {other}, the figures are of "
                             f"{checkpoint}. Type `invoke {COMMANDS[name]}`.")
    of_tflite = ((material.tflite or {}).get("checkpoint") or {}).get("name")
    if checkpoint and of_tflite and of_tflite != checkpoint:
        sentences.append(f"The .tflite files are of {of_tflite}, the figures of {checkpoint}. "
                         "Type `invoke tflite`.")
    if material.scored:
        classes = {row["name"] for row in material.groundtruth["categories"]}
        if classes != set(material.metrics["per_class"]):
            sentences.append(f"{material.files['groundtruth']} has other classes than "
                             f"{material.files['metrics']}. Type `invoke forget evaluate`, then "
                             "`invoke evaluate`.")
    return sentences + [material.shipped_changed] * bool(material.shipped_changed)

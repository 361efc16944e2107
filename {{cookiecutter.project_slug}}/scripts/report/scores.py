"""Hits, false alarms and misses at every hundredth of a score, for the slider."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scripts.core.text import counted, points
from scripts.evaluation.metrics import match
from scripts.evaluation.thresholds import SCORES, curves
from scripts.report.figures import (
    boxes_by_class,
    checkpoint_step,
    diagram,
    figure,
    legend,
    line_style,
    percent_axes,
    series_color,
)
from scripts.report.html import Html, paragraph, row_name, table, tag
from scripts.report.material import FILES, Material, in_order, missing_text

WRONG, RIGHT, IGNORED = 0, 1, 2
"""What a detection is at IoU 0.5; ignored: it lies on a box that is not scored."""


@dataclass(frozen=True)
class Found:
    """One detection: number of its class (from 0), the last hundredth at which it is shown, its box
    and what it is.

    `annotation_id` is that of the label that it was matched with, None without one.
    """

    class_number: int
    hundredth: int
    xywh_px: tuple[float, float, float, float]
    state: int
    annotation_id: int | None


@dataclass(frozen=True)
class Counts:
    """By class in the order of the label map: `boxes` to find; `hits` and `false_alarms` at each of
    SCORES.

    `found` are the detections of each image by its id, best first.
    """

    boxes: list[int]
    hits: list[list[int]]
    false_alarms: list[list[int]]
    found: dict[int, list[Found]]


def last_hundredth(score: float) -> int:
    """The largest number of hundredths that is not above `score` (0..1): 0.3 gives 30, though 0.3 *
    100 is below 30."""
    near = int(score * 100) + 1
    return near if near / 100 <= score else near - 1


def count(groundtruth: dict, detections: list[dict]) -> Counts:
    """Match COCO results with a COCO ground truth at IoU 0.5 and count, as `eval/analysis.json`
    does."""
    numbers = {row["id"]: number for number, row in enumerate(groundtruth["categories"])}
    matches = match(groundtruth, detections)
    found = {row["id"]: [] for row in groundtruth["images"]}
    for row in matches.rows:
        state = IGNORED if row.ignored else RIGHT if row.hit else WRONG
        found[row.image_id].append(Found(numbers[row.category_id], last_hundredth(row.score), tuple(row.bbox), state,
                                         row.annotation_id))
    for rows in found.values():
        rows.sort(key=lambda one: -one.hundredth)
    by_class = curves(matches)
    ordered = [by_class[category_id] for category_id in numbers]
    return Counts([curve.boxes for curve in ordered], [list(curve.hits) for curve in ordered],
                  [[curve.false_alarms(place) for place in range(len(SCORES))] for curve in ordered], found)


# The figures on the test images: head numbers with intervals, classes, sizes, curves and the
# confusion matrix.

MOST_CURVES = 8
MOST_CONFUSED = 16
SIZES = {"small": "small (under 32² px)", "medium": "medium (32² to 96² px)", "large": "large (over 96² px)"}


def with_interval(fraction: float | None, interval: list | None) -> str:
    """`60.2 (55.1 to 65.0)` in points; without an interval the figure alone."""
    if fraction is None or not interval:
        return points(fraction)
    return f"{points(fraction)} ({points(interval[0])} to {points(interval[1])})"


def percent(fraction: float | None) -> str:
    """`60.2 %`; `undefined` for None."""
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"


def head_parts(material: Material) -> list[Html]:
    """The cards at the top, the sentence about too few images, and the tables of classes and sizes.
    """
    if material.metrics is None:
        return [paragraph(missing_text("No figures", "metrics"))]
    metrics, analysis = material.metrics, material.analysis
    parts = [tag("div", *_cards(material), class_="cards")]
    if analysis is None:
        parts.append(paragraph(missing_text("No intervals and no advised score", "analysis")))
    else:
        parts.append(paragraph("The brackets hold 95 % intervals: they say how far chance in the choice of test "
                               "images alone moves a figure.", "remark"))
        if analysis["too_small"]:
            parts.append(paragraph(analysis["too_small"].rstrip(".") + ".", "warning"))
    parts.append(_classes(material, metrics, analysis))
    return parts + ([_sizes(material, analysis)] if analysis else [])


def _cards(material: Material) -> list[Html]:
    metrics, analysis, tflite = material.metrics, material.analysis, material.tflite
    intervals = (analysis or {}).get("intervals", {})
    cards = [_card(name, points(metrics[name]), _bracket(intervals.get(name)), meaning)
             for name, meaning in (("AP", "precision over all recalls, IoU 0.50 to 0.95"),
                                   ("AP50", "the same at IoU 0.50"))]
    best = analysis["thresholds"]["all"].get("best_f1") if analysis else None
    if best:
        says = f"of the boxes shown are right, {percent(best['recall'])} of the things are found"
        cards.append(_card(f"from score {best['score']:.2f}", percent(best["precision"]), "", says))
    shipped = (tflite or {}).get("variants", {}).get((tflite or {}).get("ship"))
    if shipped:
        says = f"AP of {shipped['file']}, {shipped['bytes'] / 1e6:.1f} MB"
        cards.append(_card(f"on the phone ({tflite['ship']})", points(shipped["AP"]),
                           "" if shipped["passed"] else "refused", says))
    cards.append(_card("test images", f"{metrics['images']:,}", "", f"{metrics['boxes']:,} boxes, "
                       f"{metrics['checkpoint']}"))
    return cards


def _card(title: str, number: str, bracket: str, meaning: str) -> Html:
    return tag("div", tag("b", title), tag("strong", number), tag("span", bracket) if bracket else None,
               tag("small", meaning), class_="card")


def _bracket(interval: list | None) -> str:
    return f"{points(interval[0])} to {points(interval[1])}" if interval else ""


def _classes(material: Material, metrics: dict, analysis: dict | None) -> Html:
    per_class = (analysis or {}).get("intervals", {}).get("per_class", {})
    thresholds = (analysis or {}).get("thresholds", {}).get("per_class", {})
    rows = []
    for name, figures in in_order(material, metrics["per_class"]):
        interval = (per_class.get(name) or {}).get("AP")
        best = (thresholds.get(name) or {}).get("best_f1")
        rows.append((name, with_interval(figures["AP"], interval), points(figures["AP50"]), points(figures["AR100"]),
                     f"{best['score']:.2f}" if best else "-", points(best["precision"]) if best else "-",
                     points(best["recall"]) if best else "-", f"{figures['boxes']:,}"))
    header = ("class", "AP", "AP50", "AR100", "best score", "precision", "recall", "boxes")
    return table(header, rows, "By class, in points. Best score: where F1 was highest on the validation images; "
                               "precision and recall are those of the test images from there on")


def _sizes(material: Material, analysis: dict) -> Html:
    rows = []
    by_class = {name: row for name, row in analysis["sizes"].items() if name != "all"}
    for name, row in [("all", analysis["sizes"]["all"]), *in_order(material, by_class)]:
        cells = [f"{points(row[size]['AP'])} ({row[size]['boxes']:,})" if row.get(size) else "-" for size in SIZES]
        rows.append((name, *cells))
    return table(("class", *SIZES.values()), rows, "AP in points by size of the box, and how many boxes there are")


def curve_parts(material: Material) -> list[Html]:
    """Precision over recall by class, and precision, recall and F1 over the score."""
    analysis = material.analysis
    if analysis is None:
        return [paragraph(missing_text("No curves", "analysis"))]
    names = [name for name, row in in_order(material, analysis["pr"]) if row and row["recall"]]
    if material.metrics:
        names.sort(key=lambda name: material.metrics["per_class"].get(name, {}).get("AP50") or 0)
    shown = names[:MOST_CURVES]
    left = f"{len(shown)} of {len(names)} classes: those with the lowest AP50." if len(names) > len(shown) else None
    below = (legend(shown), tag("p", left, class_="remark") if left else None)
    pr = figure(diagram("pr", "Precision over recall", lambda axes: _draw_pr(axes, analysis["pr"], shown)),
                "Precision over recall, IoU 0.5", *below)
    measures = ("precision", "recall", "f1")
    by_score = figure(diagram("by-score", "Precision, recall and F1 by score",
                              lambda axes: _draw_by_score(axes, analysis["curves"]["all"], measures)),
                      "All classes, by lowest score shown", legend(["precision", "recall", "F1"]))
    return [tag("div", pr, by_score, class_="plots")]


def _draw_pr(axes, curves: dict, names: list[str]) -> None:
    for number, name in enumerate(names):
        drawn = [(recall, precision) for recall, precision in zip(curves[name]["recall"], curves[name]["precision"],
                                                                  strict=True) if precision is not None]
        axes.plot(*zip(*drawn, strict=True), color=series_color(number), linestyle=line_style(number))
    percent_axes(axes, "recall", "precision")


def _draw_by_score(axes, curves: dict, measures: tuple) -> None:
    for number, measure in enumerate(measures):
        values = [np.nan if value is None else value for value in curves[measure]]
        axes.plot(curves["score"], values, color=series_color(number))
    percent_axes(axes, "score", "")


def confusion_parts(material: Material) -> list[Html]:
    """The matrix as a table; with many classes the part where most goes wrong."""
    if material.analysis is None:
        return [paragraph(missing_text("No confusion matrix", "analysis"))]
    confusion = material.analysis["confusion"]
    labels, rows = confusion["labels"], confusion["rows"]
    chosen = most_confused(rows)
    parts = [paragraph(f"Rows: what it is. Columns: what was found, from score {confusion['score']:.2f}. "
                       "Last column: not found at all. Last row: found where nothing is.", "remark")]
    if len(chosen) < len(labels):
        parts.append(paragraph(f"{len(chosen) - 1} of {len(labels) - 1} classes are shown, those with most mistakes; "
                               "all are in eval/analysis.json.", "remark"))
    body = [tag("tr", row_name(_side(labels[row], "found, but nothing there", row, rows)),
                *(_cell(rows, row, column, chosen) for column in chosen)) for row in chosen]
    sides = [_side(labels[column], "missed", column, rows) for column in chosen]
    head = tag("tr", tag("th", "it is \\ found as"),
               *(tag("th", tag("span", side, class_="name", title=side)) for side in sides))
    return [*parts, tag("div", tag("table", tag("thead", head), tag("tbody", *body), class_="confusion",
                               aria_label="Confusion matrix"),
                        class_="wide")]


def most_confused(rows: list[list[int]]) -> list[int]:
    """Numbers of the classes to show, background last: the MOST_CONFUSED with most mistakes."""
    last = len(rows) - 1
    mistakes = [sum(rows[one]) + sum(row[one] for row in rows) - 2 * rows[one][one] for one in range(last)]
    worst = sorted(range(last), key=lambda one: -mistakes[one])[:MOST_CONFUSED]
    return [*sorted(worst), last]


def _side(label: str, background: str, number: int, rows: list) -> str:
    return background if number == len(rows) - 1 else label


def _cell(rows: list[list[int]], row: int, column: int, chosen: list[int]) -> Html:
    """One number; its color says which share of its row it is, and whether it is right."""
    last, value = len(rows) - 1, rows[row][column]
    if row == column == last:
        return tag("td")
    whole = sum(rows[row]) or 1
    kind = "right" if row == column else "wrong"
    return tag("td", f"{value:,}" if value else "·", class_=f"number {kind}", style=f"--share: {value / whole:.3f}")


# What to do next, derived from the files alone: each sentence names the figure it rests on.

CAUSES = {
    "localisation": ("boxes that lie loosely (IoU 0.1 to 0.5)",
                     "look whether the labels are drawn tightly and all in one manner; more training images help"),
    "class": ("things found as another class", "look in the confusion matrix which; label more of these classes"),
    "both": ("another class and a loose box", "look at these images first for slips in the labels"),
    "duplicate": ("second boxes on one thing", "look whether labels are drawn double, or things stand close together"),
    "background": ("boxes where nothing is labeled",
                   "look whether a label is missing there; if not, add images of what it mistakes, without boxes"),
    "missed": ("things not found", "add training images in which they look as they do here"),
}
"""Cause of `eval/errors.json` -> what it is in words, and what one does about it."""

FEWER = 2
"""Times fewer training boxes than the largest class, from which that is worth a sentence; `check`
warns from 10 on."""


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
               "validation images): AP had not stopped rising, raise `train.minutes` and type `invoke tflite`.")


def _of_errors(material: Material) -> Iterator[str]:
    """What costs most, and what may be wrong with the labels."""
    if material.analysis and material.analysis["too_small"]:
        yield f"{material.analysis['too_small'].rstrip('.')}: label more test images."
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
    if len(counts) > 1 and material.images.get("train"):
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

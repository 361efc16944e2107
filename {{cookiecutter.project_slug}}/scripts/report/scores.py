"""The figures of the test images as rows of the report: hits at each score, classes, sizes, and the
confusion matrix."""

from dataclasses import dataclass

from scripts.core.text import points
from scripts.evaluation.metrics import match
from scripts.evaluation.thresholds import SCORES, curves
from scripts.report.material import Material

WRONG, RIGHT, IGNORED = 0, 1, 2
"""What a detection is at IoU 0.5. Ignored: it lies on a box that is not scored."""

MOST_CONFUSED = 16
SIZES = {"small": "small (under 32² px)", "medium": "medium (32² to 96² px)",
         "large": "large (over 96² px)"}


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
    """Counts by class in the order of the label map.

    `boxes` are those to find, `hits` and `false_alarms` those at each of SCORES. `found` are the
    detections of each image by its id, best first.
    """

    boxes: list[int]
    hits: list[list[int]]
    false_alarms: list[list[int]]
    found: dict[int, list[Found]]


def last_hundredth(score: float) -> int:
    """Return the largest number of hundredths that is not above `score` (0..1)."""
    near = int(score * 100) + 1  # 0.29 * 100 is below 29
    return near if near / 100 <= score else near - 1


def count(groundtruth: dict, detections: list[dict]) -> Counts:
    """Match COCO detections with a COCO ground truth at IoU 0.5, and count as `eval/analysis.json`
    does."""
    numbers = {row["id"]: number for number, row in enumerate(groundtruth["categories"])}
    matches = match(groundtruth, detections)
    found = {row["id"]: [] for row in groundtruth["images"]}
    for row in matches.rows:
        state = IGNORED if row.ignored else (WRONG, RIGHT)[row.hit]
        found[row.image_id].append(Found(numbers[row.category_id], last_hundredth(row.score),
                                         tuple(row.bbox), state, row.annotation_id))
    for rows in found.values():
        rows.sort(key=lambda detection: -detection.hundredth)
    by_class = curves(matches)
    ordered = [by_class[category_id] for category_id in numbers]
    return Counts([curve.boxes for curve in ordered], [list(curve.hits) for curve in ordered],
                  [[curve.false_alarms(place) for place in range(len(SCORES))]
                   for curve in ordered], found)


def percent(fraction: float | None) -> str:
    """Return `60.2 %`, or `undefined` for None."""
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"


def with_interval(fraction: float | None, interval: list | None) -> str:
    """Return `60.2 (55.1 to 65.0)` in points; without an interval the figure alone."""
    if fraction is None or not interval:
        return points(fraction)
    return f"{points(fraction)} ({points(interval[0])} to {points(interval[1])})"


def head_cards(material: Material) -> list[dict[str, str]]:
    """The largest figures of the page: `title`, `number`, a `note` beside it, and its `meaning`."""
    metrics, analysis, shipped = material.metrics, material.analysis, material.shipped
    intervals = (analysis or {}).get("intervals", {})
    cards = []
    for name, meaning in (("AP", "mean precision over all recalls, IoU 0.50 to 0.95"),
                          ("AP50", "the same at IoU 0.50")):
        low_high = intervals.get(name)
        note = f"{points(low_high[0])} to {points(low_high[1])}" if low_high else ""
        cards.append((name, points(metrics[name]), note, meaning))
    best = analysis["thresholds"]["all"].get("best_f1") if analysis else None
    if best:
        cards.append((f"from score {best['score']:.2f}", percent(best["precision"]), "",
                      f"of the boxes shown are right, {percent(best['recall'])} of the labels "
                      "are found"))
    if shipped:
        cards.append((f"on the phone ({material.tflite['ship']})", points(shipped["AP"]),
                      "" if shipped["passed"] else "refused",
                      f"AP of {shipped['file']}, {shipped['bytes'] / 1e6:.1f} MB"))
    cards.append(("test images", f"{metrics['images']:,}", "",
                  f"{metrics['boxes']:,} boxes, {metrics['checkpoint']}"))
    return [dict(zip(("title", "number", "note", "meaning"), card, strict=True)) for card in cards]


def class_rows(material: Material) -> list[tuple[str, ...]]:
    """Class, AP with its interval, AP50, AR100, the best score with its precision and recall,
    boxes."""
    analysis = material.analysis or {"intervals": {}, "thresholds": {"per_class": {}}}
    intervals = analysis["intervals"].get("per_class") or {}
    thresholds = analysis["thresholds"]["per_class"]
    rows = []
    for name, figures in material.in_order(material.metrics["per_class"]):
        advised = ("-", "-", "-")
        best = (thresholds.get(name) or {}).get("best_f1")
        if best:
            advised = f"{best['score']:.2f}", points(best["precision"]), points(best["recall"])
        interval = (intervals.get(name) or {}).get("AP")
        rows.append((name, with_interval(figures["AP"], interval), points(figures["AP50"]),
                     points(figures["AR100"]), *advised, f"{figures['boxes']:,}"))
    return rows


def size_rows(material: Material) -> list[tuple[str, ...]]:
    """Class (`all` first), then AP and the number of boxes for each of SIZES."""
    sizes = material.analysis["sizes"]
    by_class = {name: row for name, row in sizes.items() if name != "all"}
    return [(name, *(f"{points(row[size]['AP'])} ({row[size]['boxes']:,})" if row.get(size) else "-"
                     for size in SIZES))
            for name, row in [("all", sizes["all"]), *material.in_order(by_class)]]


def confusion_table(confusion: dict) -> dict:
    """The confusion matrix of `eval/analysis.json`, with many classes the part with most mistakes.

    Returns:
        `header`, the names of the columns; `rows`, pairs of a name and its cells. A cell is
        (count, share of its row 0..1, whether it is right), or None for background found as
        background.
    """
    labels, rows = confusion["labels"], confusion["rows"]
    chosen, last = most_confused(rows), len(rows) - 1

    def cell(row: int, column: int) -> tuple[int, float, bool] | None:
        if row == column == last:
            return None
        return rows[row][column], rows[row][column] / (sum(rows[row]) or 1), row == column

    names = [*labels[:last], "found, but nothing there"]
    return {"header": [*(labels[column] for column in chosen[:-1]), "missed"],
            "rows": [(names[row], [cell(row, column) for column in chosen]) for row in chosen]}


def most_confused(rows: list[list[int]]) -> list[int]:
    """Numbers of the classes to show, background last: the MOST_CONFUSED with most mistakes."""
    last = len(rows) - 1
    mistakes = [sum(rows[place]) + sum(row[place] for row in rows) - 2 * rows[place][place]
                for place in range(last)]
    worst = sorted(range(last), key=lambda place: -mistakes[place])[:MOST_CONFUSED]
    return [*sorted(worst), last]

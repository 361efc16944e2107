"""Hits, false alarms and misses at every hundredth of a score, for the slider."""

from dataclasses import dataclass

from scripts.evaluation.matching import match
from scripts.evaluation.threshold import SCORES, curves

WRONG, RIGHT, IGNORED = 0, 1, 2
"""What a detection is at IoU 0.5; ignored: it lies on a box that is not scored."""


@dataclass(frozen=True)
class Found:
    """One detection: number of its class (from 0), the last hundredth at which it is shown, its box and what it is.

    `annotation_id` is that of the label that it was matched with, None without one.
    """

    class_number: int
    hundredth: int
    xywh_px: tuple[float, float, float, float]
    state: int
    annotation_id: int | None


@dataclass(frozen=True)
class Counts:
    """By class in the order of the label map: `boxes` to find; `hits` and `false_alarms` at each of SCORES.

    `found` are the detections of each picture by its id, best first.
    """

    boxes: list[int]
    hits: list[list[int]]
    false_alarms: list[list[int]]
    found: dict[int, list[Found]]


def last_hundredth(score: float) -> int:
    """The largest number of hundredths that is not above `score` (0..1): 0.3 gives 30, though 0.3 * 100 is below 30."""
    near = int(score * 100) + 1
    return near if near / 100 <= score else near - 1


def count(groundtruth: dict, detections: list[dict]) -> Counts:
    """Match COCO results with a COCO ground truth at IoU 0.5 and count, as `eval/analysis.json` does."""
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

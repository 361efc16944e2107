"""Hits, false alarms and misses at every hundredth of a score, for the slider."""

from dataclasses import dataclass

HUNDREDTHS = range(1, 100)
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
    """By class in the order of the label map: `boxes` to find; `hits` and `false_alarms` at each of HUNDREDTHS.

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
    from scripts.evaluation.matching import match

    numbers = {row["id"]: number for number, row in enumerate(groundtruth["categories"])}
    matches = match(groundtruth, detections)
    tally = {state: [[0] * 100 for _ in numbers] for state in (WRONG, RIGHT, IGNORED)}
    found = {row["id"]: [] for row in groundtruth["images"]}
    for row in matches.rows:
        state = IGNORED if row.ignored else RIGHT if row.hit else WRONG
        one = Found(numbers[row.category_id], last_hundredth(row.score), tuple(row.bbox), state,
                    row.annotation_id)
        tally[state][one.class_number][min(one.hundredth, 99)] += 1
        found[row.image_id].append(one)
    for rows in found.values():
        rows.sort(key=lambda one: -one.hundredth)
    boxes = [matches.boxes[row["id"]] for row in groundtruth["categories"]]
    return Counts(boxes, *(list(map(_from_above, tally[state])) for state in (RIGHT, WRONG)), found)


def _from_above(row: list[int]) -> list[int]:
    """How many have at least each of HUNDREDTHS, from how many have exactly that."""
    return [sum(row[hundredth:]) for hundredth in HUNDREDTHS]

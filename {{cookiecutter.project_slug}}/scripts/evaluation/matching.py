"""Which detection found which labelled box: pycocotools' matching at one IoU, for all figures that count boxes.

Detections of a picture are taken best first; each takes the free box that it overlaps most. A crowd may be found any
number of times and counts neither way. As in COCO's AP, the best hundred detections of a picture count.
"""

from dataclasses import dataclass

from scripts.evaluation.scorer import prepared, quietly

IOU = 0.5
"""From which overlap a box counts as found, wherever boxes are counted."""
LIMIT = 100


@dataclass(frozen=True)
class Match:
    """One detection. `bbox` is x, y, width, height in pixels, `score` 0..1, `category_id` what it was taken for.

    `hit`: it found a box that is scored; `ignored`: it lies on a crowd, and is neither right nor wrong.
    `annotation_id` is the box it was matched with, a crowd too, or None. `place` is that in the list given, from 0.
    """

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    hit: bool
    ignored: bool
    annotation_id: int | None
    place: int


@dataclass(frozen=True)
class Matches:
    """`rows` by class and picture, then best first; `boxes` is category id -> scored boxes there are to find."""

    rows: tuple[Match, ...]
    boxes: dict[int, int]


def match(groundtruth: dict, detections: list[dict], iou: float = IOU, by_class: bool = True) -> Matches:
    """Match COCO results with a COCO ground truth at `iou` 0..1.

    `by_class` False matches whatever the classes are, as a confusion matrix needs it; the hundred detections are then
    those of a picture, else those of a class in a picture.
    """
    boxes = {category["id"]: 0 for category in groundtruth["categories"]}
    for row in groundtruth["annotations"]:
        boxes[row["category_id"]] += not row["iscrowd"]
    if not groundtruth["images"]:
        return Matches((), boxes)
    evaluation = quietly(prepared, groundtruth, detections)
    params = evaluation.params
    params.iouThrs, params.maxDets, params.useCats = [iou], [LIMIT], int(by_class)
    params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    quietly(evaluation.evaluate)
    rows = [row for found in evaluation.evalImgs if found is not None for row in _rows(found, detections)]
    return Matches(tuple(rows), boxes)


def _rows(found: dict, detections: list[dict]):
    """What pycocotools says of one picture; it numbers the detections from 1 in the order they were given."""
    for number, annotation_id, ignored in zip(found["dtIds"], found["dtMatches"][0], found["dtIgnore"][0], strict=True):
        row = detections[number - 1]
        yield Match(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"],
                    bool(annotation_id > 0 and not ignored), bool(ignored), int(annotation_id) or None,
                    int(number) - 1)

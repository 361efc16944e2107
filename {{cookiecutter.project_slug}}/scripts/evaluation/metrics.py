"""COCO's figures for detections, computed by pycocotools.

AP is the mean precision over all recalls, IoU 0.50 to 0.95 and classes; AP50 the same at IoU 0.50
alone; ARn the mean recall with the n best detections of an image; s, m, l are boxes under 32², 32²
to 96² and over 96² px of the stored image (https://cocodataset.org/#detection-eval). All are
fractions 0..1; None where there is nothing to find.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scripts.core.text import aligned, points

# The order of `COCOeval.stats`.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
DECIMALS = 6
# Places in `COCOeval.eval`: boxes of every size, the limit of 100 detections, IoU 0.50.
ALL_AREAS, AT_100, IOU_50 = 0, 2, 0


def score(groundtruth: dict, detections: list[dict]) -> dict:
    """Return the figures of SUMMARY, `per_class`, and the numbers of `images` and `boxes`.

    Args:
        groundtruth: a COCO dict. Every image counts, those without a detection too; `boxes` leaves
            out crowds.
        detections: COCO results.

    Returns:
        The content of `eval/metrics.json`; `per_class` is name to AP, AP50, AR100 and boxes.

    Raises:
        ValueError: there are detections in an image that the ground truth lacks.
    """
    known = {image["id"] for image in groundtruth["images"]}
    unknown = {row["image_id"] for row in detections} - known
    if unknown:
        raise ValueError(f"detections in {len(unknown)} images that the ground truth lacks, "
                         f"such as {min(unknown)}")
    scored = [row for row in groundtruth["annotations"] if not row["iscrowd"]]
    evaluation = evaluated(groundtruth, detections) if known else None
    figures = list(evaluation.stats) if evaluation else [-1] * len(SUMMARY)
    metrics = {name: as_fraction(value) for name, value in zip(SUMMARY, figures, strict=True)}
    metrics["per_class"] = {
        category["name"]: _class_figures(evaluation, category["id"])
        | {"boxes": sum(row["category_id"] == category["id"] for row in scored)}
        for category in groundtruth["categories"]}
    return {"images": len(known), "boxes": len(scored), **metrics}


def _class_figures(evaluation, category_id: int) -> dict:
    """AP, AP50 and AR100 of one class; None without images."""
    if evaluation is None:
        return dict.fromkeys(("AP", "AP50", "AR100"))
    index = evaluation.params.catIds.index(category_id)
    # `precision` is [IoU, recall, class, area, limit], `recall` lacks the second.
    precision = evaluation.eval["precision"][:, :, index, ALL_AREAS, AT_100]
    recall = evaluation.eval["recall"][:, index, ALL_AREAS, AT_100]
    return {"AP": mean_defined(precision), "AP50": mean_defined(precision[IOU_50]),
            "AR100": mean_defined(recall)}


def ap50(groundtruth: dict, detections: list[dict]) -> float | None:
    """Return AP50 alone, as `score` gives it, in a small part of the time."""
    if not groundtruth["images"]:
        return None
    evaluation = _prepared(groundtruth, detections)
    params = evaluation.params
    params.iouThrs = params.iouThrs[:1]
    params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    for stage in (evaluation.evaluate, evaluation.accumulate):
        _quietly(stage)
    return mean_defined(evaluation.eval["precision"][..., ALL_AREAS, AT_100])


def evaluated(groundtruth: dict, detections: list[dict]) -> COCOeval:
    """Return the evaluation by pycocotools, run and summarized, of ground truth that has images."""
    evaluation = _prepared(groundtruth, detections)
    for stage in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        _quietly(stage)
    return evaluation


def _prepared(groundtruth: dict, detections: list[dict]) -> COCOeval:
    """An evaluation that has not run yet; it numbers the detections from 1 in the given order."""
    results = [{**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
               for number, row in enumerate(detections, start=1)]
    sides = (_coco(rows, groundtruth) for rows in (groundtruth["annotations"], results))
    return _quietly(COCOeval, *sides, "bbox")


def _coco(annotations: list[dict], groundtruth: dict) -> COCO:
    """pycocotools' index, built by hand: its `loadRes` refuses an empty list."""
    coco = COCO()
    coco.dataset = {
        "images": groundtruth["images"],
        "categories": groundtruth["categories"],
        # Copies: the evaluation writes into them.
        "annotations": [dict(row) for row in annotations],
    }
    _quietly(coco.createIndex)
    return coco


def _quietly(call: Callable, *arguments):
    """Return what `call` returns; drop what pycocotools prints on the way."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


def mean_defined(values) -> float | None:
    """Return the mean of an array without pycocotools' -1 (undefined), rounded."""
    defined = values[values > -1]
    return as_fraction(defined.mean()) if defined.size else None


def as_fraction(value) -> float | None:
    """Return a figure of pycocotools rounded, None for -1 (undefined)."""
    return None if value < 0 else round(float(value), DECIMALS)


def table_text(metrics: dict, intervals: dict) -> str:
    """Return the table for the terminal: a row a class, then all classes, AP and AR in points.

    `metrics` are those of `score`, `intervals` those of `ap_intervals`.
    """
    rows = [("class", "AP", "95 %", "AP50", "AR100", "boxes")]
    parts = [(name, part, intervals["per_class"][name])
             for name, part in metrics["per_class"].items()]
    for name, part, interval in [*parts, ("all", metrics, intervals)]:
        span = "-".join(map(points, interval["AP"])) if interval["AP"] else "-"
        ap, ap50, ar100 = (points(part[key], "-") for key in ("AP", "AP50", "AR100"))
        rows.append((name, ap, span, ap50, ar100, f"{part['boxes']:,}"))
    return aligned(rows)


# Which detection found which labeled box, for all figures that count boxes.

# From which overlap a box counts as found, wherever boxes are counted.
IOU = 0.5
LIMIT = 100


@dataclass(frozen=True)
class Match:
    """One detection; `bbox` is x, y, width, height in pixels, `place` its index in the list given.

    `hit`: it found a box that is scored; `ignored`: it lies on a crowd, and is neither right nor
    wrong. `annotation_id` is the box it was matched with, a crowd too, or None.
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
    """`rows` by class and image, best first; `boxes` is category id to number of boxes to find."""

    rows: tuple[Match, ...]
    boxes: dict[int, int]


def match(groundtruth: dict, detections: list[dict], iou: float = IOU,
          by_class: bool = True) -> Matches:
    """Match COCO results with a COCO ground truth at an IoU, as pycocotools does.

    `by_class` False matches whatever the classes are, as a confusion matrix needs it. At most 100
    detections count: of an image then, else of a class in an image.
    """
    boxes = {category["id"]: 0 for category in groundtruth["categories"]}
    for row in groundtruth["annotations"]:
        boxes[row["category_id"]] += not row["iscrowd"]
    if not groundtruth["images"]:
        return Matches((), boxes)
    evaluation = _prepared(groundtruth, detections)
    params = evaluation.params
    params.iouThrs, params.maxDets, params.useCats = [iou], [LIMIT], int(by_class)
    params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    _quietly(evaluation.evaluate)
    rows = [row for found in evaluation.evalImgs if found is not None
            for row in _matches(found, detections)]
    return Matches(tuple(rows), boxes)


def _matches(found: dict, detections: list[dict]) -> Iterator[Match]:
    """The matches in one image; `found` is an entry of `COCOeval.evalImgs`."""
    for number, annotation_id, ignored in zip(found["dtIds"], found["dtMatches"][0],
                                              found["dtIgnore"][0], strict=True):
        row = detections[number - 1]
        yield Match(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"],
                    bool(annotation_id > 0 and not ignored), bool(ignored),
                    int(annotation_id) or None, int(number) - 1)

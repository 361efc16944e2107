"""COCO's figures for detections: how they are computed is pycocotools' business, what they mean is
said here.

AP is the mean precision over all recalls, IoU 0.50 to 0.95 and classes; AP50 the same at IoU 0.50
alone; ARn the mean recall with the n best detections of an image; s, m, l are boxes under 32², 32²
to 96² and over 96² px of the stored image. All are fractions 0..1; None where there is nothing to
find.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass

from scripts.core.text import aligned

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The order in which pycocotools gives its twelve figures."""

DECIMALS = 6
SIZES = ("small", "medium", "large")
"""pycocotools' areas after the one of all boxes."""
_ALL_AREAS, _AT_100, _IOU_50 = 0, 2, 0


def score(groundtruth: dict, detections: list[dict]) -> dict:
    """The twelve figures, `per_class` {name: AP, AP50, AR100, boxes}, and the numbers of `images`
    and `boxes`.

    `groundtruth` is a COCO dict, `detections` COCO results. Every image of the ground truth counts,
    those without a detection too; `boxes` leaves out crowds. ValueError for detections in an image
    that the ground truth lacks.
    """
    known = {image["id"] for image in groundtruth["images"]}
    third_party = {row["image_id"] for row in detections} - known
    if third_party:
        raise ValueError(f"detections in {len(third_party)} images that the ground truth lacks, such as {min(third_party)}")
    scored = [row for row in groundtruth["annotations"] if not row["iscrowd"]]
    evaluation = evaluated(groundtruth, detections) if known else None
    figures = list(evaluation.stats) if evaluation else [-1] * len(SUMMARY)
    metrics = {name: _fraction(value) for name, value in zip(SUMMARY, figures, strict=True)}
    metrics["per_class"] = {
        category["name"]: {
            **(_class_figures(evaluation, category["id"]) if evaluation else dict.fromkeys(("AP", "AP50", "AR100"))),
            "boxes": sum(row["category_id"] == category["id"] for row in scored),
        }
        for category in groundtruth["categories"]
    }
    return {"images": len(known), "boxes": len(scored), **metrics}


def ap50(groundtruth: dict, detections: list[dict]) -> float | None:
    """AP50 alone, as `score` gives it, in a small part of the time."""
    if not groundtruth["images"]:
        return None
    evaluation = quietly(prepared, groundtruth, detections)
    params = evaluation.params
    params.iouThrs, params.areaRng, params.areaRngLbl = params.iouThrs[:1], params.areaRng[:1], params.areaRngLbl[:1]
    for stage in (evaluation.evaluate, evaluation.accumulate):
        quietly(stage)
    return _mean(evaluation.eval["precision"][..., _ALL_AREAS, _AT_100])


def evaluated(groundtruth: dict, detections: list[dict]):
    """A pycocotools evaluation that has run."""
    evaluation = quietly(prepared, groundtruth, detections)
    for stage in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        quietly(stage)
    return evaluation


def prepared(groundtruth: dict, detections: list[dict]):
    """A pycocotools evaluation that has not run yet; it numbers the detections from 1 in the order
    they are given."""
    from pycocotools.cocoeval import COCOeval

    results = [_result(number, row) for number, row in enumerate(detections, start=1)]
    return COCOeval(_coco(groundtruth["annotations"], groundtruth), _coco(results, groundtruth), "bbox")


def quietly(call: Callable, *arguments):
    """What `call` returns; what pycocotools prints on the way is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


def _coco(annotations: list[dict], groundtruth: dict):
    """pycocotools' index, built by hand: its `loadRes` refuses an empty list."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": groundtruth["images"],
        "categories": groundtruth["categories"],
        # Copies: the evaluation writes into them.
        "annotations": [dict(row) for row in annotations],
    }
    coco.createIndex()
    return coco


def _result(number: int, row: dict) -> dict:
    return {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}


def _class_figures(evaluation, category_id: int) -> dict:
    """AP, AP50 and AR100 of one class. `precision` is [IoU, recall, class, area, limit], `recall`
    lacks the second."""
    index = evaluation.params.catIds.index(category_id)
    precision = evaluation.eval["precision"][:, :, index, _ALL_AREAS, _AT_100]
    recall = evaluation.eval["recall"][:, index, _ALL_AREAS, _AT_100]
    return {"AP": _mean(precision), "AP50": _mean(precision[_IOU_50]), "AR100": _mean(recall)}


def by_size(evaluation) -> dict:
    """Class name, and "all", -> size -> AP and the number of boxes that are scored, of an
    evaluation that has run.

    An area on a limit is in both sizes, as pycocotools counts it.
    """
    classes = {name: [index] for index, name in enumerate(_names(evaluation))}
    classes["all"] = list(range(len(classes)))
    return {name: {size: _size_figures(evaluation, indices, area) for area, size in enumerate(SIZES, start=1)}
            for name, indices in classes.items()}


def _size_figures(evaluation, indices: list[int], area: int) -> dict:
    least, most = evaluation.params.areaRng[area]
    ids = [evaluation.params.catIds[index] for index in indices]
    boxes = sum(row["category_id"] in ids and not row["iscrowd"] and least <= row["area"] <= most
                for row in evaluation.cocoGt.dataset["annotations"])
    return {"AP": _mean(evaluation.eval["precision"][:, :, indices, area, _AT_100]), "boxes": boxes}


def precision_over_recall(evaluation) -> dict:
    """Class name -> `recall` (101 values, 0 to 1) and `precision` at IoU 0.5; classes without a box
    are left out."""
    precision = evaluation.eval["precision"][_IOU_50, :, :, _ALL_AREAS, _AT_100]
    recall = [round(float(value), DECIMALS) for value in evaluation.params.recThrs]
    return {name: {"recall": recall, "precision": [_fraction(value) for value in precision[:, index]]}
            for index, name in enumerate(_names(evaluation)) if precision[0, index] > -1}


def _names(evaluation) -> list[str]:
    """Class names in the order in which the evaluation has its classes."""
    names = {category["id"]: category["name"] for category in evaluation.cocoGt.dataset["categories"]}
    return [names[category_id] for category_id in evaluation.params.catIds]


def _mean(values) -> float | None:
    defined = values[values > -1]
    return _fraction(defined.mean()) if defined.size else None


def _fraction(value) -> float | None:
    return None if value < 0 else round(float(value), DECIMALS)


def table_text(metrics: dict, intervals: dict) -> str:
    """A table for the terminal: AP, AP50, AR100 in points (x100) and boxes by class, then over all
    classes.

    `intervals` are those of AP, by `ap_intervals`.
    """
    rows = [("class", "AP", "95 %", "AP50", "AR100", "boxes")]
    parts = [(name, part, intervals["per_class"][name]) for name, part in metrics["per_class"].items()]
    for name, part, interval in [*parts, ("all", metrics, intervals)]:
        rows.append((name, _points(part["AP"]), _interval(interval["AP"]), _points(part["AP50"]),
                     _points(part["AR100"]), f"{part['boxes']:,}"))
    return aligned(rows)


def _points(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _interval(edges: tuple[float, float] | None) -> str:
    return "-" if edges is None else "-".join(map(_points, edges))


# Which detection found which labeled box: pycocotools' matching at one IoU, for all figures that
# count boxes.

IOU = 0.5
"""From which overlap a box counts as found, wherever boxes are counted."""
LIMIT = 100


@dataclass(frozen=True)
class Match:
    """One detection. `bbox` is x, y, width, height in pixels, `score` 0..1, `category_id` what it
    was taken for.

    `hit`: it found a box that is scored; `ignored`: it lies on a crowd, and is neither right nor
    wrong. `annotation_id` is the box it was matched with, a crowd too, or None. `place` is that in
    the list given, from 0.
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
    """`rows` by class and image, then best first; `boxes` is category id -> scored boxes there are
    to find."""

    rows: tuple[Match, ...]
    boxes: dict[int, int]


def match(groundtruth: dict, detections: list[dict], iou: float = IOU, by_class: bool = True) -> Matches:
    """Match COCO results with a COCO ground truth at `iou` 0..1.

    `by_class` False matches whatever the classes are, as a confusion matrix needs it; the hundred
    detections are then those of an image, else those of a class in an image.
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
    """What pycocotools says of one image; it numbers the detections from 1 in the order they were
    given."""
    for number, annotation_id, ignored in zip(found["dtIds"], found["dtMatches"][0], found["dtIgnore"][0], strict=True):
        row = detections[number - 1]
        yield Match(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"],
                    bool(annotation_id > 0 and not ignored), bool(ignored), int(annotation_id) or None,
                    int(number) - 1)


# The confusion matrix of a detector: which class the found boxes were taken for, with background on
# both sides.

BACKGROUND = "background"


def confusion(groundtruth: dict, detections: list[dict], score: float) -> dict:
    """`score`, `labels` (classes, then background) and `rows` of counts: rows are the truth,
    columns what was found.

    Detections from `score` 0..1 on are matched at IoU 0.5 whatever their class, the best first. The
    last row counts boxes found where nothing is, the last column boxes that were missed. Crowds
    count neither way.
    """
    places = {category["id"]: place for place, category in enumerate(groundtruth["categories"])}
    truth = {row["id"]: places[row["category_id"]] for row in groundtruth["annotations"] if not row["iscrowd"]}
    background = len(places)
    rows = [[0] * (background + 1) for _ in range(background + 1)]
    for row in match(groundtruth, [row for row in detections if row["score"] >= score], by_class=False).rows:
        if not row.ignored:
            rows[truth.pop(row.annotation_id) if row.hit else background][places[row.category_id]] += 1
    for place in truth.values():  # those that nothing was matched with
        rows[place][background] += 1
    labels = [category["name"] for category in groundtruth["categories"]]
    return {"score": score, "labels": [*labels, BACKGROUND], "rows": rows}

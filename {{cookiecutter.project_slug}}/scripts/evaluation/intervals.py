"""AP of a detector as if other images had been taken: matched once by pycocotools, accumulated anew
for every draw.

A draw says how often each image was taken. Equal copies of an image add weight to its detections
and no new point to the curve that counts: between copies of a hit the precision only rises, after a
false alarm it only falls, and COCO's precision at a recall is the best one at that recall or
beyond. So one sorted list serves every draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.evaluation.metrics import evaluated

CELLS = 2_000_000
"""Detections times draws held at once: about 50 MB."""
_ALL_AREAS, _IOU_50 = 0, 0


@dataclass(frozen=True)
class ClassMatches:
    """What was found and what there is of one class, best detection first.

    `image`: int [n], position in the list of images; `hit` and `counted`: bool [IoUs, n], a
    detection on a crowd is not counted; `boxes`: int [images], those to find.
    """

    image: Any
    hit: Any
    counted: Any
    boxes: Any


@dataclass(frozen=True)
class Redraw:
    """A detector matched on a ground truth.

    `image_ids`: the images in the order of the positions; `names`: the classes by their ids;
    `recalls`: those at which COCO reads the precision; `classes`: their matches.
    """

    image_ids: list[int]
    names: list[str]
    recalls: Any
    classes: list[ClassMatches]

    def ap(self, taken: Any) -> tuple[Any, Any]:
        """AP and AP50 of each class in each draw: two arrays float64 [draws, classes], 0..1, NaN
        where undefined.

        `taken`: int [draws, images], how often each image was taken.
        """
        taken = np.asarray(taken, np.int32)
        ap = np.full((2, len(taken), len(self.classes)), np.nan)
        for index, one in enumerate(self.classes):
            step = max(1, CELLS // max(1, len(one.image)))
            for start in range(0, len(taken), step):
                by_iou = _accumulated(one, taken[start:start + step], self.recalls)
                ap[:, start:start + step, index] = by_iou.mean(0), by_iou[_IOU_50]
        return ap[0], ap[1]


def matched(groundtruth: dict, detections: list[dict]) -> Redraw:
    """COCO results on a COCO ground truth that has images, matched by pycocotools."""
    evaluation = evaluated(groundtruth, detections)
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    numbers = evaluation.params.catIds
    return Redraw([int(number) for number in evaluation.params.imgIds], [names[number] for number in numbers],
                  evaluation.params.recThrs, [_class_matches(evaluation, index) for index in range(len(numbers))])


def _class_matches(evaluation, index: int) -> ClassMatches:
    images, limit = len(evaluation.params.imgIds), evaluation.params.maxDets[-1]
    start = (index * len(evaluation.params.areaRng) + _ALL_AREAS) * images  # by class, then area, then image
    there = [(place, match) for place, match in enumerate(evaluation.evalImgs[start:start + images]) if match]
    boxes = np.zeros(images, np.int64)
    for place, match in there:
        boxes[place] = np.count_nonzero(match["gtIgnore"] == 0)
    none = np.zeros((len(evaluation.params.iouThrs), 0), bool)
    scores = np.concatenate([[], *(match["dtScores"][:limit] for _, match in there)])
    order = np.argsort(-scores, kind="mergesort")  # ties stand in the order of images, as pycocotools has them
    hit = np.concatenate([none, *(match["dtMatches"][:, :limit] > 0 for _, match in there)], 1)[:, order]
    counted = np.concatenate([none, *(match["dtIgnore"][:, :limit] == 0 for _, match in there)], 1)[:, order]
    image = np.repeat([place for place, _ in there], [len(match["dtScores"][:limit]) for _, match in there])
    return ClassMatches(image.astype(int)[order], hit & counted, counted, boxes)


def overall(by_class: Any) -> Any:
    """The mean over the classes that are defined: [draws, classes] to [draws], NaN where none is.
    """
    defined = ~np.isnan(by_class)
    total = np.where(defined, by_class, 0.0).sum(1)
    return np.divide(total, defined.sum(1), out=np.full(len(by_class), np.nan), where=defined.any(1))


def _accumulated(one: ClassMatches, taken: Any, recalls: Any) -> Any:
    """The mean precision over `recalls`, [IoUs, draws], of one class; NaN where a draw has nothing
    to find."""
    boxes = taken @ one.boxes
    weights = taken.T[one.image]  # [detections, draws]
    ap = np.zeros((len(one.hit), len(taken)))
    shown = None
    for iou, (hit, counted) in enumerate(zip(one.hit, one.counted, strict=True)):
        if shown is None or (counted != one.counted[iou - 1]).any():
            shown = np.cumsum(weights * counted[:, np.newaxis], 0, np.int32)
        where = np.flatnonzero(hit)  # between hits the recall stands still and the precision falls
        if where.size:
            right = np.cumsum(weights[where], 0, np.int32)
            precision = right / (shown[where] + np.spacing(1))
            best = np.maximum.accumulate(precision[::-1], 0)[::-1]
            steps = np.diff(_recalls_reached(right, boxes, recalls), axis=0, prepend=0)
            ap[iou] = np.einsum("nd,nd->d", steps, best) / len(recalls)
    ap[:, boxes == 0] = np.nan
    return ap


def _recalls_reached(right: Any, boxes: Any, recalls: Any) -> Any:
    """How many of `recalls` the hits reach: int like `right` [hits, draws]; `boxes` [draws] are to
    be found.

    Looked up by whole numbers: a search for every cell takes several times as long.
    """
    there, which = np.unique(boxes, return_inverse=True)
    shares = np.arange(right[-1].max() + 1) / np.maximum(there, 1)[:, np.newaxis]
    return np.searchsorted(recalls, shares, side="right")[which, right]


# How far figures would move with other test images: bootstrap intervals over the images, and paired
# ones.

DRAWS = 1000
LEVEL = 0.95
LEAST_IMAGES = 5
"""With fewer that hold a class only three of four intervals hold the truth: then there is none."""
UNKNOWN = (-1.0, 1.0)
"""No difference of two APs lies outside."""

Interval = tuple[float, float]


def ap_intervals(groundtruth: dict, detections: list[dict], seed: int = 7) -> dict:
    """95 % intervals `{"AP": (low, high), "AP50": ..., "per_class": {NAME: {"AP": ...}}}`,
    fractions 0..1.

    `groundtruth` is a COCO dict, `detections` COCO results on it. None in place of an interval
    where fewer than `LEAST_IMAGES` hold anything to find.
    """
    return _intervals(groundtruth, [detections], seed)


def difference_intervals(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> dict:
    """As `ap_intervals`, for the figure of `first` less that of `second` on the same draws:
    fractions -1..1."""
    return _intervals(groundtruth, [first, second], seed)


def ap_drop_interval(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> Interval:
    """The 95 % interval of AP(first) - AP(second), fractions; (-1, 1) where the images cannot tell.
    """
    return difference_intervals(groundtruth, first, second, seed)["AP"] or UNKNOWN


def _intervals(groundtruth: dict, results: list[list[dict]], seed: int) -> dict:
    if groundtruth["images"]:
        return redraw_intervals([matched(groundtruth, rows) for rows in results], seed)
    per_class = {category["name"]: {"AP": None} for category in groundtruth["categories"]}
    return {"AP": None, "AP50": None, "per_class": per_class}


def redraw_intervals(redraws: list[Redraw], seed: int) -> dict:
    """The intervals of one detector, or of the first less the second, from their matches on the
    same images."""
    taken = draws(len(redraws[0].image_ids), seed)
    figures = []  # for each detector AP and AP50 of the classes, then of all
    for redraw in redraws:
        ap, ap50 = redraw.ap(taken)
        figures.append(np.column_stack([ap, overall(ap), overall(ap50)]))
    values = figures[0] - figures[1] if len(figures) > 1 else figures[0]
    holding = [one.boxes > 0 for one in redraws[0].classes]
    anything = np.any(holding, 0)
    found = [interval(column, int(np.sum(images)))
             for column, images in zip(values.T, [*holding, anything, anything], strict=True)]
    *classes, ap, ap50 = found
    per_class = {name: {"AP": one} for name, one in zip(redraws[0].names, classes, strict=True)}
    return {"AP": ap, "AP50": ap50, "per_class": per_class}


def draws(images: int, seed: int) -> Any:
    """How often each image is taken in each of `DRAWS` draws with replacement: int [draws, images].
    """
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), DRAWS)


def interval(values: Any, images: int) -> Interval | None:
    """The 95 % interval from the figure in each draw, of which NaN are left out; None from too few
    images."""
    from scipy.special import ndtr, stdtrit

    defined = values[~np.isnan(values)]
    if images < LEAST_IMAGES or not defined.size:
        return None
    wide = stdtrit(images - 1, (1 + LEVEL) / 2) * np.sqrt(images / (images - 1))
    low, high = np.percentile(defined, [100 * ndtr(-wide), 100 * ndtr(wide)])
    return float(low), float(high)

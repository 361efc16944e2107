"""How far AP would move with other test images: bootstrap intervals, for one detector or a pair.

The images are drawn anew with replacement (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap"). pycocotools matches once; for each draw only its accumulation is done anew.

A draw says how often each image is taken. Equal copies of an image add weight to its detections and
no new point to the curve that counts: between copies of a hit the precision only rises, after a
false alarm it only falls, and COCO's precision at a recall is the best one at that recall or
beyond. So one sorted list serves every draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.core.text import points
from scripts.evaluation.metrics import ALL_AREAS, IOU_50, evaluated

DRAWS = 1000
LEVEL = 0.95
# With fewer that hold a class only three of four intervals hold the truth: then there is none.
LEAST_IMAGES = 5
# No difference of two APs lies outside.
UNKNOWN = (-1.0, 1.0)
# Detections times draws held at once: about 50 MB.
CELLS = 2_000_000
# With fewer, what is right or wrong in all of them looks certain, whatever the interval says.
FEWEST_IMAGES = 20
# What one wants to tell of a single model: five points of AP.
TOLD_AP = 0.05

Interval = tuple[float, float]


def ap_intervals(groundtruth: dict, detections: list[dict], seed: int = 7) -> dict:
    """Return 95 % intervals of AP, AP50 and, in `per_class`, AP by class name, in fractions 0..1.

    `groundtruth` is a COCO dict, `detections` COCO results on it. None in place of an interval
    where fewer than `LEAST_IMAGES` hold anything to find.
    """
    return _intervals(groundtruth, [detections], seed)


def difference_intervals(groundtruth: dict, first: list[dict], second: list[dict],
                         seed: int = 7) -> dict:
    """Return intervals of the figure of `first` less that of `second`, as `ap_intervals` does.

    Both are taken on the same draws, so that what makes images hard for both falls out.
    """
    return _intervals(groundtruth, [first, second], seed)


def ap_drop_interval(groundtruth: dict, first: list[dict], second: list[dict],
                     seed: int = 7) -> Interval:
    """Return the interval of AP(first) - AP(second); (-1, 1) where the images cannot tell."""
    return difference_intervals(groundtruth, first, second, seed)["AP"] or UNKNOWN


def _intervals(groundtruth: dict, results: list[list[dict]], seed: int) -> dict:
    if groundtruth["images"]:
        return redraw_intervals([matched(groundtruth, rows) for rows in results], seed)
    per_class = {category["name"]: {"AP": None} for category in groundtruth["categories"]}
    return {"AP": None, "AP50": None, "per_class": per_class}


def cannot_tell(images: int, interval: Interval | None, told_ap: float = TOLD_AP) -> str:
    """Say in a sentence that the test images are too few to tell `told_ap` of AP, or return "".

    `interval` is the 95 % interval of AP, or of a loss of it; None when no AP is defined.
    """
    low, high = interval or (0.0, 1.0)
    if images >= FEWEST_IMAGES and (high - low) / 2 <= told_ap:
        return ""
    return f"{images:,} test images cannot tell {points(told_ap)} points of AP from chance"


# The matches of a detector, and AP when images are taken several times or not at all.


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
        """Return AP and AP50: two arrays float64 [draws, classes], 0..1, NaN where undefined.

        `taken`: int [draws, images], how often each image is taken.
        """
        taken = np.asarray(taken, np.int32)
        ap = np.full((2, len(taken), len(self.classes)), np.nan)
        for index, matches in enumerate(self.classes):
            step = max(1, CELLS // max(1, len(matches.image)))
            for start in range(0, len(taken), step):
                by_iou = _accumulated(matches, taken[start:start + step], self.recalls)
                ap[:, start:start + step, index] = by_iou.mean(0), by_iou[IOU_50]
        return ap[0], ap[1]


def matched(groundtruth: dict, detections: list[dict]) -> Redraw:
    """Match COCO results on a COCO ground truth that has images, by pycocotools."""
    evaluation = evaluated(groundtruth, detections)
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    numbers = evaluation.params.catIds
    return Redraw([int(number) for number in evaluation.params.imgIds],
                  [names[number] for number in numbers], evaluation.params.recThrs,
                  [_class_matches(evaluation, index) for index in range(len(numbers))])


def _class_matches(evaluation, index: int) -> ClassMatches:
    images, limit = len(evaluation.params.imgIds), evaluation.params.maxDets[-1]
    # `evalImgs` is sorted by class, then area, then image.
    start = (index * len(evaluation.params.areaRng) + ALL_AREAS) * images
    there = [(place, match) for place, match in enumerate(evaluation.evalImgs[start:start + images])
             if match]
    boxes = np.zeros(images, np.int64)
    for place, match in there:
        boxes[place] = np.count_nonzero(match["gtIgnore"] == 0)
    none = np.zeros((len(evaluation.params.iouThrs), 0), bool)
    scores = np.concatenate([[], *(match["dtScores"][:limit] for _, match in there)])
    # Stable, so that ties stand in the order of images, as pycocotools has them.
    order = np.argsort(-scores, kind="mergesort")
    hit, counted = (
        np.concatenate([none, *parts], 1)[:, order] for parts in (
            [match["dtMatches"][:, :limit] > 0 for _, match in there],
            [match["dtIgnore"][:, :limit] == 0 for _, match in there]))
    image = np.repeat([place for place, _ in there],
                      [len(match["dtScores"][:limit]) for _, match in there])
    return ClassMatches(image.astype(int)[order], hit & counted, counted, boxes)


def overall(by_class: Any) -> Any:
    """Return the mean over the defined classes: [draws, classes] to [draws], NaN where none is."""
    defined = ~np.isnan(by_class)
    total = np.where(defined, by_class, 0.0).sum(1)
    return np.divide(total, defined.sum(1), out=np.full(len(by_class), np.nan),
                     where=defined.any(1))


def _accumulated(matches: ClassMatches, taken: Any, recalls: Any) -> Any:
    """The mean precision over `recalls`, [IoUs, draws]; NaN where a draw has nothing to find."""
    boxes = taken @ matches.boxes
    weights = taken.T[matches.image]  # [detections, draws]
    ap = np.zeros((len(matches.hit), len(taken)))
    shown = None
    for iou, (hit, counted) in enumerate(zip(matches.hit, matches.counted, strict=True)):
        if shown is None or (counted != matches.counted[iou - 1]).any():
            shown = np.cumsum(weights * counted[:, np.newaxis], 0, np.int32)
        # Between hits the recall stands still and the precision falls: only hits are looked at.
        where = np.flatnonzero(hit)
        if where.size:
            right = np.cumsum(weights[where], 0, np.int32)
            precision = right / (shown[where] + np.spacing(1))
            best = np.maximum.accumulate(precision[::-1], 0)[::-1]
            steps = np.diff(_recalls_reached(right, boxes, recalls), axis=0, prepend=0)
            ap[iou] = np.einsum("nd,nd->d", steps, best) / len(recalls)
    ap[:, boxes == 0] = np.nan
    return ap


def _recalls_reached(right: Any, boxes: Any, recalls: Any) -> Any:
    """How many of `recalls` the hits reach: int like `right` [hits, draws]; `boxes` is [draws].

    Looked up by whole numbers: a search for every cell takes several times as long.
    """
    there, which = np.unique(boxes, return_inverse=True)
    shares = np.arange(right[-1].max() + 1) / np.maximum(there, 1)[:, np.newaxis]
    return np.searchsorted(recalls, shares, side="right")[which, right]


# From the figure in each draw to an interval.


def redraw_intervals(redraws: list[Redraw], seed: int) -> dict:
    """Return the intervals of one detector, or of the first less the second on the same images."""
    taken = draws(len(redraws[0].image_ids), seed)
    # Of each detector an array [draws, AP of the classes, AP, AP50].
    figures = []
    for redraw in redraws:
        ap, ap50 = redraw.ap(taken)
        figures.append(np.column_stack([ap, overall(ap), overall(ap50)]))
    values = figures[0] - figures[1] if len(figures) > 1 else figures[0]
    # An interval needs images that hold something to find: of the class, or of any class.
    holding = [matches.boxes > 0 for matches in redraws[0].classes]
    anything = np.any(holding, 0)
    found = [interval(column, int(np.sum(images)))
             for column, images in zip(values.T, [*holding, anything, anything], strict=True)]
    *classes, ap, ap50 = found
    per_class = {name: {"AP": edges} for name, edges in zip(redraws[0].names, classes, strict=True)}
    return {"AP": ap, "AP50": ap50, "per_class": per_class}


def draws(images: int, seed: int) -> Any:
    """Return how often each image is taken: int [draws, images], drawn with replacement."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), DRAWS)


def interval(values: Any, images: int) -> Interval | None:
    """Return the 95 % interval of a figure from its value in each draw; None from too few images.

    Percentiles of few images are too narrow: these are widened as Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap" (expanded percentile interval) does it. NaN is left out.
    """
    from scipy.special import ndtr, stdtrit

    defined = values[~np.isnan(values)]
    if images < LEAST_IMAGES or not defined.size:
        return None
    wide = stdtrit(images - 1, (1 + LEVEL) / 2) * np.sqrt(images / (images - 1))
    low, high = np.percentile(defined, [100 * ndtr(-wide), 100 * ndtr(wide)])
    return float(low), float(high)

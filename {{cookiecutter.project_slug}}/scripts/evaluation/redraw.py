"""AP of a detector as if other pictures had been taken: matched once by pycocotools, accumulated anew for every draw.

A draw says how often each picture was taken. Equal copies of a picture add weight to its detections and no new point
to the curve that counts: between copies of a hit the precision only rises, after a false alarm it only falls, and
COCO's precision at a recall is the best one at that recall or beyond. So one sorted list serves every draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.evaluation.scorer import evaluated

CELLS = 2_000_000
"""Detections times draws held at once: about 50 MB."""
_ALL_AREAS, _IOU_50 = 0, 0


@dataclass(frozen=True)
class ClassMatches:
    """What was found and what there is of one class, best detection first.

    `picture`: int [n], position in the list of pictures; `hit` and `counted`: bool [IoUs, n], a detection on a crowd
    is not counted; `boxes`: int [pictures], those to find.
    """

    picture: Any
    hit: Any
    counted: Any
    boxes: Any


class Redraw:
    """Detections on a ground truth, matched; `names` are the classes in the order of its categories, by their ids.

    `groundtruth` is a COCO dict, `detections` COCO results on it. Positions of pictures are those of `image_ids`.
    """

    def __init__(self, groundtruth: dict, detections: list[dict]):
        evaluation = evaluated(groundtruth, detections)
        names = {category["id"]: category["name"] for category in groundtruth["categories"]}
        self.image_ids = [int(number) for number in evaluation.params.imgIds]
        self.names = [names[number] for number in evaluation.params.catIds]
        self.recalls = evaluation.params.recThrs
        self.classes = [self._class(evaluation, index) for index in range(len(self.names))]

    def _class(self, evaluation, index: int) -> ClassMatches:
        pictures, limit = len(self.image_ids), evaluation.params.maxDets[-1]
        start = (index * len(evaluation.params.areaRng) + _ALL_AREAS) * pictures  # by class, then area, then picture
        found = list(enumerate(evaluation.evalImgs[start:start + pictures]))
        there = [(place, match) for place, match in found if match is not None]
        boxes = np.zeros(pictures, np.int64)
        for place, match in there:
            boxes[place] = np.count_nonzero(match["gtIgnore"] == 0)
        ious = len(evaluation.params.iouThrs)
        hits = [match["dtMatches"][:, :limit] > 0 for _, match in there]
        ignored = [match["dtIgnore"][:, :limit].astype(bool) for _, match in there]
        scores = np.concatenate([[], *(match["dtScores"][:limit] for _, match in there)])
        order = np.argsort(-scores, kind="mergesort")  # ties stand in the order of pictures, as pycocotools has them
        none = np.zeros((ious, 0), bool)
        counted = ~np.concatenate([none, *ignored], 1)[:, order]
        places = [np.full(hit.shape[1], place) for hit, (place, _) in zip(hits, there, strict=True)]
        picture = np.concatenate([np.zeros(0, int), *places])[order]
        return ClassMatches(picture, np.concatenate([none, *hits], 1)[:, order] & counted, counted, boxes)

    def ap(self, taken) -> tuple[Any, Any]:
        """AP and AP50 of each class in each draw: two arrays float64 [draws, classes], 0..1, NaN where undefined.

        `taken`: int [draws, pictures], how often each picture was taken.
        """
        taken = np.asarray(taken)
        ap = np.full((2, len(taken), len(self.classes)), np.nan)
        for index, one in enumerate(self.classes):
            step = max(1, CELLS // max(1, len(one.picture)))
            for start in range(0, len(taken), step):
                by_iou = _accumulated(one, taken[start:start + step], self.recalls)
                ap[:, start:start + step, index] = by_iou.mean(0), by_iou[_IOU_50]
        return ap[0], ap[1]


def overall(by_class) -> Any:
    """The mean over the classes that are defined: [draws, classes] to [draws], NaN where none is."""
    defined = ~np.isnan(by_class)
    total = np.where(defined, by_class, 0.0).sum(1)
    return np.divide(total, defined.sum(1), out=np.full(len(by_class), np.nan), where=defined.any(1))


def _accumulated(one: ClassMatches, taken, recalls) -> Any:
    """The mean precision over `recalls`, [IoUs, draws], of one class; NaN where a draw has nothing to find."""
    boxes = taken @ one.boxes
    weights = np.ascontiguousarray(taken.T)[one.picture]  # [detections, draws]
    ap = np.zeros((len(one.hit), len(taken)))
    shown = None
    for iou, (hit, counted) in enumerate(zip(one.hit, one.counted, strict=True)):
        if shown is None or (counted != one.counted[iou - 1]).any():
            shown = np.cumsum(weights * counted[:, np.newaxis], 0)
        where = np.flatnonzero(hit)  # between hits the recall stands still and the precision falls
        if not where.size:
            continue
        right = np.cumsum(weights[where], 0)
        precision = right / (shown[where] + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1], 0)[::-1]
        reached = np.searchsorted(recalls, right / np.maximum(boxes, 1), side="right")
        ap[iou] = (np.diff(reached, axis=0, prepend=0) * best).sum(0) / len(recalls)
    ap[:, boxes == 0] = np.nan
    return ap

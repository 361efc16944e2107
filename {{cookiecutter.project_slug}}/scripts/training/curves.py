"""Figures of single classes out of an evaluation by pycocotools that has run: nothing is matched a second time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

THRESHOLDS = np.arange(101) / 100
_ALL_AREAS, _IOU_50, _MOST_DETECTIONS = 0, 0, -1


@dataclass(frozen=True)
class PrCounts:
    """Detections of a class at IoU 0.5 that are right, those that are not, and boxes not found, by score threshold.

    Each is int64 [101], for detections with a score of at least `THRESHOLDS`; crowds count neither way.
    """

    right: Any
    wrong: Any
    missed: Any

    @property
    def precision(self):
        """Right among shown, float64 [101]; 0 where nothing is shown."""
        return self.right / np.maximum(self.right + self.wrong, 1)

    @property
    def recall(self):
        """Found among labelled boxes, float64 [101]."""
        return self.right / (self.right + self.missed)


def average_precisions(evaluation) -> dict[int, float]:
    """Category id -> AP 0..1 of a `COCOeval` that has accumulated; classes without a box to find are left out."""
    # `precision` is [IoU, recall, class, area, limit of detections].
    found = evaluation.eval["precision"][:, :, :, _ALL_AREAS, _MOST_DETECTIONS]
    by_class = ((number, found[:, :, index]) for index, number in enumerate(evaluation.params.catIds))
    return {int(number): float(part[part > -1].mean()) for number, part in by_class if (part > -1).any()}


def pr_counts(evaluation) -> dict[int, PrCounts]:
    """Category id -> counts of a `COCOeval` that has evaluated; classes without a box to find are left out."""
    pictures, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    counts = {}
    for index, number in enumerate(evaluation.params.catIds):
        first = (index * areas + _ALL_AREAS) * pictures  # evalImgs is sorted by class, then area, then picture.
        matches = [match for match in evaluation.evalImgs[first:first + pictures] if match is not None]
        boxes = sum(int((np.asarray(match["gtIgnore"]) == 0).sum()) for match in matches)
        if boxes:
            counts[int(number)] = _counts(matches, boxes)
    return counts


def _counts(matches: list[dict], boxes: int) -> PrCounts:
    scores = np.concatenate([np.asarray(match["dtScores"], np.float64) for match in matches])
    right = np.concatenate([match["dtMatches"][_IOU_50] > 0 for match in matches])
    # A score of 0 is no detection: Model Garden fills up with them.
    counted = ~np.concatenate([match["dtIgnore"][_IOU_50] for match in matches]).astype(bool) & (scores > 0)
    hits, others = (np.sort(scores[counted & which]) for which in (right, ~right))
    right_from, wrong_from = (part.size - np.searchsorted(part, THRESHOLDS) for part in (hits, others))
    return PrCounts(right_from, wrong_from, boxes - right_from)

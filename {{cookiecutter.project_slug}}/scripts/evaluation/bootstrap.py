"""Whether a difference in AP is more than chance: a paired bootstrap over the pictures.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap", percentile interval. Matches are made once for each
picture; every draw only accumulates them anew.
"""

import contextlib
import copy
import io

import numpy as np

from scripts.evaluation.scorer import evaluated

DRAWS = 400


def ap_drop_interval(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> tuple[float, float]:
    """The 95 % interval of AP(first) - AP(second), fractions, over draws of the pictures with replacement.

    `groundtruth` is a COCO dict, the others COCO results on it. Draws in which AP is undefined are left out.
    """
    redraws = [_Redraw(evaluated(groundtruth, rows)) for rows in (first, second)]
    dice = np.random.default_rng(seed)
    pictures = len(groundtruth["images"])
    drops = []
    for _ in range(DRAWS):
        drawn = dice.integers(0, pictures, pictures)
        one, other = (redraw.ap(drawn) for redraw in redraws)
        if one is not None and other is not None:
            drops.append(one - other)
    low, high = np.percentile(drops, [2.5, 97.5]) if drops else (0.0, 0.0)
    return float(low), float(high)


class _Redraw:
    """AP of an evaluation as if other pictures had been taken."""

    def __init__(self, evaluation):
        self.evaluation = evaluation
        self.pictures, self.areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
        self.matches = list(evaluation.evalImgs)  # by class, then area, then picture
        self.overall = copy.copy(evaluation.params)
        self.overall.areaRng, self.overall.maxDets = evaluation.params.areaRng[:1], evaluation.params.maxDets[-1:]

    def ap(self, drawn) -> float | None:
        """AP (0..1) over the pictures at these positions, None where nothing is to be found in them."""
        block = self.areas * self.pictures
        for start in range(0, len(self.matches), block):
            for place, chosen in enumerate(drawn):
                self.evaluation.evalImgs[start + place] = self.matches[start + chosen]
        with contextlib.redirect_stdout(io.StringIO()):
            self.evaluation.accumulate(self.overall)
        precision = self.evaluation.eval["precision"]
        defined = precision[precision > -1]
        return float(defined.mean()) if defined.size else None

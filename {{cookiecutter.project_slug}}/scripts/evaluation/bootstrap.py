"""How far figures would move with other test pictures: bootstrap intervals over the pictures, and paired ones.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap", percentile interval.
"""

from typing import Any

import numpy as np

from scripts.evaluation.redraw import Redraw, overall

DRAWS = 1000
LEVEL = 0.95

Interval = tuple[float, float]


def ap_intervals(groundtruth: dict, detections: list[dict], seed: int = 7) -> dict:
    """95 % intervals `{"AP": (low, high), "AP50": ..., "per_class": {NAME: {"AP": ...}}}`, fractions 0..1.

    `groundtruth` is a COCO dict, `detections` COCO results on it. None in place of an interval where the figure is
    undefined. Draws in which it is undefined are left out.
    """
    if not groundtruth["images"]:
        names = [category["name"] for category in groundtruth["categories"]]
        return {"AP": None, "AP50": None, "per_class": {name: {"AP": None} for name in names}}
    redraw = Redraw(groundtruth, detections)
    ap, ap50 = redraw.ap(draws(len(redraw.image_ids), seed))
    per_class = {name: {"AP": interval(ap[:, index])} for index, name in enumerate(redraw.names)}
    return {"AP": interval(overall(ap)), "AP50": interval(overall(ap50)), "per_class": per_class}


def ap_drop_interval(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> Interval:
    """The 95 % interval of AP(first) - AP(second), fractions, over draws of the pictures with replacement.

    `groundtruth` is a COCO dict, the others COCO results on it. Draws in which AP is undefined are left out.
    """
    taken = draws(len(groundtruth["images"]), seed)
    one, other = (overall(Redraw(groundtruth, rows).ap(taken)[0]) for rows in (first, second))
    return interval(one - other) or (0.0, 0.0)


def draws(pictures: int, seed: int) -> Any:
    """How often each picture is taken in each of `DRAWS` draws with replacement: int [draws, pictures]."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), DRAWS)


def interval(values) -> Interval | None:
    """The middle 95 % of the draws in which the figure is defined; None where there is none."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)

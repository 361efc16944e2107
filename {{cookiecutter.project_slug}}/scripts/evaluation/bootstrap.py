"""How far figures would move with other test pictures: bootstrap intervals over the pictures, and paired ones.

The expanded percentile interval of Hesterberg 2015, "What Teachers Should Know About the Bootstrap": draws of n
pictures spread less than fresh sets of n pictures do, by what n / (n - 1) and Student's t say. n is here the number of
pictures that hold something to find, of a class those that hold the class.
"""

from typing import Any

import numpy as np

from scripts.evaluation.redraw import Redraw, matched, overall

DRAWS = 1000
LEVEL = 0.95
LEAST_PICTURES = 5
"""With fewer that hold a class only three of four intervals hold the truth: then there is none."""
UNKNOWN = (-1.0, 1.0)
"""No difference of two APs lies outside."""

Interval = tuple[float, float]


def ap_intervals(groundtruth: dict, detections: list[dict], seed: int = 7) -> dict:
    """95 % intervals `{"AP": (low, high), "AP50": ..., "per_class": {NAME: {"AP": ...}}}`, fractions 0..1.

    `groundtruth` is a COCO dict, `detections` COCO results on it. None in place of an interval where fewer than
    `LEAST_PICTURES` hold anything to find.
    """
    return _intervals(groundtruth, [detections], seed)


def difference_intervals(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> dict:
    """As `ap_intervals`, for the figure of `first` less that of `second` on the same draws: fractions -1..1."""
    return _intervals(groundtruth, [first, second], seed)


def ap_drop_interval(groundtruth: dict, first: list[dict], second: list[dict], seed: int = 7) -> Interval:
    """The 95 % interval of AP(first) - AP(second), fractions; (-1, 1) where the pictures cannot tell."""
    return difference_intervals(groundtruth, first, second, seed)["AP"] or UNKNOWN


def _intervals(groundtruth: dict, results: list[list[dict]], seed: int) -> dict:
    if groundtruth["images"]:
        return redraw_intervals([matched(groundtruth, rows) for rows in results], seed)
    per_class = {category["name"]: {"AP": None} for category in groundtruth["categories"]}
    return {"AP": None, "AP50": None, "per_class": per_class}


def redraw_intervals(redraws: list[Redraw], seed: int) -> dict:
    """The intervals of one detector, or of the first less the second, from their matches on the same pictures."""
    taken = draws(len(redraws[0].image_ids), seed)
    figures = []  # for each detector AP and AP50 of the classes, then of all
    for redraw in redraws:
        ap, ap50 = redraw.ap(taken)
        figures.append(np.column_stack([ap, overall(ap), overall(ap50)]))
    values = figures[0] - figures[1] if len(figures) > 1 else figures[0]
    holding = [one.boxes > 0 for one in redraws[0].classes]
    anything = np.any(holding, 0)
    found = [interval(column, int(np.sum(pictures)))
             for column, pictures in zip(values.T, [*holding, anything, anything], strict=True)]
    *classes, ap, ap50 = found
    per_class = {name: {"AP": one} for name, one in zip(redraws[0].names, classes, strict=True)}
    return {"AP": ap, "AP50": ap50, "per_class": per_class}


def draws(pictures: int, seed: int) -> Any:
    """How often each picture is taken in each of `DRAWS` draws with replacement: int [draws, pictures]."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), DRAWS)


def interval(values: Any, pictures: int) -> Interval | None:
    """The 95 % interval from the figure in each draw, of which NaN are left out; None from too few pictures."""
    from scipy.special import ndtr, stdtrit

    defined = values[~np.isnan(values)]
    if pictures < LEAST_PICTURES or not defined.size:
        return None
    wide = stdtrit(pictures - 1, (1 + LEVEL) / 2) * np.sqrt(pictures / (pictures - 1))
    low, high = np.percentile(defined, [100 * ndtr(-wide), 100 * ndtr(wide)])
    return float(low), float(high)

"""The box around a shape that is not an upright rectangle."""

import math
from collections.abc import Sequence

Corners = tuple[float, float, float, float]
NO_BOX: Corners = (math.nan, math.nan, math.nan, math.nan)


def as_number(value: object) -> float:
    """A finite number of a JSON file, also one that is written as text; `nan` for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def box_around(xs: Sequence[float], ys: Sequence[float]) -> Corners:
    """`(xmin, ymin, xmax, ymax)` of points; all `nan` when one of them is no number or there are none."""
    if not xs or len(xs) != len(ys) or any(math.isnan(value) for value in (*xs, *ys)):
        return NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


def box_around_turned(corners: Corners, degrees: float, pivot: tuple[float, float]) -> Corners:
    """The box around a rectangle that was turned clockwise (y points down) about `pivot`; the unit is a square one."""
    xmin, ymin, xmax, ymax = corners
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = [(x - pivot[0], y - pivot[1]) for x in (xmin, xmax) for y in (ymin, ymax)]
    xs = [pivot[0] + x * cosine - y * sine for x, y in points]
    ys = [pivot[1] + x * sine + y * cosine for x, y in points]
    return box_around(xs, ys)

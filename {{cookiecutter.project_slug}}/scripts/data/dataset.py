"""The one form that images and boxes have in memory.

Every label format is a reader into it or a writer out of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask

SPLITS = ("train", "validation", "test")
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Box:
    """One labeled object.

    `xyxy_px` are continuous pixel edges `(xmin, ymin, xmax, ymax)` of the stored (decoded, not
    EXIF-turned) image; width is `xmax - xmin`. A reader passes on what it read, also when it is
    outside or inverted: finding that is the task of `check`. `line` is the line in the file that
    the box was read from (0: unknown).
    """

    class_name: str
    xyxy_px: Corners
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    group_of: bool = False
    is_crowd: bool = False
    line: int = 0


@dataclass(frozen=True)
class Image:
    """One image with its boxes.

    `path` is the image file, `label_path` the file its boxes were read from (None: there is none),
    `width_px` and `height_px` are those of the decoded image, `split` is `train`, `validation`,
    `test` or `""` when the source does not say.
    """

    path: Path
    width_px: int
    height_px: int
    boxes: tuple[Box, ...] = field(default=())
    label_path: Path | None = None
    split: str = ""


@dataclass(frozen=True)
class Note:
    """Something odd that a reader saw: a code of `findings.CATALOG`, a text, a line (0: none)."""

    code: str
    message: str
    line: int = 0


@dataclass(frozen=True)
class Labels:
    """What one label file says of one image, as it stands there.

    `image` is the image as the file names it: a name or a path, with `/` or with backslashes, with
    or without extension. Formats with one label file an image (voc, yolo, oidv4) are paired by the
    name of the label file instead; there it may be "". `boxes` are pixel edges, or, where
    `fractions` is true, shares 0..1 of the image's width and height (readers do not open images).
    `width_px`, `height_px` and `depth` are the declared size (0: not said, or not a number), `line`
    and `size_line` where the image is named and the size stands (0: unknown). `notes` are for a
    person to look at. `split` is what the label file itself says ("" when it does not).
    """

    boxes: tuple[Box, ...]
    image: str = ""
    width_px: int = 0
    height_px: int = 0
    depth: int = 0
    line: int = 0
    size_line: int = 0
    fractions: bool = False
    notes: tuple[Note, ...] = ()
    split: str = ""


@dataclass(frozen=True)
class LabelFile:
    """A label file: its format (a value of `source.format`) and an entry for each image.

    `notes` are about the file as a whole. `error` says why the file cannot be read although it is
    of this format, with `error_line` (then there are no entries).
    """

    path: Path
    format: str
    entries: tuple[Labels, ...] = ()
    notes: tuple[Note, ...] = ()
    error: str = ""
    error_line: int = 0


class LabelError(ValueError):
    """A file of this format that cannot be read; the text says why, `line` where (0: unknown)."""

    def __init__(self, message: str, line: int = 0):
        super().__init__(message)
        self.line = line


class NotALabelError(LabelError):
    """A readable file that is not of this format; the text says what it is instead."""


# The box around a shape that is not an upright rectangle.

NO_BOX: Corners = (math.nan, math.nan, math.nan, math.nan)


def as_number(value: object) -> float:
    """Return a finite number of a JSON file, also one that is written as text, else `nan`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def box_around(xs: Sequence[float], ys: Sequence[float]) -> Corners:
    """Return `(xmin, ymin, xmax, ymax)` of points; all `nan` without points or with a `nan`."""
    if not xs or len(xs) != len(ys) or any(math.isnan(value) for value in (*xs, *ys)):
        return NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


def box_around_turned(corners: Corners, degrees: float, pivot: tuple[float, float]) -> Corners:
    """Return the box around a rectangle that was turned clockwise (y points down) about `pivot`.

    Both axes have to be in the same unit, such as pixels.
    """
    xmin, ymin, xmax, ymax = corners
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = [(x - pivot[0], y - pivot[1]) for x in (xmin, xmax) for y in (ymin, ymax)]
    xs = [pivot[0] + x * cosine - y * sine for x, y in points]
    ys = [pivot[1] + x * sine + y * cosine for x, y in points]
    return box_around(xs, ys)


# Overlap of boxes given by their edges.


def ious(first_xyxy, second_xyxy, crowds=None) -> np.ndarray:
    """Return the IoU 0..1 of all pairs of boxes, float [n, m].

    Args:
        first_xyxy: boxes [n, 4], xmin, ymin, xmax, ymax in pixels.
        second_xyxy: boxes [m, 4].
        crowds: [m], true for a crowd: then it is the share of the box inside it, as in COCO.
    """
    # pycocotools reads the memory as it lies: an array that holds columns first would be other
    # boxes.
    first, second = (np.ascontiguousarray(_xywh(boxes)) for boxes in (first_xyxy, second_xyxy))
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    if crowds is None:
        crowds = [False] * len(second)
    return mask.iou(first, second, [int(crowd) for crowd in crowds])


def _xywh(boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])

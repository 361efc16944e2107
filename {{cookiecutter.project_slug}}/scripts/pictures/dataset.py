"""The one form that labels have in memory: every format is a reader into it or a writer out of it."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Box:
    """One labelled object.

    `xyxy_px` are continuous pixel edges `(xmin, ymin, xmax, ymax)` of the stored (decoded, not EXIF-turned)
    picture; width is `xmax - xmin`. A reader passes on what it read, also when it is outside or inverted:
    finding that is the task of `check`. `line` is the line in the file that the box was read from (0: unknown).
    """

    class_name: str
    xyxy_px: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    group_of: bool = False
    is_crowd: bool = False
    line: int = 0


@dataclass(frozen=True)
class Picture:
    """One picture with its boxes.

    `path` is the picture file, `label_path` the file its boxes were read from (None: there is none),
    `width_px` and `height_px` are those of the decoded picture, `split` is `train`, `validation`, `test`
    or `""` when the source does not say.
    """

    path: Path
    width_px: int
    height_px: int
    boxes: tuple[Box, ...] = field(default=())
    label_path: Path | None = None
    split: str = ""

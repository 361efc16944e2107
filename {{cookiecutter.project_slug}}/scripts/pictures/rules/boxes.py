"""Rules about boxes: one picture at a time."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from scripts.pictures.dataset import Box
from scripts.pictures.findings import Finding, finding
from scripts.pictures.stored import Stored
from scripts.pipeline.tables import SLOTS

ROUNDING_PX = 1e-6
"""A corner this far outside is arithmetic, not a mistake: 0.1 + 0.2 of a wide picture is off by less."""

WHOLE_PICTURE = 0.98
"""Share of the picture's area. A real object is rarely cut off by all four borders; a box drawn by a habit is."""

SAME_THING_IOU = 0.9
"""Two people who box one object agree to about this; two objects of a class hardly ever overlap so much."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def numbered_boxes(stored: Stored) -> Iterator[tuple[Box, int]]:
    """Boxes of a picture with the line to point to."""
    yield from zip(stored.label.boxes, stored.lines, strict=True) if stored.label else ()


def has_area(box: Box) -> bool:
    """Whether the box has four numbers, in order, and covers something."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    return xmin < xmax and ymin < ymax  # false for nan


def box_text(xyxy_px: tuple[float, float, float, float]) -> str:
    """The corners as they stand in messages: `(12, 3.5, 40, 20)`, seven digits at most."""
    return "(" + ", ".join(f"{value:.7g}" for value in xyxy_px) + ")"


def named(stored: Stored, text: str) -> str:
    """A message about a picture, whose name it bears where the label file is not of this picture alone."""
    alone = Path(stored.label_shown).stem == Path(stored.shown).stem
    return text if alone else f"'{Path(stored.shown).name}': {text}"


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes with area, 0..1."""
    a, b = one.xyxy_px, other.xyxy_px
    width_px, height_px = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width_px <= 0 or height_px <= 0:
        return 0.0
    shared = width_px * height_px
    return shared / (area_px(a) + area_px(b) - shared)


def area_px(xyxy_px: tuple[float, float, float, float]) -> float:
    """Square pixels of a box."""
    return (xyxy_px[2] - xyxy_px[0]) * (xyxy_px[3] - xyxy_px[1])


def box_findings(stored: Stored, min_box_px: float) -> Iterator[Finding]:
    """Boxes without numbers or class, inverted, too small, outside, over the whole picture, doubled, or too many."""
    name = stored.path.name
    for box, line in numbered_boxes(stored):
        found = box_problem(box, stored.facts.width_px, stored.facts.height_px, min_box_px)
        if found:
            yield finding(found[0], stored.label_shown, named(stored, found[1]), line, box.class_name, name)
        if not box.class_name:
            yield finding("E021", stored.label_shown, named(stored, "the box has no class"), line, "", name)
    for box, line, earlier_line, overlap in doubled_boxes(stored):
        text = f"'{box.class_name}' box {box_text(box.xyxy_px)} lies on that of line {earlier_line} (IoU {overlap:.2f})"
        yield finding("W115", stored.label_shown, named(stored, text), line, box.class_name, name)
    single = [line for box, line in numbered_boxes(stored) if not (box.group_of or box.is_crowd)]
    if len(single) > SLOTS:
        text = f"{len(single)} boxes, a model of ours finds {SLOTS} at most: {len(single) - SLOTS} are always missed"
        yield finding("E014", stored.label_shown, named(stored, text), single[SLOTS], "", name)


def box_problem(box: Box, width_px: int, height_px: int, min_box_px: float) -> tuple[str, str] | None:
    """Code and message of the worst that is wrong with the corners, None when they are right.

    `width_px` 0: the picture could not be read, so nothing is said about its borders.
    """
    xmin, ymin, xmax, ymax = box.xyxy_px
    start = f"'{box.class_name}' box"
    wrong = [name for name, value in zip(_CORNERS, box.xyxy_px, strict=True) if value != value]
    if wrong:
        return "E008", f"{start}: {', '.join(wrong)} missing or not a number"
    start = f"{start} {box_text(box.xyxy_px)}"
    if xmin > xmax or ymin > ymax:
        return "E003", f"{start} is inverted"
    if width_px and outside_px(box.xyxy_px, width_px, height_px) > ROUNDING_PX:
        share = outside_share(box.xyxy_px, width_px, height_px)
        return "E005", f"{start} leaves the {width_px}x{height_px} picture by {_percent(share)} of its side"
    side = min(xmax - xmin, ymax - ymin)
    if side <= 0 or side < min_box_px:
        return "E004", f"{start} is {side:.7g} px wide or high"
    share = area_px(box.xyxy_px) / (width_px * height_px) if width_px else 0.0
    if share > WHOLE_PICTURE and not (box.group_of or box.is_crowd):
        return "W114", f"{start} covers {_percent(share)} of the {width_px}x{height_px} picture"
    return None


def outside_px(xyxy_px: tuple[float, ...], width_px: int, height_px: int) -> float:
    """How far a box reaches beyond the border that it leaves farthest, in pixels; negative or 0 inside."""
    return max(-xyxy_px[0], -xyxy_px[1], xyxy_px[2] - width_px, xyxy_px[3] - height_px)


def outside_share(xyxy_px: tuple[float, ...], width_px: int, height_px: int) -> float:
    """The same as a fraction of the side of the picture."""
    xmin, ymin, xmax, ymax = xyxy_px
    return max(-xmin / width_px, -ymin / height_px, (xmax - width_px) / width_px, (ymax - height_px) / height_px)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"


def doubled_boxes(stored: Stored) -> Iterator[tuple[Box, int, int, float]]:
    """Each box that lies on an earlier one of its class: box, its line, the line of the earlier one, their IoU.

    Boxes around groups are left out: they may well lie on one another.
    """
    earlier = defaultdict(list)
    for box, line in numbered_boxes(stored):
        if box.group_of or box.is_crowd or not has_area(box):
            continue
        same = next(((seen, at) for seen, at in earlier[box.class_name] if iou(seen, box) > SAME_THING_IOU), None)
        if same:
            yield box, line, same[1], iou(same[0], box)
        earlier[box.class_name].append((box, line))

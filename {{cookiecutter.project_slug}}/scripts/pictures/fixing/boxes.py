"""Boxes that can be repaired without looking at the picture."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from scripts.pictures.dataset import Box
from scripts.pictures.rules.boxes import (
    ROUNDING_PX,
    SAME_THING_IOU,
    box_problem,
    box_text,
    has_area,
    iou,
    outside_px,
    outside_share,
)

MOST_OUTSIDE = 0.10
"""Share of the side by which a box may leave and be clipped. More is a wrong size or a turned picture, and clipping
would hide it."""

LEAST_PX = 1.0
"""A box with a shorter side shows nothing: it is dropped, and no repair may leave one."""

# (place in the label file, box as it becomes or None, code, what was done)
BoxEdit = tuple[int, Box | None, str, str]


def box_edits(
    boxes: list[Box], width_px: int, height_px: int, min_box_px: float, accept: Collection[str]
) -> Iterator[BoxEdit]:
    """Edits of the corners of `boxes`, for codes that are not in `accept`."""
    now: list[Box | None] = list(boxes)
    for place, box in enumerate(boxes):
        problem = box_problem(box, width_px, height_px, min_box_px)
        if not problem or problem[0] in accept:
            continue
        repaired = _repaired(problem[0], box, width_px, height_px)
        if repaired:
            now[place], text = repaired
            yield place, now[place], problem[0], text
    if "W115" not in accept:
        yield from _copies(now)


def _repaired(code: str, box: Box, width_px: int, height_px: int) -> tuple[Box | None, str] | None:
    if code == "E008":
        return None, "dropped, its corners are no numbers"
    xmin, ymin, xmax, ymax = corners = box.xyxy_px
    start = box_text(corners)
    if code == "E004" and min(xmax - xmin, ymax - ymin) < LEAST_PX:
        return None, f"dropped {start}"
    if code == "E003":
        swapped = (min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
        if outside_px(swapped, width_px, height_px) <= ROUNDING_PX and _visible(swapped):
            return replace(box, xyxy_px=swapped), f"swapped {start} to {box_text(swapped)}"
    if code == "E005" and outside_share(corners, width_px, height_px) <= MOST_OUTSIDE:
        clipped = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width_px)), min(ymax, float(height_px)))
        if _visible(clipped):
            return replace(box, xyxy_px=clipped), f"clipped {start} to {box_text(clipped)}"
    return None


def _visible(xyxy_px: tuple[float, float, float, float]) -> bool:
    return min(xyxy_px[2] - xyxy_px[0], xyxy_px[3] - xyxy_px[1]) >= LEAST_PX


def _copies(boxes: list[Box | None]) -> Iterator[BoxEdit]:
    """Boxes that repeat an earlier one to the pixel. What differs by more may be two things: a person has to look."""
    kept: list[Box] = []
    for place, box in enumerate(boxes):
        if box is None or box.group_of or box.is_crowd or not has_area(box):
            continue
        if any(_is_copy(box, seen) for seen in kept):
            yield place, None, "W115", f"dropped {box_text(box.xyxy_px)}, the same box stands above"
        else:
            kept.append(box)


def _is_copy(box: Box, seen: Box) -> bool:
    if box.class_name != seen.class_name:
        return False
    near = all(abs(one - other) < LEAST_PX for one, other in zip(box.xyxy_px, seen.xyxy_px, strict=True))
    return near and iou(box, seen) > SAME_THING_IOU

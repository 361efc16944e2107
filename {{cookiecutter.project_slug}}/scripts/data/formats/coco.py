"""COCO detection files: `images`, `annotations` and `categories` in one JSON object.

Category ids are looked up, never counted: they may begin with 0, have holes or be text. A category
without boxes, such as the super-category that Roboflow writes as id 0, does not matter.
"""

import math
from collections import defaultdict
from operator import sub
from pathlib import Path
from typing import Any

from scripts.data.dataset import (
    NO_BOX,
    Box,
    Corners,
    LabelError,
    LabelFile,
    Labels,
    NotALabelError,
    Note,
    as_number,
    box_around,
    box_around_turned,
)
from scripts.data.formats.text import (
    first_character,
    read_text,
    require_readable,
    scan_object,
    without_collector,
)

_FLAG_NAMES = {
    "difficult": ("difficult",),
    "truncated": ("truncated", "is_truncated"),
    "occluded": ("occluded", "is_occluded"),
    "group_of": ("group_of", "is_group_of"),
    "is_crowd": ("is_crowd", "iscrowd"),
}
# Files give two decimals of x and of width: their sum may pass the side of the image by a
# hundredth.
_ROUNDING_PX = 0.01 + 1e-6
_FLOAT_ERROR_PX = 1e-6  # below this it is not worth a note
_TRUE = ("1", "true", "yes")
_ARRAYS = ("images", "annotations", "categories")


def _key(value: Any) -> str:
    """One form for ids: 3, 3.0 and "3" are the same; "" is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _is_true(value: Any) -> bool:
    return str(value).strip().lower() in _TRUE if isinstance(value, str) else value in (True, 1)


def _flags(value: dict) -> dict[str, bool]:
    """The flags that are set; most annotations have none."""
    flags = {}
    if value.get("iscrowd") and _is_true(value["iscrowd"]):
        flags["is_crowd"] = True
    if value.get("ignore") and _is_true(value["ignore"]):
        flags["difficult"] = True
    attributes = value.get("attributes")
    if isinstance(attributes, dict) and attributes:
        for flag, names in _FLAG_NAMES.items():
            if any(_is_true(attributes.get(name)) for name in names):
                flags[flag] = True
    return flags


def _polygon_box(segmentation: Any) -> Corners | None:
    """The box around polygons `[[x, y, x, y, ...], ...]`; None when there is none (a run-length
    mask, say)."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    numbers = [[as_number(value) for value in ring] for ring in rings if isinstance(ring, list)]
    xs = [value for ring in numbers for value in ring[0::2]]
    ys = [value for ring in numbers for value in ring[1::2]]
    return box_around(xs, ys)


def _shape(value: dict) -> tuple[Corners | None, str]:
    """The corners of an annotation (None: it has no box) and the words of a note, if there is one
    to make."""
    name = f"annotation {_key(value.get('id'))}".rstrip()
    bbox = value.get("bbox")
    if bbox:
        x, y, width, height = map(as_number, bbox) if isinstance(bbox, list) and len(bbox) == 4 else NO_BOX
        corners = (x, y, x + width, y + height)
        attributes = value.get("attributes")
        turned = as_number(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0
        if not turned or math.isnan(turned):
            return corners, ""
        center = (x + width / 2, y + height / 2)
        return box_around_turned(corners, turned, center), f"{name} is turned by {turned:g} degrees: the box around it"
    corners = _polygon_box(value.get("segmentation"))
    if corners:
        return corners, f"{name} is a polygon: the box around it"
    mask = isinstance(value.get("segmentation"), dict)
    return None, f"{name} has {'a run-length mask but no bbox' if mask else 'neither bbox nor polygon'}: not read"


def _without_rounding(corners: Corners, width_px: int, height_px: int) -> Corners:
    """The corners, the far ones on the border where only rounding took them past it."""
    xmin, ymin, xmax, ymax = corners
    if width_px < xmax <= width_px + _ROUNDING_PX:
        xmax = float(width_px)
    if height_px < ymax <= height_px + _ROUNDING_PX:
        ymax = float(height_px)
    return xmin, ymin, xmax, ymax


class _Content:
    """What stands in the three arrays; `boxes` and `notes` are by image id."""

    def __init__(self):
        self.images: dict[str, tuple[str, int, int, int]] = {}
        self.names: dict[str, str] = {}
        self.boxes: dict[str, list[tuple[str, Corners, dict[str, bool], int]]] = defaultdict(list)
        self.notes: dict[str, list[Note]] = defaultdict(list)

    def take_image(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'images' is no object", line)
        key, file_name = _key(value.get("id")), str(value.get("file_name") or value.get("coco_url") or "")
        sides = (as_number(value.get(side)) for side in ("width", "height"))
        width_px, height_px = (int(side) if side > 0 else 0 for side in sides)
        if self.images.get(key, (file_name,))[0] != file_name:
            raise LabelError(f"'{self.images[key][0]}' and '{file_name}' have the same image id {key}", line)
        self.images[key] = (file_name, width_px, height_px, line)

    def take_category(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'categories' is no object", line)
        key, name = _key(value.get("id")), str(value.get("name") or "").strip()
        if self.names.get(key, name) != name:
            raise LabelError(f"'{self.names[key]}' and '{name}' have the same category id {key}", line)
        self.names[key] = name

    def take_annotation(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'annotations' is no object", line)
        image = _key(value.get("image_id"))
        corners, words = _shape(value)
        if words:
            self.notes[image].append(Note("R213" if corners else "W118", words, line))
        if corners:
            self.boxes[image].append((_key(value.get("category_id")), corners, _flags(value), line))

    def entry(self, key: str) -> Labels:
        file_name, width_px, height_px, line = self.images[key]
        boxes, notes = [], self.notes.get(key, [])
        for category, corners, flags, at in self.boxes.get(key, ()):
            inside = _without_rounding(corners, width_px, height_px)
            if inside != corners and max(map(abs, map(sub, inside, corners))) > _FLOAT_ERROR_PX:
                notes.append(Note("R212", "a corner was past the border by rounding: put on it", at))
            boxes.append(Box(self.names[category], inside, line=at, **flags))
        return Labels(tuple(boxes), file_name, width_px, height_px, line=line, size_line=line, notes=tuple(notes))

    def name_the_rest(self) -> list[Note]:
        """Give a name to category ids that `categories` does not list."""
        notes = []
        for boxes in self.boxes.values():
            for category, _, _, line in boxes:
                if category not in self.names:
                    self.names[category] = f"class_{category}" if category else ""
                    text = f"category_id '{category}' is not in 'categories': called '{self.names[category]}'"
                    notes.append(Note("W116", text, line))
        return notes

    def lost(self) -> list[Note]:
        """Notes on annotations of images that `images` does not list."""
        return [
            Note("W118", f"image_id '{key}' is not in 'images': its annotations are not read", boxes[0][3])
            for key, boxes in self.boxes.items()
            if key not in self.images
        ]


@without_collector()
def read(path: Path) -> LabelFile:
    """All images of a COCO file with their boxes, in the order of `images`; one without annotations
    has no boxes.

    NotALabelError when it is other JSON, LabelError when it is broken or its ids contradict each
    other.
    """
    text = read_text(path)
    if first_character(text) != "{":
        raise NotALabelError("not COCO: the json is no object")
    content = _Content()
    takers = {"images": content.take_image, "annotations": content.take_annotation}
    try:
        seen = scan_object(text, {**takers, "categories": content.take_category})
    except LabelError as error:
        if all(f'"{name}"' in text for name in ("images", "annotations")):
            raise
        raise NotALabelError(f"not COCO: {error}", error.line) from None
    missing = [name for name in _ARRAYS if name not in seen]
    if missing:
        raise NotALabelError(f"not COCO detection: no array '{missing[0]}'")
    if content.notes and not content.boxes:
        raise NotALabelError("not COCO detection: no annotation has a box or a polygon")
    require_readable(text)
    notes = content.name_the_rest() + content.lost()
    return LabelFile(path, "coco", tuple(content.entry(key) for key in content.images), tuple(notes))

"""COCO detection files: images, boxes and classes of many images in one JSON object.

    {"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}],
     "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [12, 8, 36, 24]}],
     "categories": [{"id": 3, "name": "apple"}]}

`bbox` is x, y, width, height in pixels. Format: https://cocodataset.org/#format-data. Category ids
are looked up, never counted: they may begin with 0, have holes or be text. A category without boxes
does not matter, such as the super-category that Roboflow writes as id 0. A polygon or a rotated box
gives the box around it. The reader refuses other JSON, and ids that contradict each other.

The writer loses nothing: what it writes reads back as the same boxes, and a box inside its image
stays inside. An edge on the border is a whole number, and `xmin + (xmax - xmin)` rounds by less
than what separates it from the next number.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from operator import sub
from pathlib import Path
from typing import Any

from scripts.data.dataset import (
    NO_BOX,
    Box,
    Corners,
    Image,
    LabelError,
    LabelFile,
    Labels,
    NotALabelError,
    Note,
    as_number,
    box_around,
    box_around_turned,
)
from scripts.data.formats.label_text import (
    first_character,
    is_true,
    read_text,
    require_readable,
    scan_object,
    without_collector,
)
from scripts.data.formats.voc import FLAGS

_FLAG_NAMES = {
    "difficult": ("difficult",),
    "truncated": ("truncated", "is_truncated"),
    "occluded": ("occluded", "is_occluded"),
    "group_of": ("group_of", "is_group_of"),
    "is_crowd": ("is_crowd", "iscrowd"),
}
# Files give x and width with two decimals: their sum may pass the border by a hundredth.
_ROUNDING_PX = 0.01 + 1e-6
_FLOAT_ERROR_PX = 1e-6  # below this it is not worth a note


def _key(value: Any) -> str:
    """Return one form for ids: 3, 3.0 and "3" are the same, "" is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _is_true(value: Any) -> bool:
    return is_true(value) if isinstance(value, str) else value in (True, 1)


def _flags(value: dict) -> dict[str, bool]:
    """Return the flags that are set; most annotations have none."""
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
    """Return the box around polygons `[[x, y, x, y, ...], ...]`, None when there are none."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    numbers = [[as_number(value) for value in ring] for ring in rings if isinstance(ring, list)]
    xs = [value for ring in numbers for value in ring[0::2]]
    ys = [value for ring in numbers for value in ring[1::2]]
    return box_around(xs, ys)


def _shape(value: dict) -> tuple[Corners | None, str]:
    """Return the corners of an annotation, None without a box, and the text of a note ("": none).
    """
    name = f"annotation {_key(value.get('id'))}".rstrip()
    bbox, segmentation = value.get("bbox"), value.get("segmentation")
    if bbox:
        is_box = isinstance(bbox, list) and len(bbox) == 4
        x, y, width, height = map(as_number, bbox) if is_box else NO_BOX
        corners = (x, y, x + width, y + height)
        attributes = value.get("attributes")
        # CVAT rotates a box about its center.
        turned = as_number(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0
        if not turned or math.isnan(turned):
            return corners, ""
        around = box_around_turned(corners, turned, (x + width / 2, y + height / 2))
        return around, f"{name} is turned by {turned:g} degrees: the box around it"
    corners = _polygon_box(segmentation)
    if corners:
        return corners, f"{name} is a polygon: the box around it"
    if isinstance(segmentation, dict):
        return None, f"{name} has a run-length mask but no bbox: not read"
    return None, f"{name} has neither bbox nor polygon: not read"


def _without_rounding(corners: Corners, width_px: int, height_px: int) -> Corners:
    """Put the far corners on the border where only rounding took them past it."""
    xmin, ymin, xmax, ymax = corners
    if width_px < xmax <= width_px + _ROUNDING_PX:
        xmax = float(width_px)
    if height_px < ymax <= height_px + _ROUNDING_PX:
        ymax = float(height_px)
    return xmin, ymin, xmax, ymax


class _Content:
    """What stands in the three arrays; `boxes` and `notes` are by image id."""

    def __init__(self):
        self.images: dict[str, tuple[str, int, int, int]] = {}  # file name, width, height, line
        self.names: dict[str, str] = {}
        # Category id, corners, flags, line.
        self.boxes: dict[str, list[tuple[str, Corners, dict[str, bool], int]]] = defaultdict(list)
        self.notes: dict[str, list[Note]] = defaultdict(list)

    def take_image(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'images' is no object", line)
        key = _key(value.get("id"))
        file_name = str(value.get("file_name") or value.get("coco_url") or "")
        sides = (as_number(value.get(side)) for side in ("width", "height"))
        width_px, height_px = (int(side) if side > 0 else 0 for side in sides)
        other, *_ = self.images.get(key, (file_name,))
        if other != file_name:
            raise LabelError(f"'{other}' and '{file_name}' have the same image id {key}", line)
        self.images[key] = (file_name, width_px, height_px, line)

    def take_category(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'categories' is no object", line)
        key, name = _key(value.get("id")), str(value.get("name") or "").strip()
        other = self.names.get(key, name)
        if other != name:
            raise LabelError(f"'{other}' and '{name}' have the same category id {key}", line)
        self.names[key] = name

    def take_annotation(self, line: int, value: Any) -> None:
        if not isinstance(value, dict):
            raise LabelError("an element of 'annotations' is no object", line)
        image = _key(value.get("image_id"))
        corners, text = _shape(value)
        if text:
            self.notes[image].append(Note("R213" if corners else "W118", text, line))
        if corners:
            category = _key(value.get("category_id"))
            self.boxes[image].append((category, corners, _flags(value), line))

    def entry(self, key: str) -> Labels:
        file_name, width_px, height_px, line = self.images[key]
        boxes, notes = [], self.notes.get(key, [])
        for category, corners, flags, box_line in self.boxes.get(key, ()):
            inside = _without_rounding(corners, width_px, height_px)
            if inside != corners and max(map(abs, map(sub, inside, corners))) > _FLOAT_ERROR_PX:
                text = "a corner was past the border by rounding: put on it"
                notes.append(Note("R212", text, box_line))
            boxes.append(Box(self.names[category], inside, line=box_line, **flags))
        return Labels(tuple(boxes), file_name, width_px, height_px, line=line, size_line=line,
                      notes=tuple(notes))

    def name_unlisted_categories(self) -> list[Note]:
        """Give a name to category ids that `categories` does not list."""
        notes = []
        for boxes in self.boxes.values():
            for category, _, _, line in boxes:
                if category not in self.names:
                    name = f"class_{category}" if category else ""
                    self.names[category] = name
                    text = f"category_id '{category}' is not in 'categories': called '{name}'"
                    notes.append(Note("W116", text, line))
        return notes

    def notes_on_unlisted_images(self) -> list[Note]:
        """Return a note for each image that has annotations and is not in `images`."""
        return [Note("W118", f"image_id '{key}' is not in 'images': its annotations are not read",
                     boxes[0][3])
                for key, boxes in self.boxes.items() if key not in self.images]


@without_collector()
def read(path: Path) -> LabelFile:
    """Read all images of a COCO file, in the order of `images`.

    An image without annotations has no boxes.

    Raises:
        NotALabelError: The file is other JSON.
        LabelError: It is broken, or its ids contradict each other.
    """
    text = read_text(path)
    if first_character(text) != "{":
        raise NotALabelError("not COCO: the json is no object")
    content = _Content()
    takers = {"images": content.take_image, "annotations": content.take_annotation,
              "categories": content.take_category}
    try:
        seen = scan_object(text, takers)
    except LabelError as error:
        if all(f'"{name}"' in text for name in ("images", "annotations")):
            raise
        raise NotALabelError(f"not COCO: {error}", error.line) from None
    missing = [name for name in takers if name not in seen]
    if missing:
        raise NotALabelError(f"not COCO detection: no array '{missing[0]}'")
    if content.notes and not content.boxes:
        raise NotALabelError("not COCO detection: no annotation has a box or a polygon")
    require_readable(text)
    notes = content.name_unlisted_categories() + content.notes_on_unlisted_images()
    entries = tuple(content.entry(key) for key in content.images)
    return LabelFile(path, "coco", entries, tuple(notes))


# Writing.

_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def coco_text(images: Sequence[Image], ids: dict[str, int]) -> str:
    """Return a COCO detection file of `images`; `ids` are the numbers of all classes by name."""
    rows, annotations = [], []
    for number, image in enumerate(images, start=1):
        rows.append({"id": number, "file_name": image.path.name,
                     "width": image.width_px, "height": image.height_px})
        for box in image.boxes:
            annotations.append(
                coco_annotation(box, len(annotations) + 1, number, ids[box.class_name]))
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
    arrays = {"licenses": [], "categories": categories, "images": rows, "annotations": annotations}
    # One element a line: findings can point to it, and it is much faster than an indented file.
    texts = [f'"{name}": [\n' + ",\n".join(map(_as_json, elements)) + "\n]"
             for name, elements in arrays.items()]
    return "{\n" + ",\n".join(['"info": {}', *texts]) + "\n}\n"


def coco_annotation(box: Box, number: int, image: int, category: int) -> dict:
    """Return an element of `annotations`; flags stand in `attributes`, as CVAT writes them."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    width, height = xmax - xmin, ymax - ymin
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [_shortest(value) for value in (xmin, ymin, width, height)],
        "area": _shortest(width * height),
        "iscrowd": int(box.is_crowd),
        "segmentation": [],
        "attributes": {flag: getattr(box, flag) for flag in FLAGS if flag != "is_crowd"},
    }


def _shortest(value: float) -> float | int:
    """Return 12 for 12.0: most files have whole pixels."""
    return int(value) if value == int(value) else float(value)

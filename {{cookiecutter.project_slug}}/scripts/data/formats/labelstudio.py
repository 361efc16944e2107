"""JSON exports of Label Studio: the full one (a list of tasks) and JSON-MIN.

    [{"id": 4, "data": {"image": "/data/upload/1/3f2a1b9c-a.jpg"},
      "annotations": [{"id": 9, "updated_at": "2024-05-01T10:00:00Z", "result": [
        {"type": "rectanglelabels", "original_width": 640, "original_height": 480,
         "value": {"x": 2, "y": 1.5, "width": 6, "height": 5, "rectanglelabels": ["apple"]}}]}]}]

Places are percent of the image. Format: https://labelstud.io/guide/export. Of several annotations
of one task the last updated counts; a task without one is an unlabeled image and has no entry; one
whose annotation is empty shows no object. Of a polygon, an ellipse or a rotated rectangle the box
around it is taken. The reader refuses other JSON, and an annotated task that names no image.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scripts.core.text import counted
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
from scripts.data.formats.label_text import (
    first_character,
    read_text,
    require_readable,
    scan_array,
)

_IMAGE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?|heic|heif)($|[?#&])", re.IGNORECASE)
_UNREAD = {"brush": "a brush mask", "keypoint": "a key point", "bitmask": "a mask",
           "vector": "a line"}
_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


@dataclass(frozen=True)
class _Annotation:
    """One person's labels of a task: the regions, when they were last changed, and their line."""

    key: str
    updated: str
    regions: list[dict]
    line: int


def read(path: Path) -> LabelFile:
    """Read all tasks that have an annotation, in their order.

    `image` of an entry is the decoded reference, with the prefix of Label Studio.

    Raises:
        NotALabelError: The file is other JSON.
        LabelError: It is broken, or a task has no image.
    """
    text = read_text(path)
    if first_character(text) != "[":
        raise NotALabelError("not Label Studio: the json is no array")
    tasks: dict[tuple[str, str], list[_Annotation]] = defaultdict(list)
    try:
        for key, image, annotations in _tasks(text):
            tasks[key, image] += annotations
    except NotALabelError:
        raise
    except LabelError as error:
        if tasks or '"annotations"' in text:
            raise
        raise NotALabelError(f"not Label Studio: {error}", error.line) from None
    if not tasks:
        raise NotALabelError("not Label Studio: the array is empty")
    require_readable(text)
    entries = (_labels(image, found) for (_, image), found in tasks.items() if found)
    return LabelFile(path, "labelstudio", tuple(entries))


# Tasks and their images.


def _tasks(text: str) -> Iterator[tuple[str, str, list[_Annotation]]]:
    """Yield id, image and annotations of each task."""
    for line, value in scan_array(text):
        if not isinstance(value, dict):
            raise NotALabelError("not Label Studio: an element is no task", line)
        if isinstance(value.get("data"), dict):
            image, annotations = _image_of(value["data"]), _annotations(line, value)
        elif "annotation_id" in value and _image_of(value):
            # JSON-MIN: the data of a task and its labels in one object.
            regions = [region for values in value.values() for region in _objects(values)]
            updated = str(value.get("updated_at") or "")
            annotation = _Annotation(str(value["annotation_id"]), updated, regions, line)
            image, annotations = _image_of(value), [annotation]
        else:
            raise NotALabelError("not Label Studio: an element is no task", line)
        if not image and annotations:
            raise LabelError(f"task {value.get('id', '')} names no image", line)
        yield str(value.get("id", line)), image, annotations


def _annotations(line: int, task: dict) -> list[_Annotation]:
    # `completions` is the name of old versions.
    found = task.get("annotations", task.get("completions"))
    return [_Annotation(str(value.get("id", "")),
                        str(value.get("updated_at") or value.get("created_at") or ""),
                        _objects(value.get("result")), line)
            for value in _objects(found) if not value.get("was_cancelled")]


def _objects(values: Any) -> list[dict]:
    if not isinstance(values, list):
        return []
    return [value for value in values if isinstance(value, dict)]


def _image_of(data: dict) -> str:
    """Return the image of a task: the value of `image`, else the first that looks like one."""
    texts = [value for value in data.values() if isinstance(value, str)]
    named = [data["image"]] if isinstance(data.get("image"), str) else []
    found = [*named, *(text for text in texts if _IMAGE.search(text))]
    return image_reference(found[0]) if found else ""


def image_reference(reference: str) -> str:
    """Return the path in a reference: `/data/local-files/?d=dir%2Fa.jpg` is `dir/a.jpg`."""
    parts = urlsplit(reference)
    local = parse_qs(parts.query).get("d", [])
    if local:
        return local[0]
    # A file name may hold `#` or `?`; in an address of the web they end the path.
    path = parts.path if parts.scheme in ("http", "https") else reference
    return unquote(path)


# Regions of an annotation.


def _labels(image: str, annotations: list[_Annotation]) -> Labels:
    last = max(annotations, key=lambda annotation: annotation.updated)
    regions = _Regions(last)
    notes = list(regions.notes)
    if len(annotations) > 1:
        count = counted(len(annotations), "annotation")
        text = f"{count} of '{image}', the last updated is taken: {last.key}"
        notes.append(Note("W117", text, last.line))
    width_px, height_px = regions.size_px
    return Labels(tuple(regions.boxes), image, width_px, height_px, line=last.line,
                  size_line=last.line, fractions=True, notes=tuple(dict.fromkeys(notes)))


class _Regions:
    """The boxes and notes of one annotation, and the size of its image."""

    def __init__(self, annotation: _Annotation):
        self.line, self.name = annotation.line, f"annotation {annotation.key}".rstrip()
        self.boxes: list[Box] = []
        self.notes: list[Note] = []
        self.size_px = (0, 0)
        # With separate tags, shape and class are two results of one id.
        names = defaultdict(list)
        for region in annotation.regions:
            names[_key(region)] += _names(_value(region))
        done = set()
        for region in annotation.regions:
            key = _key(region)
            if key not in done and self._take(region, names[key]):
                done.add(key)

    def _take(self, region: dict, names: list[str]) -> bool:
        """Take the box of a region; return whether the region is a shape at all."""
        value = _value(region)
        kind = str(region.get("type") or "")
        unread = next((text for name, text in _UNREAD.items() if kind.startswith(name)), "")
        if unread:
            self._note("W118", f"{unread} is not read")
            return True
        if not any(key in value for key in ("width", "points", "radiusX")):
            return False  # a choice or a text about the image
        turned = _degrees(region.get("image_rotation"))
        if turned:
            text = f"{self.name} was drawn on a view turned by {turned:g} degrees: "
            self.notes.append(Note("E019", text + "turn it back in Label Studio", self.line))
        sides = [as_number(region.get(name) or value.get(name))
                 for name in ("original_width", "original_height")]
        self.size_px = tuple(int(side) if side > 0 else 0 for side in sides)
        corners, shape = _corners(value, self.size_px)
        if shape:
            self._note("R213", f"{shape}: the box around it")
        shares = tuple(edge / 100 for edge in corners)
        self.boxes += [Box(name, shares, line=self.line) for name in dict.fromkeys(names or [""])]
        return True

    def _note(self, code: str, text: str) -> None:
        self.notes.append(Note(code, f"{self.name}: {text}", self.line))


def _value(region: dict) -> dict:
    """Return the shape of a region: in JSON-MIN the region itself."""
    return region["value"] if isinstance(region.get("value"), dict) else region


def _key(region: dict) -> str:
    """Return the id that the results of one region share; its own if it has none."""
    return str(region.get("id") or f"region {id(region)}")


def _names(value: dict) -> list[str]:
    for key in _LABEL_KEYS:
        if isinstance(value.get(key), list):
            return [str(name).strip() for name in value[key]]
    return []


def _degrees(value: Any) -> float:
    turned = as_number(value)
    return 0.0 if turned != turned else turned


def _corners(value: dict, size_px: tuple[float, float]) -> tuple[Corners, str]:
    """Return the edges in percent, and what the shape was if not an upright rectangle."""
    if isinstance(value.get("points"), list):
        points = [point for point in value["points"]
                  if isinstance(point, list) and len(point) == 2]
        xs, ys = [as_number(x) for x, _ in points], [as_number(y) for _, y in points]
        return box_around(xs, ys), "a polygon"
    if "radiusX" in value:
        names = ("x", "y", "radiusX", "radiusY")
        x, y, radius_x, radius_y = (as_number(value.get(name)) for name in names)
        return (x - radius_x, y - radius_y, x + radius_x, y + radius_y), "an ellipse"
    x, y, width, height = (as_number(value.get(name)) for name in ("x", "y", "width", "height"))
    corners, turned = (x, y, x + width, y + height), _degrees(value.get("rotation"))
    if not turned:
        return corners, ""
    return _turned(corners, size_px, turned), f"a rectangle turned by {turned:g} degrees"


def _turned(corners: Corners, size_px: tuple[float, float], degrees: float) -> Corners:
    """Return the box around a rectangle in percent, rotated about its first corner."""
    if not all(size_px):
        return NO_BOX
    # Percents of two different sides are no square unit: rotate in pixels.
    scales = [side / 100 for side in size_px * 2]
    pixels = tuple(edge * scale for edge, scale in zip(corners, scales, strict=True))
    around = box_around_turned(pixels, degrees, pixels[:2])
    return tuple(edge / scale for edge, scale in zip(around, scales, strict=True))

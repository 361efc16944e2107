"""JSON exports of Label Studio: the full one (a list of tasks) and JSON-MIN.

Places are percent of the image. Of several annotations of one task the last updated counts; a task
without one is an unlabeled image and has no entry, one whose annotation is empty shows no object.
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
from scripts.data.formats.label_text import first_character, read_text, require_readable, scan_array

_IMAGE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?|heic|heif)($|[?#&])", re.IGNORECASE)
_UNREAD = {"brush": "a brush mask", "keypoint": "a key point", "bitmask": "a mask", "vector": "a line"}
_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


def image_reference(reference: str) -> str:
    """The path in a reference to an image: `/data/local-files/?d=dir%2Fa.jpg` is `dir/a.jpg`."""
    parts = urlsplit(reference)
    local = parse_qs(parts.query).get("d", [])
    if local:
        return local[0]
    # A file name may hold `#` or `?`, an address of the web holds them for other reasons.
    path = parts.path if parts.scheme in ("http", "https") else reference
    return unquote(path)


def _image_of(data: Any) -> str:
    values = list(data.values()) if isinstance(data, dict) else []
    texts = [value for value in values if isinstance(value, str)]
    named = [data["image"]] if isinstance(data, dict) and isinstance(data.get("image"), str) else []
    found = [*named, *(text for text in texts if _IMAGE.search(text))]
    return image_reference(found[0]) if found else ""


@dataclass(frozen=True)
class _Annotation:
    """One person's labels of one task: the regions as they stand, when they were last changed, and
    their line."""

    key: str
    updated: str
    regions: list[dict]
    line: int


def _rectangle(value: dict, size_px: tuple[float, float], turned: float) -> Corners:
    x, y, width, height = (as_number(value.get(name)) for name in ("x", "y", "width", "height"))
    corners = (x, y, x + width, y + height)
    if turned:
        # Percents of two different sides are no square unit: turn in pixels.
        scale = [side / 100 for side in size_px]
        pixels = tuple(edge * scale[at % 2] for at, edge in enumerate(corners))
        around = box_around_turned(pixels, turned, pixels[:2])
        corners = tuple(edge / scale[at % 2] if scale[at % 2] else NO_BOX[0] for at, edge in enumerate(around))
    return corners


def _ellipse(value: dict) -> Corners:
    x, y, radius_x, radius_y = (as_number(value.get(name)) for name in ("x", "y", "radiusX", "radiusY"))
    return x - radius_x, y - radius_y, x + radius_x, y + radius_y


def _corners(value: dict, size_px: tuple[float, float]) -> tuple[Corners, str]:
    """Edges in percent, and what the region was if not an upright rectangle."""
    turned = as_number(value.get("rotation"))
    turned = 0.0 if turned != turned else turned
    if isinstance(value.get("points"), list):
        points = [point for point in value["points"] if isinstance(point, list) and len(point) == 2]
        return box_around([as_number(x) for x, _ in points], [as_number(y) for _, y in points]), "a polygon"
    if "radiusX" in value:
        return _ellipse(value), "an ellipse"
    words = f"a rectangle turned by {turned:g} degrees" if turned else ""
    return _rectangle(value, size_px, turned), words


def _value(region: dict) -> dict:
    """The shape of a region: in JSON-MIN the region itself."""
    return region["value"] if isinstance(region.get("value"), dict) else region


def _key(region: dict) -> str:
    """The id that the results of one region share; its own if it has none."""
    return str(region.get("id") or f"region {id(region)}")


def _objects(values: Any) -> list[dict]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _names(value: dict) -> list[str]:
    for key in _LABEL_KEYS:
        if isinstance(value.get(key), list):
            return [str(name).strip() for name in value[key]]
    return []


class _Reading:
    """The boxes and notes of one annotation."""

    def __init__(self, annotation: _Annotation):
        self.line, self.name = annotation.line, f"annotation {annotation.key}".rstrip()
        self.boxes: list[Box] = []
        self.notes: list[Note] = []
        self.size_px = (0, 0)
        named = self._shared_names(annotation.regions)
        done = set()
        for region in annotation.regions:
            key = _key(region)
            if key not in done and self._take(region, named[key]):
                done.add(key)

    @staticmethod
    def _shared_names(regions: list[dict]) -> dict[str, list[str]]:
        """The classes of each region by id: with separate tags, shape and class are two results of
        one id."""
        names = defaultdict(list)
        for region in regions:
            names[_key(region)] += _names(_value(region))
        return names

    def _take(self, region: dict, names: list[str]) -> bool:
        value = _value(region)
        kind = str(region.get("type") or "")
        unread = next((words for name, words in _UNREAD.items() if kind.startswith(name)), "")
        if unread:
            self.notes.append(Note("W118", f"{self.name}: {unread} is not read", self.line))
            return True
        if not any(key in value for key in ("width", "points", "radiusX")):
            return False  # a choice or a text about the image
        self._note_turned_view(region)
        sides = [as_number(region.get(name) or value.get(name)) for name in ("original_width", "original_height")]
        self.size_px = tuple(int(side) if side > 0 else 0 for side in sides)
        corners, words = _corners(value, self.size_px)
        if words:
            self.notes.append(Note("R213", f"{self.name}: {words}: the box around it", self.line))
        shares = tuple(edge / 100 for edge in corners)
        self.boxes += [Box(name, shares, line=self.line) for name in dict.fromkeys(names or [""])]
        return True

    def _note_turned_view(self, region: dict) -> None:
        turned = as_number(region.get("image_rotation"))
        if turned and turned == turned:
            text = f"{self.name} was drawn on a view turned by {turned:g} degrees: turn it back in Label Studio"
            self.notes.append(Note("E019", text, self.line))


def _labels(image: str, annotations: list[_Annotation]) -> Labels:
    last = max(annotations, key=lambda annotation: annotation.updated)
    reading = _Reading(last)
    notes = list(reading.notes)
    if len(annotations) > 1:
        text = f"{counted(len(annotations), 'annotation')} of '{image}', the last updated is taken: {last.key}"
        notes.append(Note("W117", text, last.line))
    width_px, height_px = reading.size_px
    return Labels(
        tuple(reading.boxes), image, width_px, height_px, 0, last.line, last.line, True, tuple(dict.fromkeys(notes))
    )


def _is_task(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("data"), dict)


def _is_short(value: Any) -> bool:
    """Whether it is a row of JSON-MIN: the data of a task and its labels in one object."""
    return isinstance(value, dict) and "annotation_id" in value and bool(_image_of(value))


def _of_task(line: int, task: dict) -> list[_Annotation]:
    found = task.get("annotations", task.get("completions"))
    return [
        _Annotation(
            str(value.get("id", "")),
            str(value.get("updated_at") or value.get("created_at") or ""),
            _objects(value.get("result")),
            line,
        )
        for value in _objects(found)
        if not value.get("was_cancelled")
    ]


def _of_row(line: int, row: dict) -> _Annotation:
    regions = [region for values in row.values() for region in _objects(values)]
    return _Annotation(str(row["annotation_id"]), str(row.get("updated_at") or ""), regions, line)


def _tasks(text: str) -> Iterator[tuple[str, str, list[_Annotation]]]:
    """Task id, image and annotations of each element. NotALabelError when one is no task."""
    for line, value in scan_array(text):
        if _is_task(value):
            image, annotations = _image_of(value["data"]), _of_task(line, value)
        elif _is_short(value):
            image, annotations = _image_of(value), [_of_row(line, value)]
        else:
            raise NotALabelError("not Label Studio: an element is no task", line)
        if not image and annotations:
            raise LabelError(f"task {value.get('id', '')} names no image", line)
        yield str(value.get("id", line)), image, annotations


def read(path: Path) -> LabelFile:
    """All tasks that have an annotation, in their order. `image` is the decoded reference, prefix
    and all.

    NotALabelError when it is other JSON, LabelError when it is broken or a task has no image.
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

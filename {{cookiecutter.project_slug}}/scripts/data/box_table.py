"""The box tables `{split}_labels.csv`: a row for each box.

The columns are those of TensorFlow's tutorial and five more for flags. An image without boxes is a
row too, with class and coordinates empty.
"""

import csv
import io
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from scripts.core.text import DetectorError
from scripts.data.dataset import Box, Image
from scripts.data.formats.voc import format_number
from scripts.data.manifest import Stored

FLAGS = ("difficult", "truncated", "occluded", "group_of", "is_crowd")
_TUTORIAL = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
COLUMNS = (*_TUTORIAL, *FLAGS)


def usable_box(box: Box, width_px: int, height_px: int,
               classes: set[str]) -> tuple[Box | None, str]:
    """Return a box as it goes into the table, and what was done to it ("" for nothing).

    The box is None when it does not go into the table.
    """
    xmin, ymin, xmax, ymax = box.xyxy_px
    # Only NaN differs from itself: a reader found no number there.
    if any(value != value for value in box.xyxy_px):
        return None, "box without numbers dropped"
    if box.class_name not in classes:
        return None, "box of an unknown class dropped"
    if xmin > xmax or ymin > ymax:
        return None, "inverted box dropped"
    # What reaches beyond the image is cut off; a box far outside has no area left.
    inside = (max(xmin, 0.0), max(ymin, 0.0),
              min(xmax, float(width_px)), min(ymax, float(height_px)))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return None, "box without area dropped"
    if inside == box.xyxy_px:
        return box, ""
    return replace(box, xyxy_px=inside), "box clipped"


def change_entry(change: str, file: str, line: int = 0, class_name: str = "") -> dict:
    """Return an entry of `annotations/csv.json`; `change` says in words what was done."""
    return {"what": change, "file": file, "line": line, "class": class_name}


def table_rows(stored: Stored, classes: set[str]) -> tuple[list[list], int, list[dict]]:
    """Return the rows of an image, how many of them are boxes, and what was done to its boxes."""
    width_px, height_px = stored.facts.width_px, stored.facts.height_px
    boxes, changes = [], []
    for box, line in zip(stored.label.boxes, stored.lines, strict=True):
        usable, change = usable_box(box, width_px, height_px, classes)
        if change:
            changes.append(change_entry(change, stored.label_shown, line, box.class_name))
        if usable:
            boxes.append(usable)
    start = [stored.path.name, width_px, height_px]
    rows = [[*start, *_box_cells(box)] for box in boxes]
    # An image without boxes keeps a row: it is a negative, not a missing one.
    return rows or [start + [""] * (len(COLUMNS) - len(start))], len(boxes), changes


def _box_cells(box: Box) -> list:
    flags = (int(getattr(box, flag)) for flag in FLAGS)
    return [box.class_name, *map(format_number, box.xyxy_px), *flags]


def table_text(rows: list[list]) -> str:
    """Return the text of a table with its header."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([COLUMNS, *rows])
    return buffer.getvalue()


def read_table(path: Path, folder: Path = Path()) -> list[Image]:
    """Read a table.

    Args:
        path: the file, `{split}_labels.csv`; one with the columns of the tutorial only will do.
        folder: where its image files are.

    Returns:
        Images and boxes in the order of the file; `line` of a box is its line there.

    Raises:
        DetectorError: The file or a column is missing, or a cell is not a number.
    """
    where = f"{path.parent.name}/{path.name}"
    if not path.exists():
        raise DetectorError(f"table is missing: {where}: run `invoke csv`")
    reader = csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
    place = {name: at for at, name in enumerate(next(reader, []))}
    missing = [column for column in _TUTORIAL if column not in place]
    if missing:
        raise DetectorError(f"column '{missing[0]}' is missing: {where}:1: "
                            "run `invoke forget csv`, then `invoke csv`")
    plain = [place[name] for name in _TUTORIAL]
    flag_places = [place.get(name, sys.maxsize) for name in FLAGS]
    sizes, boxes = {}, defaultdict(list)
    for row in filter(None, reader):
        try:
            name, width, height, class_name, *corners = [row[at] for at in plain]
            sizes[name] = int(width), int(height)
            if class_name:
                flags = [at < len(row) and row[at] not in ("0", "") for at in flag_places]
                xyxy_px = tuple(map(float, corners))
                boxes[name].append(Box(class_name, xyxy_px, *flags, line=reader.line_num))
        except (IndexError, ValueError) as error:
            raise DetectorError(f"{error}: {where}:{reader.line_num}: correct the line") from None
    split = path.name.removesuffix("_labels.csv")
    return [Image(folder / name, *size, tuple(boxes[name]), split=split)
            for name, size in sizes.items()]

"""`annotations/{split}_labels.csv`: one row a box, in the columns of TensorFlow's tutorial and five
more."""

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
COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", *FLAGS)


def usable_box(box: Box, width_px: int, height_px: int, classes: set[str]) -> tuple[Box | None, str]:
    """The box as it goes into the CSV (None: it does not), and what was done to it ("" for
    nothing)."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    if any(value != value for value in box.xyxy_px):
        return None, "box without numbers dropped"
    if box.class_name not in classes:
        return None, "box of an unknown class dropped"
    if xmin > xmax or ymin > ymax:
        return None, "inverted box dropped"
    inside = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width_px)), min(ymax, float(height_px)))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return None, "box without area dropped"
    return (box, "") if inside == box.xyxy_px else (replace(box, xyxy_px=inside), "box clipped")


def table_rows(stored: Stored, classes: set[str], changes: list[dict]) -> tuple[list[list], int]:
    """Return the rows of one image and how many of them are boxes; what was done to a box is
    appended to `changes`. An image without boxes is one row too."""
    start = [stored.path.name, stored.facts.width_px, stored.facts.height_px]
    boxes = []
    for box, line in zip(stored.label.boxes, stored.lines, strict=True):
        usable, change = usable_box(box, stored.facts.width_px, stored.facts.height_px, classes)
        if change:
            changes.append(change_of(change, stored.label_shown, line, box.class_name))
        boxes += [usable] if usable else []
    rows = [[*start, *_box_cells(box)] for box in boxes]
    return rows or [start + [""] * (len(COLUMNS) - len(start))], len(boxes)


def change_of(change: str, file: str, line: int = 0, class_name: str = "") -> dict:
    """Return an entry of `annotations/csv.json`; `change` says in words what was done."""
    return {"what": change, "file": file, "line": line, "class": class_name}


def _box_cells(box: Box) -> list:
    return [box.class_name, *map(format_number, box.xyxy_px), *(int(getattr(box, flag)) for flag in FLAGS)]


def table_text(rows: list[list]) -> str:
    """Return the text of a table with its header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue()


def _row_box(cells: list[str], flags: list[bool], line: int) -> Box:
    return Box(cells[3], (float(cells[4]), float(cells[5]), float(cells[6]), float(cells[7])), *flags, line=line)


def read_table(path: Path, folder: Path = Path()) -> list[Image]:
    """Images of a CSV file in their order, boxes in theirs; `folder` holds the image files.

    DetectorError for a missing file or column, or a cell that is not a number, with the line.
    """
    split = path.name.removesuffix("_labels.csv")
    where = f"{path.parent.name}/{path.name}"
    if not path.exists():
        raise DetectorError(f"table is missing: {where}: run `invoke csv`")
    reader = csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
    place = {name: at for at, name in enumerate(next(reader, []))}
    missing = [column for column in COLUMNS[:8] if column not in place]
    if missing:
        raise DetectorError(f"column '{missing[0]}' is missing: {where}:1: run `invoke forget csv`, then `invoke csv`")
    plain = [place[name] for name in COLUMNS[:8]]
    flag_places = [place.get(name, sys.maxsize) for name in FLAGS]  # a table of the tutorial has none of them
    sizes, boxes = {}, defaultdict(list)
    for row in filter(None, reader):
        try:
            cells = [row[at] for at in plain]
            sizes[cells[0]] = int(cells[1]), int(cells[2])
            if cells[3]:
                flags = [at < len(row) and row[at] not in ("0", "") for at in flag_places]
                boxes[cells[0]].append(_row_box(cells, flags, reader.line_num))
        except (IndexError, ValueError) as error:
            raise DetectorError(f"{error}: {where}:{reader.line_num}: correct the line") from None
    return [Image(folder / name, *size, tuple(boxes[name]), split=split) for name, size in sizes.items()]

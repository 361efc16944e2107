"""Tables of boxes, a row for each box: the tutorial's CSV, that of this project, Open Images.

    filename,width,height,class,xmin,ymin,xmax,ymax
    a.jpg,640,480,apple,12,8,48,32

Columns are found by name, in any order, also under the usual other names (`image_path`, `x1`,
`label`); cells are separated by comma, semicolon or tab. A row with an image only is an image
without objects. Five flags and a split may follow. Two forms without a header are known: the
tutorial's columns, and those of keras-retinanet. Formats:
https://tensorflow-object-detection-api-tutorial.readthedocs.io,
https://storage.googleapis.com/openimages/web/download_v7.html (its coordinates are shares of the
image, its class codes have names in `class-descriptions` files).

The reader refuses columns that leave open what they mean (`x`, `y`: a corner or the center?), rows
with more cells than the header, and files of more than 500 MB.
"""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

from scripts.core.text import counted
from scripts.data.dataset import Box, LabelError, LabelFile, Labels, NotALabelError, Note
from scripts.data.formats.label_text import (
    comma_note,
    is_true,
    parse_number,
    parse_side_px,
    read_text,
    require_readable,
    shortened,
    without_collector,
)
from scripts.data.formats.voc import CORNERS, FLAGS

# The train table of Open Images has 2 GB: its boxes would not fit into memory.
LARGEST_BYTES = 500_000_000

# The names of each column, compared in lower case without spaces, `_`, `-` and `.`. Where a table
# has several of one row, the first counts.
_NAMES = {
    "image": ("filename imagename image file filepath imagepath path imagefile img imgname imgpath "
              "imageid"),
    "class": "classname labelname categoryname class label category objectclass object name",
    "xmin": "xmin x1 left minx bboxxmin xleft",
    "ymin": "ymin y1 top miny bboxymin ytop",
    "xmax": "xmax x2 right maxx bboxxmax xright",
    "ymax": "ymax y2 bottom maxy bboxymax ybottom",
    "width": "width imagewidth imgwidth imwidth",
    "height": "height imageheight imgheight imheight",
    "difficult": "difficult isdifficult",
    "truncated": "truncated istruncated",
    "occluded": "occluded isoccluded",
    "group_of": "groupof isgroupof",
    "is_crowd": "iscrowd crowd",
    "split": "split subset",
}
# x, y, width and height of a box, where the names leave no doubt that x and y are a corner ...
_CORNER_AND_SIZE = (
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
    ("left", "top", "width", "height"),
)
# ... and where they may be a corner or the center.
_DOUBTFUL = (("x", "y", "width", "height"), ("x", "y", "w", "h"),
             ("xcenter", "ycenter", "width", "height"))
_HEADERLESS = {8: "filename width height class xmin ymin xmax ymax",
               6: "filename xmin ymin xmax ymax class"}
_IMAGE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?)$", re.IGNORECASE)
_SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
           "dev": "validation", "validation": "validation", "test": "test", "testing": "test"}

# Where people keep the names of Open Images' class codes: beside the table or above it, and where
# FiftyOne and OIDv4_ToolKit put them.
_CLASS_FILES = ("*class-descriptions*.csv", "classes.csv", "metadata/*class-descriptions*.csv",
                "metadata/classes.csv", "csv_folder/*class-descriptions*.csv")
_CLASS_FOLDERS = 4  # that of the table and three above it

Row = tuple[int, list[str]]


@without_collector()
def read(path: Path) -> LabelFile:
    """Read all images of a table with their boxes, in the order in which they first occur.

    Raises:
        NotALabelError: The header has no columns of boxes.
        LabelError: The file is too large, or a row has more cells than the header.
    """
    if path.stat().st_size > LARGEST_BYTES:
        megabytes = path.stat().st_size // 1_000_000
        raise LabelError(f"{megabytes:,} MB: move it out of the source; "
                         "invoke download reads such tables in parts")
    text = read_text(path)
    rows = _rows(text)
    line, header = next(rows, (0, []))
    if not header:
        raise NotALabelError("not a table of boxes: the file is empty")
    columns = _headerless_columns(header)
    first_rows = [(line, header)] if columns else []
    columns = columns or _find_columns(header)
    require_readable(text)

    table = _Table(columns)
    for line, row in chain(first_rows, rows):
        table.take(line, row)
    names = _class_names(path) if columns.open_images else {}
    notes = table.unplaced
    if columns.open_images:
        notes += _codes_without_names(table, names)
    fractions = columns.open_images
    if not fractions and table.is_between_0_and_1():
        fractions = True
        text = "all coordinates are between 0 and 1: read as shares of width and height"
        notes.append(Note("W119", text, 1))
    entries = tuple(table.entry(image, fractions, names) for image in table.first)
    return LabelFile(path, "csv", entries, tuple(notes))


def _rows(text: str) -> Iterator[Row]:
    """Yield line and cells of each row that is not empty."""
    start = 0
    first = text[: text.find("\n") + 1] or text
    if first.strip().casefold() in ("sep=;", "sep=,", "sep=\t"):  # for Excel
        start, first = len(first), text[len(first) : text.find("\n", len(first)) + 1]
    # What separates the cells of the header separates those of the rows.
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(1 << 24)
    rows = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter)
    line = 1 + (start > 0)
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield line, row
            line = rows.line_num + 1 + (start > 0)
    except csv.Error as error:
        raise LabelError(f"not a well-formed table: {error}", line) from None


# Which column means what.


@dataclass(frozen=True)
class Columns:
    """The place of each column that was found, by its meaning.

    The four corners are always there; with `sizes`, `xmax` and `ymax` are width and height of the
    box. `open_images` tells a table of Open Images. `count` is the number of all columns.
    """

    places: dict[str, int]
    sizes: bool
    open_images: bool
    count: int

    def cell(self, row: list[str], meaning: str) -> str:
        """Return the stripped text of a cell, "" when the table or the row does not have it."""
        place = self.places.get(meaning, -1)
        return row[place].strip() if 0 <= place < len(row) else ""


def _find_columns(header: list[str]) -> Columns:
    where: dict[str, int] = {}
    for place, name in enumerate(header):
        where.setdefault(re.sub(r"[\s_.\-]", "", name).casefold(), place)
    places = {}
    for meaning, names in _NAMES.items():
        found = [where[name] for name in names.split() if name in where]
        if found:
            places[meaning] = found[0]

    sizes = not all(corner in places for corner in CORNERS)
    if sizes:
        found = _columns_in(where, _CORNER_AND_SIZE)
        if not found:
            raise _no_corners(header, where, "image" in places and "class" in places)
        places.update(zip(CORNERS, (where[name] for name in found), strict=True))
        # `width` is then the box's, not the image's.
        for side, corner in (("width", "xmax"), ("height", "ymax")):
            if places.get(side) == places[corner]:
                del places[side]
    for meaning in ("image", "class"):
        if meaning not in places:
            shown = shortened(",".join(header), 80)
            text = f"not a table of boxes: no column for the {meaning} in '{shown}'"
            raise NotALabelError(text, 1)
    open_images = "imageid" in where and "labelname" in where and "filename" not in where
    return Columns(places, sizes, open_images, len(header))


def _columns_in(where: dict[str, int], choices: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return the first of `choices` whose columns are all there, () for none."""
    return next((names for names in choices if all(name in where for name in names)), ())


def _no_corners(header: list[str], where: dict[str, int], names_images: bool) -> LabelError:
    doubtful = _columns_in(where, _DOUBTFUL)
    if doubtful and names_images:
        names = ", ".join(header[where[name]] for name in doubtful)
        return LabelError(f"columns {names}: a corner or the center of the box? "
                          "Write xmin, ymin, xmax, ymax", 1)
    shown = shortened(",".join(header), 80)
    return NotALabelError(
        f"not a table of boxes: no columns xmin, ymin, xmax, ymax in '{shown}'", 1)


def _headerless_columns(row: list[str]) -> Columns | None:
    """Return the columns of a table whose first row is no header but a box; None for a header."""
    names = _HEADERLESS.get(len(row), "").split()
    if not names or not _IMAGE.search(row[0].strip()):
        return None
    for name, cell in zip(names, row, strict=True):
        is_text = name in ("filename", "class")
        if not is_text and not re.fullmatch(r"\s*-?[0-9.]*\s*", cell):
            return None
    return _find_columns(names)


# Rows by image.


class _Table:
    """The boxes of each image; `first` is the row in which an image first occurs."""

    def __init__(self, columns: Columns):
        self.columns = columns
        self.boxes: dict[str, list[Box]] = defaultdict(list)
        self.first: dict[str, Row] = {}
        self.notes: dict[str, list[Note]] = defaultdict(list)
        self.unplaced: list[Note] = []

    def take(self, line: int, row: list[str]) -> None:
        count = self.columns.count
        if any(cell.strip() for cell in row[count:]):
            text = f"{len(row)} cells below {count} columns: is a comma part of a cell?"
            raise LabelError(text, line)
        image = self.columns.cell(row, "image")
        if not image:
            self.unplaced.append(Note("W118", "a row that names no image is not read", line))
            return
        self.first.setdefault(image, (line, row))
        name = self.columns.cell(row, "class")
        corners = [self.columns.cell(row, corner) for corner in CORNERS]
        if name or any(corners):
            self.boxes[image].append(self._box(line, row, name, corners, image))

    def _box(self, line: int, row: list[str], name: str, corners: list[str], image: str) -> Box:
        pairs = [parse_number(corner) for corner in corners]
        if any(comma for _, comma in pairs):
            self.notes[image].append(comma_note(line))
        xmin, ymin, xmax, ymax = (value for value, _ in pairs)
        if self.columns.sizes:
            xmax, ymax = xmin + xmax, ymin + ymax
        flags = {flag: is_true(self.columns.cell(row, flag))
                 for flag in FLAGS if flag in self.columns.places}
        return Box(name, (xmin, ymin, xmax, ymax), line=line, **flags)

    def is_between_0_and_1(self) -> bool:
        """Return whether no coordinate is outside 0..1 and some are inside: pixels are not so."""
        values = [value for boxes in self.boxes.values() for box in boxes
                  for value in box.xyxy_px if value == value]
        in_range = all(0 <= value <= 1 for value in values)
        return in_range and any(0 < value < 1 for value in values)

    def entry(self, image: str, fractions: bool, names: dict[str, str]) -> Labels:
        line, row = self.first[image]
        boxes = self.boxes.get(image, [])
        if names:
            boxes = [replace(box, class_name=names.get(box.class_name, box.class_name))
                     for box in boxes]
        return Labels(
            boxes=tuple(boxes),
            image=image,
            width_px=parse_side_px(self.columns.cell(row, "width")),
            height_px=parse_side_px(self.columns.cell(row, "height")),
            line=line,
            size_line=line,
            fractions=fractions,
            notes=tuple(self.notes.get(image, ())),
            split=_SPLITS.get(self.columns.cell(row, "split").casefold(), ""))


# Names of Open Images' class codes.


def _class_names(table: Path) -> dict[str, str]:
    """Return names by code (`/m/011k07`) of the `class-descriptions` files; the nearest counts."""
    names: dict[str, str] = {}
    for folder in table.resolve().parents[:_CLASS_FOLDERS]:
        for pattern in _CLASS_FILES:
            for path in sorted(folder.glob(pattern)):
                names = {**_read_class_names(path), **names}
    return names


@lru_cache(maxsize=16)  # the three tables of a source have one list of names
def _read_class_names(path: Path) -> dict[str, str]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    # Newer versions have a header, which does not begin with a code.
    return {row[0].strip(): row[1].strip()
            for row in rows if len(row) >= 2 and row[0].strip().startswith("/")}


def _codes_without_names(table: _Table, names: dict[str, str]) -> list[Note]:
    codes = [(box.class_name, box.line) for boxes in table.boxes.values() for box in boxes
             if box.class_name.startswith("/") and box.class_name not in names]
    counts = Counter(code for code, _ in codes)
    first_lines = dict(reversed(codes))
    return [Note("W116", f"class code '{code}' ({counted(count, 'box', 'boxes')}) has no name",
                 first_lines[code])
            for code, count in sorted(counts.items())]

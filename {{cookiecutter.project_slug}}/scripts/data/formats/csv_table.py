"""Which column of a table of boxes means what: by its name, in any order, with the usual other
names."""

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
from scripts.data.formats.label_text import read_text, require_readable, without_collector
from scripts.data.formats.label_text import parse_number
from scripts.data.formats.voc import FLAGS

# Where a table has several of one row, the first counts. Compared in lower case without spaces,
# `_`, `-` and `.`.
_NAMES = {
    "image": "filename imagename image file filepath imagepath path imagefile img imgname imgpath imageid".split(),
    "class": "classname labelname categoryname class label category objectclass object name".split(),
    "xmin": "xmin x1 left minx bboxxmin xleft".split(),
    "ymin": "ymin y1 top miny bboxymin ytop".split(),
    "xmax": "xmax x2 right maxx bboxxmax xright".split(),
    "ymax": "ymax y2 bottom maxy bboxymax ybottom".split(),
    "width": "width imagewidth imgwidth imwidth imagewidth".split(),
    "height": "height imageheight imgheight imheight imageheight".split(),
    "difficult": "difficult isdifficult".split(),
    "truncated": "truncated istruncated".split(),
    "occluded": "occluded isoccluded".split(),
    "group_of": "groupof isgroupof".split(),
    "is_crowd": "iscrowd crowd".split(),
    "split": "split subset".split(),
}
_EDGES = ("xmin", "ymin", "xmax", "ymax")
# x, y, width and height of a box, where the names leave no doubt that x and y are its upper left
# corner.
_CORNER_AND_SIZE = (
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
    ("left", "top", "width", "height"),
)
# ... and where they do: a corner, or the center?
_DOUBTFUL = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("xcenter", "ycenter", "width", "height"))


@dataclass(frozen=True)
class Columns:
    """The place of each column that was found, by its meaning.

    `xmin`, `ymin`, `xmax`, `ymax` are always there; with `sizes` the latter two are width and
    height of the box. `open_images` tells the box tables of Open Images, whose coordinates are
    shares of the image.
    """

    places: dict[str, int]
    sizes: bool
    open_images: bool
    count: int

    def cell(self, row: list[str], meaning: str) -> str:
        """The text of a cell without white space around it; "" when the table or the row does not
        have it."""
        place = self.places.get(meaning, -1)
        return row[place].strip() if 0 <= place < len(row) else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name).casefold()


def find_columns(header: list[str]) -> Columns:
    """Find the columns of a header.

    NotALabelError when there are no boxes in the table, LabelError when its columns leave open what
    they mean.
    """
    where: dict[str, int] = {}
    for place, name in enumerate(header):
        where.setdefault(_plain(name), place)
    places = {
        meaning: next(where[name] for name in names if name in where)
        for meaning, names in _NAMES.items()
        if any(name in where for name in names)
    }
    sizes = False
    if not all(edge in places for edge in _EDGES):
        found = next((names for names in _CORNER_AND_SIZE if all(name in where for name in names)), None)
        if found is None:
            _refuse(header, where, "image" in places and "class" in places)
        sizes = True
        places.update(zip(_EDGES, (where[name] for name in found), strict=True))
        for side, edge in (("width", "xmax"), ("height", "ymax")):
            if places.get(side) == places[edge]:
                del places[side]
    for meaning in ("image", "class"):
        if meaning not in places:
            raise NotALabelError(f"not a table of boxes: no column for the {meaning} in '{_shown(header)}'", 1)
    open_images = "imageid" in where and "labelname" in where and "filename" not in where
    return Columns(places, sizes, open_images, len(header))


# Rows of tables without a header: the tutorial's columns, and those of keras-retinanet.
_HEADERLESS = {8: "filename width height class xmin ymin xmax ymax", 6: "filename xmin ymin xmax ymax class"}
_IMAGE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?)$", re.IGNORECASE)


def headerless_columns(row: list[str]) -> Columns | None:
    """The columns of a table whose first row is no header but a box, as two well-known tools write
    it; else None."""
    names = _HEADERLESS.get(len(row), "").split()
    if not names or not _IMAGE.search(row[0].strip()):
        return None
    numbers = [cell for name, cell in zip(names, row, strict=True) if name not in ("filename", "class")]
    if not all(re.fullmatch(r"\s*-?[0-9.]*\s*", cell) for cell in numbers):
        return None
    return find_columns(names)


def _shown(header: list[str]) -> str:
    text = ",".join(header)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse(header: list[str], where: dict[str, int], names_images: bool) -> None:
    doubtful = next((names for names in _DOUBTFUL if all(name in where for name in names)), None)
    if doubtful and names_images:
        names = ", ".join(header[where[name]] for name in doubtful)
        raise LabelError(f"columns {names}: a corner or the center of the box? Write xmin, ymin, xmax, ymax", 1)
    raise NotALabelError(f"not a table of boxes: no columns xmin, ymin, xmax, ymax in '{_shown(header)}'", 1)


# Names of Open Images' class codes, from the `class-descriptions` files that people keep beside the
# boxes.

# Beside the table, above it, and where FiftyOne and OIDv4_ToolKit put it.
_PATTERNS = (
    "*class-descriptions*.csv",
    "classes.csv",
    "metadata/*class-descriptions*.csv",
    "metadata/classes.csv",
    "csv_folder/*class-descriptions*.csv",
)
_LEVELS = 4


@lru_cache(maxsize=16)
def _read(path: Path) -> dict[str, str]:
    """Names by code; lines that do not begin with a code (the header of newer versions) are passed
    over."""
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2 and row[0].strip().startswith("/")}


def names_beside(table: Path) -> dict[str, str]:
    """Names by code (`/m/011k07`) of the files in the folder of `table` and the three above it; the
    nearest counts."""
    names: dict[str, str] = {}
    for folder in table.resolve().parents[:_LEVELS]:
        for pattern in _PATTERNS:
            for path in sorted(folder.glob(pattern)):
                names = {**_read(path), **names}
    return names


# Tables of boxes: the tutorial's CSV, ours with five flags more, that of Open Images, and what is
# like them.

_EDGES_table = ("xmin", "ymin", "xmax", "ymax")
_TRUE = {"1", "1.0", "true", "yes"}  # of Open Images also 0, and -1 for unknown
_SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "dev": "validation",
           "validation": "validation", "test": "test", "testing": "test"}  # fmt: skip
# The whole train table of Open Images: its boxes would not fit into memory.
LARGEST_BYTES = 500_000_000

Row = tuple[int, list[str]]


def _rows(text: str) -> Iterator[Row]:
    """Line and cells of each row that is not empty; the cells are separated by what separates those
    of the header."""
    start = 0
    first = text[: text.find("\n") + 1] or text
    if first.strip().casefold() in ("sep=;", "sep=,", "sep=\t"):  # for Excel
        start, first = len(first), text[len(first) : text.find("\n", len(first)) + 1]
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


def _side_px(text: str) -> int:
    value, _ = parse_number(text)
    return int(value) if value > 0 else 0


class _Table:
    """The rows of a table by image."""

    def __init__(self, columns: Columns):
        self.columns = columns
        self.boxes: dict[str, list[Box]] = defaultdict(list)
        self.first: dict[str, Row] = {}
        self.notes: dict[str, list[Note]] = defaultdict(list)
        self.unplaced: list[Note] = []

    def take(self, line: int, row: list[str]) -> None:
        if any(cell.strip() for cell in row[self.columns.count :]):
            raise LabelError(f"{len(row)} cells below {self.columns.count} columns: is a comma part of a cell?", line)
        cell = self.columns.cell
        image = cell(row, "image")
        if not image:
            self.unplaced.append(Note("W118", "a row that names no image is not read", line))
            return
        self.first.setdefault(image, (line, row))
        name, edges = cell(row, "class"), [cell(row, edge) for edge in _EDGES_table]
        if name or any(edges):
            self.boxes[image].append(self._box(line, row, name, edges, image))

    def _box(self, line: int, row: list[str], name: str, edges: list[str], image: str) -> Box:
        pairs = [parse_number(edge) for edge in edges]
        if any(comma for _, comma in pairs):
            self.notes[image].append(Note("R206", "coordinates with a decimal comma", line))
        xmin, ymin, xmax, ymax = (value for value, _ in pairs)
        if self.columns.sizes:
            xmax, ymax = xmin + xmax, ymin + ymax
        flags = {flag: self.columns.cell(row, flag).lower() in _TRUE for flag in FLAGS if flag in self.columns.places}
        return Box(name, (xmin, ymin, xmax, ymax), line=line, **flags)

    def between_0_and_1(self) -> bool:
        """Whether no coordinate is outside 0..1 while some are strictly inside: a box of pixels
        cannot be so."""
        values = [value for boxes in self.boxes.values() for box in boxes for value in box.xyxy_px if value == value]
        return all(0 <= value <= 1 for value in values) and any(0 < value < 1 for value in values)

    def entry(self, image: str, fractions: bool, names: dict[str, str]) -> Labels:
        line, row = self.first[image]
        boxes = self.boxes.get(image, [])
        if names:
            boxes = [replace(box, class_name=names.get(box.class_name, box.class_name)) for box in boxes]
        return Labels(
            boxes=tuple(boxes),
            image=image,
            width_px=_side_px(self.columns.cell(row, "width")),
            height_px=_side_px(self.columns.cell(row, "height")),
            line=line,
            size_line=line,
            fractions=fractions,
            notes=tuple(self.notes.get(image, ())),
            split=_SPLITS.get(self.columns.cell(row, "split").casefold(), ""),
        )


def _codes_without_names(table: _Table, names: dict[str, str]) -> list[Note]:
    """A note for each class code of Open Images (`/m/0abc1`) that no class-descriptions file names.
    """
    boxes = [box for found in table.boxes.values() for box in found if box.class_name.startswith("/")]
    count = Counter(box.class_name for box in boxes)
    first = {box.class_name: box.line for box in reversed(boxes)}
    return [
        Note("W116", f"class code '{code}' ({counted(number, 'box', 'boxes')}) has no name", first[code])
        for code, number in sorted(count.items())
        if code not in names
    ]


@without_collector()
def read(path: Path) -> LabelFile:
    """All images of a table with their boxes, in the order in which they first occur.

    NotALabelError when its header has no columns of boxes, LabelError when a row has more cells
    than the header.
    """
    if path.stat().st_size > LARGEST_BYTES:
        megabytes = path.stat().st_size // 1_000_000
        raise LabelError(f"{megabytes:,} MB: move it out of the source; invoke download reads such tables in parts")
    text = read_text(path)
    rows = _rows(text)
    line, header = next(rows, (0, []))
    if not header:
        raise NotALabelError("not a table of boxes: the file is empty")
    columns = headerless_columns(header)
    first_rows = [(line, header)] if columns else []
    columns = columns or find_columns(header)
    require_readable(text)
    table = _Table(columns)
    for line, row in chain(first_rows, rows):
        table.take(line, row)
    names = names_beside(path) if columns.open_images else {}
    notes = table.unplaced + (_codes_without_names(table, names) if columns.open_images else [])
    fractions = columns.open_images
    if not fractions and table.between_0_and_1():
        fractions = True
        notes.append(Note("W119", "all coordinates are between 0 and 1: read as shares of width and height", 1))
    entries = (table.entry(image, fractions, names) for image in table.first)
    return LabelFile(path, "csv", tuple(entries), tuple(notes))

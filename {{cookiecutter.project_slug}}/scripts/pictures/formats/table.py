"""Tables of boxes: the tutorial's CSV, ours with five flags more, that of Open Images, and what is like them.

Columns count by name, not by place. The rows of one picture are one entry, wherever they stand; a row with a picture
and nothing else is a picture without objects.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from scripts.pictures.dataset import Box, LabelError, LabelFile, Labels, NotALabelError, Note
from scripts.pictures.formats.open_images_names import names_beside
from scripts.pictures.formats.table_columns import Columns, find_columns, headerless_columns
from scripts.pictures.formats.text import read_text, refuse_unreadable, without_collector
from scripts.pictures.formats.voc import FLAGS, parse_number
from scripts.pipeline.words import counted

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_TRUE = {"1", "1.0", "true", "yes"}  # of Open Images also 0, and -1 for unknown
_SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "dev": "validation",
           "validation": "validation", "test": "test", "testing": "test"}  # fmt: skip
# The whole train table of Open Images: its boxes would not fit into memory.
LARGEST_BYTES = 500_000_000

Row = tuple[int, list[str]]


def _rows(text: str) -> Iterator[Row]:
    """Line and cells of each row that is not empty; the cells are separated by what separates those of the header."""
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
    """The rows of a table by picture."""

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
        picture = cell(row, "picture")
        if not picture:
            self.unplaced.append(Note("W118", "a row that names no picture is not read", line))
            return
        self.first.setdefault(picture, (line, row))
        name, edges = cell(row, "class"), [cell(row, edge) for edge in _EDGES]
        if name or any(edges):
            self.boxes[picture].append(self._box(line, row, name, edges, picture))

    def _box(self, line: int, row: list[str], name: str, edges: list[str], picture: str) -> Box:
        pairs = [parse_number(edge) for edge in edges]
        if any(comma for _, comma in pairs):
            self.notes[picture].append(Note("R206", "coordinates with a decimal comma", line))
        xmin, ymin, xmax, ymax = (value for value, _ in pairs)
        if self.columns.sizes:
            xmax, ymax = xmin + xmax, ymin + ymax
        flags = {flag: self.columns.cell(row, flag).lower() in _TRUE for flag in FLAGS if flag in self.columns.places}
        return Box(name, (xmin, ymin, xmax, ymax), line=line, **flags)

    def between_0_and_1(self) -> bool:
        """Whether no coordinate is outside 0..1 while some are strictly inside: a box of pixels cannot be so."""
        values = [value for boxes in self.boxes.values() for box in boxes for value in box.xyxy_px if value == value]
        return all(0 <= value <= 1 for value in values) and any(0 < value < 1 for value in values)

    def entry(self, picture: str, fractions: bool, names: dict[str, str]) -> Labels:
        line, row = self.first[picture]
        boxes = self.boxes.get(picture, [])
        if names:
            boxes = [replace(box, class_name=names.get(box.class_name, box.class_name)) for box in boxes]
        return Labels(
            boxes=tuple(boxes),
            picture=picture,
            width_px=_side_px(self.columns.cell(row, "width")),
            height_px=_side_px(self.columns.cell(row, "height")),
            line=line,
            size_line=line,
            fractions=fractions,
            notes=tuple(self.notes.get(picture, ())),
            split=_SPLITS.get(self.columns.cell(row, "split").casefold(), ""),
        )


def _codes_without_names(table: _Table, names: dict[str, str]) -> list[Note]:
    """A note for each class code of Open Images (`/m/0abc1`) that no class-descriptions file names."""
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
    """All pictures of a table with their boxes, in the order in which they first occur.

    NotALabelError when its header has no columns of boxes, LabelError when a row has more cells than the header.
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
    refuse_unreadable(text)
    table = _Table(columns)
    for line, row in chain(first_rows, rows):
        table.take(line, row)
    names = names_beside(path) if columns.open_images else {}
    notes = table.unplaced + (_codes_without_names(table, names) if columns.open_images else [])
    fractions = columns.open_images
    if not fractions and table.between_0_and_1():
        fractions = True
        notes.append(Note("W119", "all coordinates are between 0 and 1: read as shares of width and height", 1))
    entries = (table.entry(picture, fractions, names) for picture in table.first)
    return LabelFile(path, "csv", tuple(entries), tuple(notes))

"""`annotations/{split}_labels.csv`: one row a box, in the columns of TensorFlow's tutorial and five
more."""

import csv
import io
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.core.files import write_json, write_text
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, Box, Image
from scripts.data.formats.voc import format_number
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.data.manifest import Stored, read_stored

FLAGS = ("difficult", "truncated", "occluded", "group_of", "is_crowd")
COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", *FLAGS)
CHANGES = "annotations/csv.json"


@dataclass(frozen=True)
class TableCounts:
    """Images and boxes written, and each change or omission: {"what", "file", "line", "class"}."""

    images: int
    boxes: int
    changes: list[dict] = field(default_factory=list)

    def __str__(self) -> str:
        texts = [counted(self.images, "image"), counted(self.boxes, "box", "boxes")]
        for what, count in sorted(Counter(change["what"] for change in self.changes).items()):
            places = [_place(change) for change in self.changes if change["what"] == what]
            names = ", ".join(places[:3]) + (f", ... see {CHANGES}" if count > 3 else "")
            many = what.replace("box", "boxes", 1).replace("image", "images", 1)
            texts.append(f"{counted(count, what, many)} ({names})")
        return ", ".join(texts)


def _place(change: dict) -> str:
    return f"{change['file']}:{change['line']}" if change["line"] else change["file"]


def table_path(root: Path, split: str) -> Path:
    """The CSV file of a split."""
    return root / "annotations" / f"{split}_labels.csv"


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


class _Builder:
    """Rows of the images of one split, and what was changed on the way."""

    def __init__(self, classes: set[str]):
        self.classes = classes
        self.rows: list[list] = []
        self.changes: list[dict] = []
        self.images = self.boxes = 0

    def add(self, stored: Stored) -> None:
        """Rows of one image; an image without boxes is one row too."""
        if stored.facts.error or stored.label is None:
            what = (
                "unreadable image left out"
                if stored.facts.error
                else "image without a readable label file left out"
            )
            self._note(what, stored.shown, 0, "")
            return
        self.images += 1
        start = [stored.path.name, stored.facts.width_px, stored.facts.height_px]
        boxes = []
        for box, line in zip(stored.label.boxes, stored.lines, strict=True):
            usable, what = usable_box(box, stored.facts.width_px, stored.facts.height_px, self.classes)
            if what:
                self._note(what, stored.label_shown, line, box.class_name)
            boxes += [usable] if usable else []
        self.boxes += len(boxes)
        self.rows += [[*start, *_box_cells(box)] for box in boxes] or [start + [""] * (len(COLUMNS) - len(start))]

    def _note(self, what: str, file: str, line: int, class_name: str) -> None:
        self.changes.append({"what": what, "file": file, "line": line, "class": class_name})


def _box_cells(box: Box) -> list:
    return [box.class_name, *map(format_number, box.xyxy_px), *(int(getattr(box, flag)) for flag in FLAGS)]


def _csv_text(rows: list[list]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue()


def write_tables(root: Path) -> TableCounts:
    """Write the three CSV files from `images/`, and `annotations/csv.json` with what could not go
    in as it was.

    Boxes that `check` was told to accept are clipped to the image or dropped; nothing happens
    without a count.
    """
    classes = set(read_label_map(root / LABEL_MAP).values())
    builders = {split: _Builder(classes) for split in SPLITS}
    for stored in read_stored(root, "csv"):
        builders[stored.split].add(stored)
    for split, builder in builders.items():
        write_text(table_path(root, split), _csv_text(builder.rows))
    changes = [change for builder in builders.values() for change in builder.changes]
    write_json(root / CHANGES, {"schema": 1, "changes": changes})
    parts = builders.values()
    return TableCounts(sum(part.images for part in parts), sum(part.boxes for part in parts), changes)


def _row_box(cells: list[str], flags: list[bool], line: int) -> Box:
    return Box(cells[3], (float(cells[4]), float(cells[5]), float(cells[6]), float(cells[7])), *flags, line=line)


def read_table(path: Path) -> list[Image]:
    """Images of a CSV file in their order, boxes in theirs; `path` of each is that in
    `images/{split}/`.

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
    folder = path.parent.parent / "images" / split
    return [Image(folder / name, *size, tuple(boxes[name]), split=split) for name, size in sizes.items()]

"""`eval/suspects.csv`: the list that a person works through, and the marks that the person leaves
in it.

Whatever stands in the column `looked` takes a row off the list for as long as the label stays as it
is.
"""

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scripts.core.files import replacing, write_json, write_text
from scripts.core.runtime import silence_native
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, ious
from scripts.data.drawing import contact_sheet, text_tile
from scripts.data.image_files import open_shrunk
from scripts.data.label_map import LABEL_MAP, class_numbers, read_label_map
from scripts.evaluation.errors import LabelPlaces
from scripts.evaluation.label_issues import KINDS, Suspect, suspects
from scripts.tools.preview import TILE_PX, columns_for, drawn_tile

TABLE = "eval/suspects.csv"
COLUMNS = ("rank", "looked", "kind", "suspicion", "file", "class", "suggested_class", "open", "why", "xmin", "ymin",
           "xmax", "ymax", "suggested_xmin", "suggested_ymin", "suggested_xmax", "suggested_ymax")  # fmt: skip
EDGES, SUGGESTED = COLUMNS[9:13], COLUMNS[13:]
SAME_LABEL_IOU, SAME_FOUND_IOU = 0.98, 0.7
"""A label's box does not move by itself; what is missing is drawn a little differently by another
checkpoint."""


def read_looked(root: Path) -> list[dict]:
    """The rows of the table that a person marked. DetectorError when a table is there and cannot be
    read.

    Spreadsheets write semicolons, tabs and decimal commas in some countries.
    """
    try:
        text = (root / TABLE).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise DetectorError(f"not UTF-8: {TABLE}: save it as UTF-8; it holds what you marked as looked at") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise DetectorError(f"column {missing[0]!r} is missing: {TABLE}:1: put it back, or rename the file")
    return [row for row in reader if (row["looked"] or "").strip()]


def is_looked(row: dict, marks: list[dict]) -> bool:
    """Whether a row (as of `suspects.json`) is one of those marked."""
    return any(_same(row, mark) for mark in marks)


def _same(row: dict, mark: dict) -> bool:
    named = all((row[key] or "") == (mark[key] or "") for key in ("kind", "file", "class"))
    label, suggested = row["box_xyxy_px"], row["suggested_box_xyxy_px"]
    if not named or (row["kind"] in ("class", "missing") and row["suggested_class"] != mark["suggested_class"]):
        return False
    overlap = ious([label or suggested], [_numbers(mark, EDGES if label else SUGGESTED)])[0, 0]
    return overlap >= (SAME_LABEL_IOU if label else SAME_FOUND_IOU)


def _numbers(mark: dict, names: tuple[str, ...]) -> list[float]:
    try:
        return [float(mark[name].replace(",", ".")) for name in names]
    except (ValueError, AttributeError):
        return [0.0] * 4


def write_table(root: Path, rows: list[dict], marks: list[dict]) -> None:
    """Write the rows of the list, then those that were marked before, so that the marks stay."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    writer.writerows({**mark, "rank": ""} for mark in marks)
    write_text(root / TABLE, buffer.getvalue())


def _cells(row: dict) -> dict:
    place = f"{row['annotation'] or row['file']}" + (f":{row['line']}" if row["line"] else "")
    edges = [*(row["box_xyxy_px"] or [""] * 4), *(row["suggested_box_xyxy_px"] or [""] * 4)]
    return {**row, "looked": "", "open": place, **dict(zip(EDGES + SUGGESTED, edges, strict=True))}


# `eval/suspects.png`: the first suspects, each in its image.

SHEET = "eval/suspects.png"
TILES = 24
SMALL = 0.35
"""A box with a longer side under this share of the image's is shown enlarged, with what is around
it."""


def draw_sheet(root: Path, rows: list[dict]) -> None:
    """Draw the first rows of `suspects.json`: labels with a plain frame, what is suggested with a
    dashed one."""
    ids = class_numbers(root)
    tiles = [_tile(root, row, ids) for row in rows[:TILES]] or [text_tile("nothing is suspicious", TILE_PX)]
    captions = [f"{row['rank']} {row['kind']} {row['file'].removeprefix('images/')}" for row in rows[:TILES]] or [""]
    sheet = contact_sheet(tiles, captions, columns_for(len(tiles)), TILE_PX)
    with replacing(root / SHEET) as temporary:
        sheet.save(temporary, "PNG")


def _tile(root: Path, row: dict, ids: dict[str, int]) -> Image.Image:
    try:
        image, size_px = open_shrunk(root / row["file"], 4 * TILE_PX)
    except ValueError as error:
        return text_tile(f"cannot be read: {error}", TILE_PX)
    boxes = _frames(row, ids)
    crop_px = _part([box["box_xyxy_px"] for box in boxes], size_px)
    scale = image.width / size_px[0]
    part = image.crop(tuple(round(value * scale) for value in crop_px))
    shift = (crop_px[0], crop_px[1]) * 2
    moved = [{**box, "box_xyxy_px": [value - by for value, by in zip(box["box_xyxy_px"], shift, strict=True)]}
             for box in boxes]  # fmt: skip
    return drawn_tile(part, (crop_px[2] - crop_px[0], crop_px[3] - crop_px[1]), moved)


def _frames(row: dict, ids: dict[str, int]) -> list[dict]:
    """Frames as `draw_detections` takes them: the label's, and dashed what would be there instead.
    """
    frames = []
    label, suggested = row["class"], row["suggested_class"]
    if row["box_xyxy_px"]:
        note = {"class": f"or {suggested}?", "extra": "nothing here?"}.get(row["kind"], "")
        frames.append({"class": label, "class_id": ids.get(label, 0), "score": None, "note": note,
                       "box_xyxy_px": row["box_xyxy_px"]})  # fmt: skip
    if row["suggested_box_xyxy_px"]:
        note = "here?" if row["kind"] == "box" else "missing?"
        frames.append({"class": suggested, "class_id": ids.get(suggested, 0), "score": None, "note": note,
                       "box_xyxy_px": row["suggested_box_xyxy_px"]})  # fmt: skip
    return frames


def _part(boxes: list, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the image to show: all of it, or when the boxes are small, them with as much
    again around."""
    left, top = (min(box[at] for box in boxes) for at in (0, 1))
    right, bottom = (max(box[at] for box in boxes) for at in (2, 3))
    long_px = max(right - left, bottom - top, 1.0)
    if long_px > SMALL * max(size_px):
        return (0, 0, *size_px)
    middle, reach = ((left + right) / 2, (top + bottom) / 2), 1.5 * long_px
    near = [max(0, math.floor(value - reach)) for value in middle]
    far = [min(side, math.ceil(value + reach)) for value, side in zip(middle, size_px, strict=True)]
    return (*near, *far)


# `invoke suspects`: labels that look wrong to the trained detector, as a list to work through. It
# edits nothing.

LIST = "eval/suspects.json"
FIRST = 5
FEWEST = 24
"""Entries of a list at least, whatever a tenth of the boxes is."""


@dataclass(frozen=True)
class SuspectCounts:
    """The list: `kinds` is kind -> entries, `first` the first entries, `looked` those a person has
    marked as right."""

    images: int
    boxes: int
    kinds: dict[str, int]
    in_test: int
    looked: int
    first: tuple[dict, ...]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.items() if count) or "nothing"
        text = f"{counted(self.images, 'image')}, {counted(self.boxes, 'box', 'boxes')}: {kinds}"
        text += f", {self.looked:,} looked at before" * bool(self.looked) + f"; {TABLE}, {SHEET}"
        if self.in_test:
            text += f"; {self.in_test:,} in test: correcting those changes the figures of every run"
        places = [f"{row['kind']} {row['annotation'] or row['file']}" + (f":{row['line']}" if row["line"] else "")
                  for row in self.first]  # fmt: skip
        return text + (f"; first: {', '.join(places)}" if places else "")


def find_suspects(root: Path, which: str, split: str = "", count: int = 0) -> SuspectCounts:
    """Let checkpoint `which` look at all images and write the list (of `split`), its table and a
    sheet.

    `count` entries (0: a tenth of the boxes). What a person marked in the table is left out and
    stays marked. DetectorError without such a checkpoint or records, for a split that does not
    exist, and for an unreadable table.
    """
    if split and split not in SPLITS:
        near = difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.0)[0]
        raise DetectorError(f"{split!r} is no split: --split: the nearest is '{near}'")
    read_looked(root)
    from scripts.evaluation.detector import load_model
    from scripts.evaluation.label_issues import load_describe, views

    model = load_model(root, which)
    with silence_native():  # TensorFlow prints its own guesses at the cost of cutting images
        return write_suspects(root, views(root, model, load_describe(root), SPLITS), model.checkpoint, split, count)


def write_suspects(root: Path, images: Iterable, checkpoint: str, split: str = "", count: int = 0) -> SuspectCounts:
    """The list of `images` (views), as `find_suspects` writes it."""
    marks, seen = read_looked(root), {}
    found = [one for one in suspects(_noted(images, seen)) if split in ("", one.split)]
    boxes = sum(image["boxes"] for (of, _), image in seen.items() if split in ("", of))
    rows = _rows(root, found, seen, count or max(FEWEST, round(boxes / 10)), marks)
    head = {"schema": 1, "checkpoint": checkpoint, "boxes": boxes,
            "images": sum(split in ("", of) for of, _ in seen)}  # fmt: skip
    write_json(root / LIST, {**head, "suspects": rows})
    write_table(root, rows, marks)
    draw_sheet(root, rows)
    kinds = Counter(row["kind"] for row in rows)
    return SuspectCounts(head["images"], boxes, {kind: kinds[kind] for kind in KINDS},
                         sum(row["split"] == "test" for row in rows), len(marks), tuple(rows[:FIRST]))


def _noted(views, seen: dict) -> Iterator:
    """Passes the views on; `seen` gets size and number of boxes of each image, by split and file
    name."""
    for view in views:
        seen[view.split, view.file_name] = {"file_name": view.file_name, "width": view.width_px,
                                            "height": view.height_px, "boxes": len(view.labels)}  # fmt: skip
        yield view


def _rows(root: Path, found: list[Suspect], images: dict, count: int, marks: list[dict]) -> list[dict]:
    """The first `count` entries that nobody has marked, as they stand in `suspects.json`."""
    names, places, rows = read_label_map(root / LABEL_MAP), LabelPlaces(root), []
    for one in found:
        label, suggested = (names.get(each) for each in (one.label_id, one.suggested_id))
        row = {
            "kind": one.kind,
            "suspicion": round(one.suspicion, 4),
            "split": one.split,
            "file": f"images/{one.split}/{one.file_name}",
            "class": label,
            "suggested_class": suggested,
            "box_xyxy_px": list(one.box_px) if one.box_px else None,
            "suggested_box_xyxy_px": list(one.suggested_px) if one.suggested_px else None,
            "why": why(one, label, suggested),
        }
        if not is_looked(row, marks):
            place = places.of(one.split, images[one.split, one.file_name], label, one.box_px)
            rows.append({"rank": len(rows) + 1, **row, "annotation": place.file, "line": place.line})
        if len(rows) == count:
            break
    return rows


def why(one: Suspect, label: str | None, suggested: str | None) -> str:
    """A sentence for people: what was seen, beside what is usually seen at a label of that split.
    """
    usual = f"labels of {one.split} usually {one.usual:.2f}"
    if one.kind == "missing":
        return f"{suggested} is seen here (score {one.seen:.2f}, {usual}), and there is no label"
    if one.kind == "class":
        return f"labeled {label}, looks like {suggested}"
    if one.kind == "extra":
        return f"labeled {label}, looks like background"
    text = f"the box fits no {label} well (score {one.seen:.2f}, {usual})"
    return text + (f"; the suggested one overlaps it by {one.iou:.2f}" if one.suggested_px else "")

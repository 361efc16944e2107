"""`invoke suspects`: labels that look wrong to the trained detector, as a list to work through.

It edits no label. A person goes through `eval/suspects.csv` and marks rows in its column `looked`:
such a row stays off the list for as long as the label stays as it is.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from scripts.core.files import replacing, write_json, write_text
from scripts.core.layout import Layout
from scripts.core.runtime import silence_native
from scripts.core.text import DetectorError, counted, nearest
from scripts.data.dataset import SPLITS, Corners, ious
from scripts.data.drawing import TILE_PX, columns_for, contact_sheet, drawn_tile, text_tile
from scripts.data.image_files import open_shrunk
from scripts.data.label_map import read_label_map
from scripts.data.manifest import read_manifest
from scripts.evaluation.crop_classifier import crop_describer
from scripts.evaluation.errors import LabelPlaces
from scripts.evaluation.label_issues import KINDS, LabelIssue, View, find_label_issues, views

LIST, TABLE, SHEET = "eval/suspects.json", "eval/suspects.csv", "eval/suspects.png"
# Entries that the summary names.
FIRST = 5
# Entries of a list at least, whatever a tenth of the boxes is.
FEWEST = 24


def find_suspects(root: Path, which: str, split: str = "", count: int = 0) -> str:
    """Judge all labels by a checkpoint and write the list, its table and a sheet.

    Args:
        root: the project.
        which: the checkpoint: `best`, `last` or a step.
        split: list only this split; all splits are judged.
        count: entries of the list; 0: a tenth of the boxes.

    Returns:
        The summary.

    Raises:
        DetectorError: there is no such split or checkpoint, or the table cannot be read.
    """
    if split and split not in SPLITS:
        near = nearest(split, SPLITS, cutoff=0)
        raise DetectorError(f"{split!r} is no split: --split: the nearest is '{near}'")
    read_marks(root / TABLE)  # before the work of minutes
    from scripts.evaluation.detector import checkpoint_path, load_model, pretrained_model

    layout = Layout(root)
    model = load_model(layout.experiment, checkpoint_path(layout.training, which))
    describe = crop_describer(pretrained_model(layout.experiment, root))
    files = {name: layout.records(name) for name in SPLITS}
    with silence_native():  # TensorFlow prints its own guesses at the cost of cutting images
        return write_suspects(root, views(model, describe, files), model.checkpoint, split, count)


def write_suspects(root: Path, images: Iterable[View], checkpoint: str, split: str = "",
                   count: int = 0) -> str:
    """Judge the labels of `images` and write what `find_suspects` writes."""
    layout = Layout(root)
    names, marks = read_label_map(layout.label_map), read_marks(root / TABLE)
    places = LabelPlaces(layout.images, read_manifest(layout.manifest)["images"], names.values())

    # All splits are judged, whichever is listed: the classifier needs every label there is. Of each
    # image only its size is kept, the views of all images would not fit into memory.
    sizes: dict[tuple[str, str], dict] = {}
    issues = find_label_issues(_noting(images, sizes))
    in_split = [size for (of, _), size in sizes.items() if split in ("", of)]
    boxes = sum(size["boxes"] for size in in_split)

    # List the worst that nobody has looked at.
    rows = []
    for issue in issues:
        row = _row(issue, names)
        if split in ("", issue.split) and not is_marked(row, marks):
            image = sizes[issue.split, issue.file_name]
            place = places.find(issue.split, image, row["class"], issue.box_px)
            rows.append(row | {"rank": len(rows) + 1, "annotation": place.file, "line": place.line})
        if len(rows) == (count or max(FEWEST, round(boxes / 10))):
            break

    write_json(root / LIST, {"schema": 1, "checkpoint": checkpoint, "boxes": boxes,
                             "images": len(in_split), "suspects": rows})
    write_text(root / TABLE, table_text(rows, marks))
    with replacing(root / SHEET) as temporary:
        draw_sheet(root, rows, names).save(temporary, "PNG")
    return _summary(len(in_split), boxes, rows, len(marks))


def _noting(images: Iterable[View], sizes: dict) -> Iterable[View]:
    """Pass the views on; note size and number of boxes of each by split and file name."""
    for view in images:
        sizes[view.split, view.file_name] = {
            "file_name": view.file_name, "width": view.width_px, "height": view.height_px,
            "boxes": len(view.label_ids)}
        yield view


def _row(issue: LabelIssue, names: dict[int, str]) -> dict:
    """An entry of `suspects.json`, without its rank and the place of the label."""
    label, suggested = names.get(issue.label_id), names.get(issue.suggested_id)
    return {
        "kind": issue.kind,
        "suspicion": round(issue.suspicion, 4),
        "split": issue.split,
        "file": f"images/{issue.split}/{issue.file_name}",
        "class": label,
        "suggested_class": suggested,
        "box_xyxy_px": list(issue.box_px) if issue.box_px else None,
        "suggested_box_xyxy_px": list(issue.suggested_px) if issue.suggested_px else None,
        "why": why(issue, label, suggested),
    }


def why(issue: LabelIssue, label: str | None, suggested: str | None) -> str:
    """Return a sentence for people: what was seen, beside what is usual in that split."""
    usual = f"labels of {issue.split} usually {issue.usual:.2f}"
    if issue.kind == "missing":
        return f"{suggested} is seen here (score {issue.seen:.2f}, {usual}), and there is no label"
    if issue.kind == "class":
        return f"labeled {label}, looks like {suggested}"
    if issue.kind == "extra":
        return f"labeled {label}, looks like background"
    text = f"the box fits no {label} well (score {issue.seen:.2f}, {usual})"
    return text + f"; the suggested one overlaps it by {issue.iou:.2f}" * bool(issue.suggested_px)


def _summary(images: int, boxes: int, rows: list[dict], marked: int) -> str:
    kinds = Counter(row["kind"] for row in rows)
    found = ", ".join(f"{kinds[kind]:,} {kind}" for kind in KINDS if kinds[kind]) or "nothing"
    text = f"{counted(images, 'image')}, {counted(boxes, 'box', 'boxes')}: {found}"
    text += f", {marked:,} looked at before" * bool(marked) + f"; {TABLE}, {SHEET}"
    in_test = sum(row["split"] == "test" for row in rows)
    if in_test:
        text += f"; {in_test:,} in test: correcting those changes the figures of every run"
    places = ", ".join(f"{row['kind']} {_place(row)}" for row in rows[:FIRST])
    return text + f"; first: {places}" * bool(places)


def _place(row: dict) -> str:
    """The file and line to open."""
    return f"{row['annotation'] or row['file']}" + f":{row['line']}" * bool(row["line"])


# The table, and the marks that a person leaves in it.

COLUMNS = ("rank", "looked", "kind", "suspicion", "file", "class", "suggested_class", "open", "why",
           "xmin", "ymin", "xmax", "ymax",
           "suggested_xmin", "suggested_ymin", "suggested_xmax", "suggested_ymax")
EDGES, SUGGESTED = COLUMNS[9:13], COLUMNS[13:]
# A label's box does not move by itself; what is missing is drawn a little differently by another
# checkpoint.
SAME_LABEL_IOU, SAME_FOUND_IOU = 0.98, 0.7


def read_marks(path: Path) -> list[dict]:
    """Return the rows of the table that a person marked.

    Spreadsheets write semicolons, tabs and decimal commas in some countries. Raises DetectorError
    when a table is there and cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise DetectorError(f"not UTF-8: {TABLE}: save it as UTF-8; it holds what you marked as "
                            "looked at") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise DetectorError(f"column {missing[0]!r} is missing: {TABLE}:1: put it back, or rename "
                            "the file")
    return [row for row in reader if (row["looked"] or "").strip()]


def is_marked(row: dict, marks: list[dict]) -> bool:
    """Return whether an entry of the list is one of those marked."""
    return any(_same(row, mark) for mark in marks)


def _same(row: dict, mark: dict) -> bool:
    named = ("kind", "file", "class")
    if row["kind"] in ("class", "missing"):
        named += ("suggested_class",)
    if any((row[key] or "") != (mark[key] or "") for key in named):
        return False
    label, suggested = row["box_xyxy_px"], row["suggested_box_xyxy_px"]
    overlap = ious([label or suggested], [_numbers(mark, EDGES if label else SUGGESTED)])[0, 0]
    return overlap >= (SAME_LABEL_IOU if label else SAME_FOUND_IOU)


def _numbers(mark: dict, names: tuple[str, ...]) -> list[float]:
    try:
        return [float(mark[name].replace(",", ".")) for name in names]
    except (ValueError, AttributeError):
        return [0.0] * 4


def table_text(rows: list[dict], marks: list[dict]) -> str:
    """Return the table: the list, then the rows that were marked before, so that the marks stay."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        edges = [*(row["box_xyxy_px"] or [""] * 4), *(row["suggested_box_xyxy_px"] or [""] * 4)]
        writer.writerow({**row, "looked": "", "open": _place(row),
                         **dict(zip(EDGES + SUGGESTED, edges, strict=True))})
    writer.writerows({**mark, "rank": ""} for mark in marks)
    return buffer.getvalue()


# The sheet: the first entries, each in its image.

TILES = 24
# A box with a longer side under this share of the image's is shown enlarged, with what is around
# it.
SMALL = 0.35


def draw_sheet(root: Path, rows: list[dict], names: dict[int, str]) -> Image.Image:
    """Draw the first entries: labels with a plain frame, what is suggested with a dashed one."""
    ids = {name: number - 1 for number, name in names.items()}
    shown = rows[:TILES]
    tiles = [_tile(root / row["file"], row, ids) for row in shown]
    captions = [f"{row['rank']} {row['kind']} {row['file'].removeprefix('images/')}"
                for row in shown]
    if not tiles:
        tiles, captions = [text_tile("nothing is suspicious", TILE_PX)], [""]
    return contact_sheet(tiles, captions, columns_for(len(tiles)), TILE_PX)


def _tile(path: Path, row: dict, ids: dict[str, int]) -> Image.Image:
    try:
        image, size_px = open_shrunk(path, 4 * TILE_PX)
    except ValueError as error:
        return text_tile(f"cannot be read: {error}", TILE_PX)
    frames = _frames(row, ids)
    left, top, right, bottom = _part([frame["box_xyxy_px"] for frame in frames], size_px)
    scale = image.width / size_px[0]
    part = image.crop(tuple(round(value * scale) for value in (left, top, right, bottom)))
    for frame in frames:
        xmin, ymin, xmax, ymax = frame["box_xyxy_px"]
        frame["box_xyxy_px"] = [xmin - left, ymin - top, xmax - left, ymax - top]
    return drawn_tile(part, (right - left, bottom - top), frames)


def _frames(row: dict, ids: dict[str, int]) -> list[dict]:
    """Frames as `draw_detections` takes them; those with a note are dashed."""
    notes = {"class": f"or {row['suggested_class']}?", "extra": "nothing here?"}
    suggested_note = "here?" if row["kind"] == "box" else "missing?"
    sides = ((row["class"], row["box_xyxy_px"], notes.get(row["kind"], "")),
             (row["suggested_class"], row["suggested_box_xyxy_px"], suggested_note))
    return [{"class": name, "class_id": ids.get(name, 0), "score": None, "note": note,
             "box_xyxy_px": edges} for name, edges, note in sides if edges]


def _part(boxes: list[Corners], size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the image to show: all, or of small boxes them with as much again around."""
    left, top = (min(box[at] for box in boxes) for at in (0, 1))
    right, bottom = (max(box[at] for box in boxes) for at in (2, 3))
    long_px = max(right - left, bottom - top, 1.0)
    if long_px > SMALL * max(size_px):
        return (0, 0, *size_px)
    middle, reach = ((left + right) / 2, (top + bottom) / 2), 1.5 * long_px
    near = [max(0, math.floor(value - reach)) for value in middle]
    far = [min(side, math.ceil(value + reach)) for value, side in zip(middle, size_px, strict=True)]
    return (*near, *far)

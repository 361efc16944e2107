"""`invoke suspects`: labels that look wrong to the trained detector, as a list to work through. It edits nothing."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.evaluation.label_places import LabelPlaces
from scripts.evaluation.suspects_sheet import SHEET, draw_sheet
from scripts.evaluation.suspects_table import TABLE, is_looked, read_looked, write_table
from scripts.evaluation.suspicion import KINDS, Suspect, suspects
from scripts.pictures.split import SPLITS
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_json
from scripts.pipeline.words import counted
from scripts.records.label_map import LABEL_MAP, read_label_map

LIST = "eval/suspects.json"
FIRST = 5
FEWEST = 24
"""Entries of a list at least, whatever a tenth of the boxes is."""


@dataclass(frozen=True)
class SuspectCounts:
    """The list: `kinds` is kind -> entries, `first` the first entries, `looked` those a person has marked as right."""

    pictures: int
    boxes: int
    kinds: dict[str, int]
    in_test: int
    looked: int
    first: tuple[dict, ...]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.items() if count) or "nothing"
        text = f"{counted(self.pictures, 'picture')}, {counted(self.boxes, 'box', 'boxes')}: {kinds}"
        text += f", {self.looked:,} looked at before" * bool(self.looked) + f"; {TABLE}, {SHEET}"
        if self.in_test:
            text += f"; {self.in_test:,} in test: correcting those changes the figures of every run"
        places = [f"{row['kind']} {row['annotation'] or row['file']}" + (f":{row['line']}" if row["line"] else "")
                  for row in self.first]  # fmt: skip
        return text + (f"; first: {', '.join(places)}" if places else "")


def find_suspects(root: Path, which: str, split: str = "", count: int = 0) -> SuspectCounts:
    """Let checkpoint `which` look at all pictures and write the list (of `split`), its table and a sheet.

    `count` entries (0: a tenth of the boxes). What a person marked in the table is left out and stays marked.
    DetectorError without such a checkpoint or records, for a split that does not exist, and for an unreadable table.
    """
    if split and split not in SPLITS:
        near = difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.0)[0]
        raise DetectorError(f"{split!r} is no split: --split: the nearest is '{near}'")
    read_looked(root)
    from scripts.evaluation.crops import load_describe
    from scripts.evaluation.model import load_model
    from scripts.evaluation.views import views
    from scripts.training.quiet import quiet_native

    model = load_model(root, which)
    with quiet_native():  # TensorFlow prints its own guesses at the cost of cutting pictures
        return write_suspects(root, views(root, model, load_describe(root), SPLITS), model.checkpoint, split, count)


def write_suspects(root: Path, pictures: Iterable, checkpoint: str, split: str = "", count: int = 0) -> SuspectCounts:
    """The list of `pictures` (views), as `find_suspects` writes it."""
    marks, seen = read_looked(root), {}
    found = [one for one in suspects(_noted(pictures, seen)) if split in ("", one.split)]
    boxes = sum(image["boxes"] for (of, _), image in seen.items() if split in ("", of))
    rows = _rows(root, found, seen, count or max(FEWEST, round(boxes / 10)), marks)
    head = {"schema": 1, "checkpoint": checkpoint, "boxes": boxes,
            "pictures": sum(split in ("", of) for of, _ in seen)}  # fmt: skip
    write_json(root / LIST, {**head, "suspects": rows})
    write_table(root, rows, marks)
    draw_sheet(root, rows)
    kinds = Counter(row["kind"] for row in rows)
    return SuspectCounts(head["pictures"], boxes, {kind: kinds[kind] for kind in KINDS},
                         sum(row["split"] == "test" for row in rows), len(marks), tuple(rows[:FIRST]))


def _noted(views, seen: dict) -> Iterator:
    """Passes the views on; `seen` gets size and number of boxes of each picture, by split and file name."""
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
    """A sentence for people: what was seen, beside what is usually seen at a label of that split."""
    usual = f"labels of {one.split} usually {one.usual:.2f}"
    if one.kind == "missing":
        return f"{suggested} is seen here (score {one.seen:.2f}, {usual}), and there is no label"
    if one.kind == "class":
        return f"labelled {label}, looks like {suggested}"
    if one.kind == "extra":
        return f"labelled {label}, looks like background"
    text = f"the box fits no {label} well (score {one.seen:.2f}, {usual})"
    return text + (f"; the suggested one overlaps it by {one.iou:.2f}" if one.suggested_px else "")

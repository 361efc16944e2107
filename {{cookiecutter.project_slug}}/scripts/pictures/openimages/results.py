"""What a download leaves in images/source/openimages: pictures by split, boxes.csv, the names of the classes."""

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from scripts.pictures.openimages.choose import COLUMNS, passes, read_boxes
from scripts.pictures.openimages.layout import BOXES_FILE, CLASSES_FILE, FOLDER, SPLITS, UNUSED, picture_path
from scripts.pipeline.files import TEMPORARY_PREFIX, write_text

MARK = "IsDifficult"
"""Column behind the official ones: 1 for a box that did not pass the filters; see `choose`."""


def stored_ids(root: Path, split: str) -> set[str]:
    """Ids of the pictures of a split that are there."""
    folder = root / FOLDER / split
    names = os.listdir(folder) if folder.is_dir() else []
    return {name[:-4] for name in names if name.endswith(".jpg") and not name.startswith(TEMPORARY_PREFIX)}


def arrange(root: Path, chosen: Mapping[str, Collection[str]]) -> tuple[int, int]:
    """Make the folders hold chosen pictures only (split -> ids): others move to `.unused`, from where they come back
    when they are chosen again. Returns how many moved out and in. Nothing that was fetched is deleted."""
    moved_out = moved_in = 0
    for split in SPLITS:
        there, wanted = stored_ids(root, split), set(chosen.get(split, ()))
        _remove_unfinished(root / FOLDER / split)
        for image_id in there - wanted:
            moved_out += _move(picture_path(root, split, image_id), _unused_path(root, split, image_id))
        for image_id in wanted - there:
            moved_in += _move(_unused_path(root, split, image_id), picture_path(root, split, image_id))
    return moved_out, moved_in


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def _unused_path(root: Path, split: str, image_id: str) -> Path:
    return root / FOLDER / UNUSED / split / f"{image_id}.jpg"


def _move(source: Path, target: Path) -> bool:
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    return True


def write_boxes(root: Path, slices: Mapping[str, Path], owner: Mapping[str, str], stored: Mapping[str, Collection[str]],
                settings) -> tuple[Counter, int]:
    """Write the boxes of the stored pictures (split -> ids), sorted; return boxes by MID and how many are marked."""
    lines: list[str] = []
    counts: Counter[str] = Counter()
    marked = 0
    for split, path in slices.items():
        wanted = set(stored[split])
        for chunk in read_boxes(path, owner):
            chunk = chunk[chunk["ImageID"].isin(wanted)]
            mark = (~passes(chunk, settings)).astype(int)
            counts.update(chunk["LabelName"])
            marked += int(mark.sum())
            lines += chunk.assign(**{MARK: mark}).to_csv(header=False, index=False, lineterminator="\n").splitlines()
    text = "\n".join([",".join((*COLUMNS, MARK)), *sorted(lines), ""])
    write_text(root / FOLDER / BOXES_FILE, text)
    return counts, marked


def write_class_names(root: Path, labels: Mapping[str, str]) -> None:
    """Write MID and name of each wanted class; the name is the one in source.labels, which later steps compare with."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("LabelName", "DisplayName"), *labels.items()])
    write_text(root / FOLDER / CLASSES_FILE, out.getvalue())

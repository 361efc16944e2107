"""`invoke convert`: the pictures of `images/` with their labels in another format, for other tools."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside, write_bytes, write_json, write_text
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, Picture
from scripts.data.formats.voc import voc_xml
from scripts.data.formats.writers import coco_text, flags_text, yolo_text, yolo_yaml
from scripts.data.formats.yolo import FLAGS_FILE
from scripts.data.manifest import Stored, read_stored

# Hidden, so that no reader takes it for labels: the files that we wrote and may replace.
MARKER = ".convert.json"


@dataclass(frozen=True)
class ConvertCounts:
    """What was written, and where."""

    format: str
    pictures: int
    boxes: int
    classes: int
    flagged: int
    shown: str

    def __str__(self) -> str:
        parts = [counted(self.pictures, "picture"), counted(self.boxes, "box", "boxes")]
        parts.append(counted(self.classes, "class", "classes"))
        if self.format == "yolo" and self.flagged:
            parts.append(f"flags of {counted(self.flagged, 'box', 'boxes')} in {FLAGS_FILE}")
        return f"{', '.join(parts)} as {self.format} in {self.shown}"


def _by_split(pictures: list[Picture]) -> dict[str, list[Picture]]:
    found = {split: [picture for picture in pictures if picture.split == split] for split in SPLITS}
    return {split: here for split, here in found.items() if here}


def write_coco(folder: Path, pictures: list[Picture], ids: dict[str, int]) -> dict[Path, str]:
    """`annotations/instances_SPLIT.json`; returns the place of each picture, relative to `folder`."""
    for split, here in _by_split(pictures).items():
        write_text(folder / "annotations" / f"instances_{split}.json", coco_text(here, ids))
    return {picture.path: f"{picture.split}/{picture.path.name}" for picture in pictures}


def write_yolo(folder: Path, pictures: list[Picture], ids: dict[str, int]) -> dict[Path, str]:
    """`SPLIT/labels/NAME.txt`, `data.yaml`, and `flags.tsv` if there are flags; returns the places as above."""
    names = sorted(ids, key=ids.__getitem__)
    numbers = {name: number for number, name in enumerate(names)}
    labelled = [(f"{picture.split}/labels/{picture.path.stem}.txt", picture) for picture in pictures]
    for label, picture in labelled:
        write_text(folder / label, yolo_text(picture, numbers))
    write_text(folder / "data.yaml", yolo_yaml(list(_by_split(pictures)), names))
    flags = flags_text(labelled)
    if flags.count("\n") > 1:
        write_text(folder / FLAGS_FILE, flags)
    return {picture.path: f"{picture.split}/images/{picture.path.name}" for picture in pictures}


def write_voc(folder: Path, pictures: list[Picture], ids: dict[str, int]) -> dict[Path, str]:
    """`SPLIT/NAME.xml`; returns the places as above. Class numbers are not part of this format."""
    for picture in pictures:
        sides = (picture.width_px, picture.height_px)
        xml = voc_xml(picture.split, picture.path.name, *sides, picture.boxes)
        write_bytes(folder / picture.split / f"{picture.path.stem}.xml", xml)
    return {picture.path: f"{picture.split}/{picture.path.name}" for picture in pictures}


WRITERS: dict[str, Callable[[Path, list[Picture], dict[str, int]], dict[Path, str]]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}


def _problem(stored: Stored) -> tuple[str, str, int]:
    """Why a picture cannot be converted, the file and the line to look at; ("", "", 0) if it can."""
    if stored.facts.error:
        return stored.facts.error, stored.shown, 0
    if stored.label is None:
        return stored.label_error or "it has no label file", stored.label_shown, stored.label_error_line
    for box, line in zip(stored.label.boxes, stored.lines, strict=True):
        if any(value != value for value in box.xyxy_px):
            return "a coordinate is not a number", stored.label_shown, line
        if not box.class_name:
            return "a box has no class", stored.label_shown, line
    return "", "", 0


def _pictures(root: Path) -> list[Picture]:
    """All pictures of `images/` with their boxes. DetectorError when there are none or one cannot be converted."""
    stored = read_stored(root, "convert")
    if not stored:
        raise DetectorError("there are no pictures: images: run `invoke organize`")
    problems = [problem for problem in map(_problem, stored) if problem[0]]
    if problems:
        why, file, line = problems[0]
        where = f"{file}:{line}" if line else file
        raise DetectorError(
            f"{counted(len(problems), 'picture')} cannot be converted, the first because {why}: {where}: "
            "run `invoke check`, which lists them all"
        )
    return [
        Picture(one.path, one.facts.width_px, one.facts.height_px, one.label.boxes, split=one.split) for one in stored
    ]


def _numbers(pictures: list[Picture], label_map: dict[int, str]) -> dict[str, int]:
    """Class numbers by name: those of the label map, then the other classes by name."""
    ids = {name: number for number, name in label_map.items()}
    for name in sorted({box.class_name for picture in pictures for box in picture.boxes} - set(ids)):
        ids[name] = max(ids.values(), default=0) + 1
    return ids


def _refuse_foreign(out: Path, shown: str) -> None:
    """DetectorError when `out` holds anything that we did not write."""
    if out.exists() and not out.is_dir():
        raise DetectorError(f"--out is a file: {shown}: choose a folder")
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} - {MARKER}
    try:
        ours = set(json.loads((out / MARKER).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    foreign = sorted(there - ours)
    if foreign:
        raise DetectorError(
            f"{counted(len(foreign), 'file')} of yours would be lost, the first '{foreign[0]}': {shown}: "
            "choose another --out, or delete the folder"
        )


def _copy(task: tuple[str, str]) -> None:
    # A copy and no link: what is done to it there must not reach images/.
    Path(task[1]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(*task)


def convert(root: Path, to: str, out: Path | None, label_map: dict[int, str]) -> ConvertCounts:
    """Write the pictures of `images/` with labels in the format `to` (coco, yolo, voc) into `out`.

    `out` None: `images/converted/FORMAT`; it is replaced as a whole and has to be empty or from an earlier run.
    `label_map` are class names by id, {} if there is no map yet. DetectorError when a picture cannot be converted.
    """
    if to not in WRITERS:
        raise DetectorError(f"--to '{to}' is none of {', '.join(WRITERS)}: invoke convert: choose one of them")
    out = out or root / "images" / "converted" / to
    shown = out.relative_to(root).as_posix() if out.is_relative_to(root) else str(out)
    _refuse_foreign(out, shown)
    pictures = _pictures(root)
    ids = _numbers(pictures, label_map)
    folder = temporary_beside(out)
    try:
        places = WRITERS[to](folder, pictures, ids)
        list(map_items(_copy, [(str(path), str(folder / place)) for path, place in places.items()], "convert"))
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_json(folder / MARKER, {"schema": 1, "format": to, "files": files})
        replace_dir(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    boxes = [box for picture in pictures for box in picture.boxes]
    used = Counter(box.class_name for box in boxes)
    flagged = sum(box.difficult or box.truncated or box.occluded or box.group_of or box.is_crowd for box in boxes)
    return ConvertCounts(to, len(pictures), len(boxes), len(used), flagged, shown)

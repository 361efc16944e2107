"""`invoke convert`: the images of `images/` with their labels in another format, for other tools.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside, write_bytes, write_json, write_text
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, Image
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
    images: int
    boxes: int
    classes: int
    flagged: int
    shown: str

    def __str__(self) -> str:
        parts = [counted(self.images, "image"), counted(self.boxes, "box", "boxes")]
        parts.append(counted(self.classes, "class", "classes"))
        if self.format == "yolo" and self.flagged:
            parts.append(f"flags of {counted(self.flagged, 'box', 'boxes')} in {FLAGS_FILE}")
        return f"{', '.join(parts)} as {self.format} in {self.shown}"


def _by_split(images: list[Image]) -> dict[str, list[Image]]:
    found = {split: [image for image in images if image.split == split] for split in SPLITS}
    return {split: here for split, here in found.items() if here}


def write_coco(folder: Path, images: list[Image], ids: dict[str, int]) -> dict[Path, str]:
    """`annotations/instances_SPLIT.json`; returns the place of each image, relative to `folder`."""
    for split, here in _by_split(images).items():
        write_text(folder / "annotations" / f"instances_{split}.json", coco_text(here, ids))
    return {image.path: f"{image.split}/{image.path.name}" for image in images}


def write_yolo(folder: Path, images: list[Image], ids: dict[str, int]) -> dict[Path, str]:
    """`SPLIT/labels/NAME.txt`, `data.yaml`, and `flags.tsv` if there are flags; returns the places
    as above."""
    names = sorted(ids, key=ids.__getitem__)
    numbers = {name: number for number, name in enumerate(names)}
    labeled = [(f"{image.split}/labels/{image.path.stem}.txt", image) for image in images]
    for label, image in labeled:
        write_text(folder / label, yolo_text(image, numbers))
    write_text(folder / "data.yaml", yolo_yaml(list(_by_split(images)), names))
    flags = flags_text(labeled)
    if flags.count("\n") > 1:
        write_text(folder / FLAGS_FILE, flags)
    return {image.path: f"{image.split}/images/{image.path.name}" for image in images}


def write_voc(folder: Path, images: list[Image], ids: dict[str, int]) -> dict[Path, str]:
    """`SPLIT/NAME.xml`; returns the places as above. Class numbers are not part of this format."""
    for image in images:
        sides = (image.width_px, image.height_px)
        xml = voc_xml(image.split, image.path.name, *sides, image.boxes)
        write_bytes(folder / image.split / f"{image.path.stem}.xml", xml)
    return {image.path: f"{image.split}/{image.path.name}" for image in images}


WRITERS: dict[str, Callable[[Path, list[Image], dict[str, int]], dict[Path, str]]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}


def _problem(stored: Stored) -> tuple[str, str, int]:
    """Why an image cannot be converted, the file and the line to look at; ("", "", 0) if it can."""
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


def _images(root: Path) -> list[Image]:
    """All images of `images/` with their boxes. DetectorError when there are none or one cannot be
    converted."""
    stored = read_stored(root, "convert")
    if not stored:
        raise DetectorError("there are no images: images: run `invoke organize`")
    problems = [problem for problem in map(_problem, stored) if problem[0]]
    if problems:
        why, file, line = problems[0]
        where = f"{file}:{line}" if line else file
        raise DetectorError(
            f"{counted(len(problems), 'image')} cannot be converted, the first because {why}: {where}: "
            "run `invoke check`, which lists them all"
        )
    return [
        Image(one.path, one.facts.width_px, one.facts.height_px, one.label.boxes, split=one.split) for one in stored
    ]


def _numbers(images: list[Image], label_map: dict[int, str]) -> dict[str, int]:
    """Class numbers by name: those of the label map, then the other classes by name."""
    ids = {name: number for number, name in label_map.items()}
    for name in sorted({box.class_name for image in images for box in image.boxes} - set(ids)):
        ids[name] = max(ids.values(), default=0) + 1
    return ids


def _refuse_strangers(out: Path, shown: str) -> None:
    """DetectorError when `out` holds anything that we did not write."""
    if out.exists() and not out.is_dir():
        raise DetectorError(f"--out is a file: {shown}: choose a folder")
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} - {MARKER}
    try:
        ours = set(json.loads((out / MARKER).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    strangers = sorted(there - ours)
    if strangers:
        raise DetectorError(
            f"{counted(len(strangers), 'file')} of yours would be lost, the first '{strangers[0]}': {shown}: "
            "choose another --out, or delete the folder"
        )


def _copy(task: tuple[str, str]) -> None:
    # A copy and no link: what is done to it there must not reach images/.
    Path(task[1]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(*task)


def convert(root: Path, to: str, out: Path | None, label_map: dict[int, str]) -> ConvertCounts:
    """Write the images of `images/` with labels in the format `to` (coco, yolo, voc) into `out`.

    `out` None: `images/converted/FORMAT`; it is replaced as a whole and has to be empty or from an
    earlier run. `label_map` are class names by id, {} if there is no map yet. DetectorError when an
    image cannot be converted.
    """
    if to not in WRITERS:
        raise DetectorError(f"--to '{to}' is none of {', '.join(WRITERS)}: invoke convert: choose one of them")
    out = out or root / "images" / "converted" / to
    shown = out.relative_to(root).as_posix() if out.is_relative_to(root) else str(out)
    _refuse_strangers(out, shown)
    images = _images(root)
    ids = _numbers(images, label_map)
    folder = temporary_beside(out)
    try:
        places = WRITERS[to](folder, images, ids)
        list(map_items(_copy, [(str(path), str(folder / place)) for path, place in places.items()], "convert"))
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_json(folder / MARKER, {"schema": 1, "format": to, "files": files})
        replace_dir(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    boxes = [box for image in images for box in image.boxes]
    used = Counter(box.class_name for box in boxes)
    flagged = sum(box.difficult or box.truncated or box.occluded or box.group_of or box.is_crowd for box in boxes)
    return ConvertCounts(to, len(images), len(boxes), len(used), flagged, shown)

"""`invoke convert`: write images and labels in another format, for other tools."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside, write_bytes, write_json, write_text
from scripts.core.layout import Layout
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, Image
from scripts.data.formats.coco import coco_text
from scripts.data.formats.voc import voc_xml
from scripts.data.formats.yolo import FLAGS_FILE, flags_text, yolo_text, yolo_yaml
from scripts.data.manifest import Stored, entries_by_name, read_manifest, read_stored

# Names the files that a run wrote and the next one may replace. Hidden, as it holds no labels.
MARKER = ".convert.json"


def _by_split(images: list[Image]) -> dict[str, list[Image]]:
    found = {split: [image for image in images if image.split == split] for split in SPLITS}
    return {split: here for split, here in found.items() if here}


def write_coco(folder: Path, images: list[Image], ids: dict[str, int]) -> dict[Path, str]:
    """Write `annotations/instances_SPLIT.json`; return where in `folder` each image belongs."""
    for split, here in _by_split(images).items():
        write_text(folder / "annotations" / f"instances_{split}.json", coco_text(here, ids))
    return {image.path: f"{image.split}/{image.path.name}" for image in images}


def write_yolo(folder: Path, images: list[Image], ids: dict[str, int]) -> dict[Path, str]:
    """Write `SPLIT/labels/NAME.txt`, `data.yaml`, and `flags.tsv` if there are flags.

    Returns:
        Where in `folder` each image belongs.
    """
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
    """Write `SPLIT/NAME.xml`, without class numbers; return where each image belongs."""
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
    """Return why an image cannot be converted, the file and the line; ("", "", 0) if it can."""
    if stored.facts.error:
        return stored.facts.error, stored.shown, 0
    if stored.label is None:
        why = stored.label_error or "it has no label file"
        return why, stored.label_shown, stored.label_error_line
    for box, line in zip(stored.label.boxes, stored.lines, strict=True):
        if any(value != value for value in box.xyxy_px):
            return "a coordinate is not a number", stored.label_shown, line
        if not box.class_name:
            return "a box has no class", stored.label_shown, line
    return "", "", 0


def _labeled_images(layout: Layout) -> list[Image]:
    """Return all images of `images/` with their boxes.

    Raises:
        DetectorError: there are none, or one cannot be converted.
    """
    entries = entries_by_name(read_manifest(layout.manifest))
    images = read_stored(layout.images, entries, "convert")
    if not images:
        raise DetectorError("there are no images: images: run `invoke organize`")
    problems = [problem for problem in map(_problem, images) if problem[0]]
    if problems:
        why, file, line = problems[0]
        where = f"{file}:{line}" if line else file
        raise DetectorError(
            f"{counted(len(problems), 'image')} cannot be converted, the first because {why}: "
            f"{where}: run `invoke check`, which lists them all")
    return [Image(stored.path, stored.facts.width_px, stored.facts.height_px, stored.label.boxes,
                  split=stored.split) for stored in images]


def _class_numbers(images: list[Image], label_map: dict[int, str]) -> dict[str, int]:
    """Return class numbers by name: those of the label map, then the other classes by name."""
    ids = {name: number for number, name in label_map.items()}
    for name in sorted({box.class_name for image in images for box in image.boxes} - set(ids)):
        ids[name] = max(ids.values(), default=0) + 1
    return ids


def _require_own_folder(out: Path, shown: str) -> None:
    """Raise DetectorError when `out` holds anything that an earlier run did not write."""
    if out.exists() and not out.is_dir():
        raise DetectorError(f"--out is a file: {shown}: choose a folder")
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        written = set(json.loads((out / MARKER).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        written = set()
    others = sorted(files - written - {MARKER})
    if others:
        raise DetectorError(
            f"{counted(len(others), 'file')} of yours would be lost, the first '{others[0]}': "
            f"{shown}: choose another --out, or delete the folder")


def _copy(task: tuple[str, str]) -> None:
    # A copy and no link: what is done to it there must not reach images/.
    Path(task[1]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(*task)


def convert(root: Path, to: str, out: Path | None, label_map: dict[int, str]) -> str:
    """Write the images of `images/` with labels in another format.

    Args:
        root: the folder of the project.
        to: the format, a key of `WRITERS`.
        out: the folder to write, `images/converted/FORMAT` for None. It is replaced as a whole and
            has to be empty or from an earlier run.
        label_map: class names by id, {} if there is no map yet.

    Returns:
        The summary.

    Raises:
        DetectorError: an image cannot be converted, or `out` holds other files.
    """
    if to not in WRITERS:
        raise DetectorError(f"--to '{to}' is none of {', '.join(WRITERS)}: invoke convert: choose "
                            "one of them")
    layout = Layout(root)
    out = out or layout.images / "converted" / to
    shown = layout.shown(out)
    _require_own_folder(out, shown)
    images = _labeled_images(layout)

    # Labels first, then the images beside them; the folder appears when all is written.
    folder = temporary_beside(out)
    try:
        places = WRITERS[to](folder, images, _class_numbers(images, label_map))
        tasks = [(str(path), str(folder / place)) for path, place in places.items()]
        list(map_items(_copy, tasks, "convert"))
        files = sorted(path.relative_to(folder).as_posix()
                       for path in folder.rglob("*") if path.is_file())
        write_json(folder / MARKER, {"schema": 1, "format": to, "files": files})
        replace_dir(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return f"{_summary(to, images)} as {to} in {shown}"


def _summary(to: str, images: list[Image]) -> str:
    boxes = [box for image in images for box in image.boxes]
    texts = [counted(len(images), "image"), counted(len(boxes), "box", "boxes"),
             counted(len({box.class_name for box in boxes}), "class", "classes")]
    flagged = sum(box.difficult or box.truncated or box.occluded or box.group_of or box.is_crowd
                  for box in boxes)
    if to == "yolo" and flagged:
        texts.append(f"flags of {counted(flagged, 'box', 'boxes')} in {FLAGS_FILE}")
    return ", ".join(texts)

"""The manifest `annotations/organize.json`, and what lies in `images/` now compared with it.

The manifest keeps an entry for each image that organize wrote: its name, the file it came from,
SHA-256 of what was written, and the lines of its boxes in the source's label file. With it the
images that the user changed, moved or deleted are told from those that are as they were written.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.core.files import sha256_file
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError
from scripts.data.dataset import SPLITS, LabelError, Labels
from scripts.data.formats.voc import read_voc, read_written
from scripts.data.image_files import ImageFacts, inspect_image, is_complete
from scripts.data.source import IMAGE_SUFFIXES


def read_manifest(path: Path) -> dict:
    """Return the content of `organize.json`, an empty manifest when there is none.

    Raises:
        DetectorError: the file is broken.
    """
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest.get("schema") == 1:
            return manifest
        problem = f"schema {manifest.get('schema')!r} is not 1"
    except FileNotFoundError:
        return {"schema": 1, "source": {}, "counts": {}, "images": [], "findings": []}
    except (ValueError, AttributeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: annotations/{path.name}: delete it, then `invoke organize`")


def entries_by_name(manifest: dict) -> dict[str, dict]:
    """Return the entries of the images by name without extension, which is unique in `images/`."""
    return {entry["name"]: entry for entry in manifest["images"]}


def stored_images(images: Path) -> dict[str, Path]:
    """Return the image files of the folder `images` by `SPLIT/NAME.jpg`, in order."""
    found = {}
    for split in SPLITS:
        folder = images / split
        paths = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
        for path in paths:
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                found[f"{split}/{path.name}"] = path
    return found


def stored_labels(images: Path) -> list[Path]:
    """Return the label files of the folder `images`, in order."""
    return [path for split in SPLITS for path in sorted((images / split).glob("*.xml"))]


def is_as_written(image: Path, entry: dict) -> bool:
    """Return whether an image and its label file are still what organize wrote."""
    label = image.with_suffix(".xml")
    return (label.exists() and sha256_file(label) == entry.get("xml_sha256")
            and sha256_file(image) == entry.get("image_sha256"))


def read_label(path: Path, entry: dict | None) -> tuple[Labels, bool]:
    """Read the label file of an image of `images/`.

    Returns:
        The labels, and whether the file is as organize wrote it by the entry of the manifest. Such
        a file needs no parser, which takes most of the time otherwise.

    Raises:
        LabelError: the file cannot be read.
        FileNotFoundError: it is not there.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LabelError(f"cannot be opened: {error.strerror}") from None
    as_written = bool(entry) and hashlib.sha256(data).hexdigest() == entry.get("xml_sha256")
    return (read_written(data) if as_written else None) or read_voc(path), as_written


def shown_lines(path: Path, label: Labels, entry: dict | None) -> tuple[str, tuple[int, ...]]:
    """Return the file to point a person to for a label file, and the line of each box there.

    Those of the source when `entry` of the manifest is given, which says that the label file
    `path` of `images/` is as organize wrote it.
    """
    if entry:
        return entry["label"] or entry["source"], tuple(entry["lines"])
    return _shown(path), tuple(box.line for box in label.boxes)


def _shown(path: Path) -> str:
    return f"images/{path.parent.name}/{path.name}"


# Each image of `images/{train,validation,test}`, read once with its label file.


@dataclass(frozen=True)
class Stored:
    """One image of `images/`.

    `label` is None when there is no readable label file; `label_error` says why. `entry` is that
    of the manifest (None: the user's own image); `edited` tells that image or label file differ
    from what organize wrote. `shown` and `label_shown` are the files and `lines` the lines to point
    a person to: those of the source as long as the label file is as it was written.
    """

    split: str
    path: Path
    facts: ImageFacts
    label: Labels | None
    label_error: str
    label_error_line: int
    entry: dict | None
    edited: bool
    shown: str
    label_shown: str
    lines: tuple[int, ...]


def read_stored(images: Path, entries: dict[str, dict], name: str) -> list[Stored]:
    """Read all images of the folder `images` with their labels, by split and file name.

    Only bytes that organize has not seen are decoded, in all cores when they are many. The rest is
    less work than handing it to another process.

    Args:
        images: the folder of the splits.
        entries: those of the manifest, by name (`entries_by_name`).
        name: stands before the progress bar.
    """
    paths = list(stored_images(images).values())
    facts = {path: _known_facts(path, entries.get(path.stem)) for path in paths}
    others = [path for path in paths if facts[path] is None]
    facts.update(zip(others, map_items(_inspect, others, name), strict=True))
    return [_stored(path, facts[path], entries.get(path.stem)) for path in paths]


def _known_facts(path: Path, entry: dict | None) -> ImageFacts | None:
    """Return the facts of an image that organize has decoded, None when its bytes are others."""
    try:
        with open(path, "rb", buffering=0) as file:
            digest = hashlib.sha256(file.readall()).hexdigest()
    except OSError as error:
        return ImageFacts(error=f"cannot be opened: {error.strerror}")
    if not entry or digest != entry.get("image_sha256"):
        return None
    return ImageFacts(digest, source_format=entry["format"], format=entry["format"],
                      width_px=entry["width"], height_px=entry["height"],
                      complete=entry.get("complete", True))


def _inspect(path: Path) -> ImageFacts:
    facts = inspect_image((str(path), "stored", ""))
    if facts.error:
        return facts
    # Facts are those of the bytes that organize would write; here they stay as they are.
    return replace(facts, complete=is_complete(path.read_bytes(), facts.format))


def _stored(path: Path, facts: ImageFacts, entry: dict | None) -> Stored:
    label_path = path.with_suffix(".xml")
    label, as_written, label_error, error_line = None, False, "", 0
    try:
        label, as_written = read_label(label_path, entry)
    except FileNotFoundError:
        pass
    except LabelError as error:
        label_error, error_line = str(error), error.line
    written = entry if as_written else None
    label_shown, lines = shown_lines(label_path, label or Labels(()), written)
    edited = bool(entry) and not (as_written and facts.sha256 == entry.get("image_sha256"))
    return Stored(
        split=path.parent.name, path=path, facts=facts, label=label, label_error=label_error,
        label_error_line=error_line, entry=entry, edited=edited,
        shown=written["source"] if written else _shown(path), label_shown=label_shown, lines=lines)

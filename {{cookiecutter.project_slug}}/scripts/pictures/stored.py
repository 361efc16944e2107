"""What lies in `images/{train,validation,test}` now: each picture read once, with its label file."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.pictures.dataset import LabelError, Labels
from scripts.pictures.decode import PictureFacts, inspect_picture
from scripts.pictures.formats.voc import read_voc, read_written
from scripts.pictures.ledger import read_ledger, stored_pictures
from scripts.pictures.pool import map_items
from scripts.pictures.split import SPLITS
from scripts.pictures.whole import is_whole


@dataclass(frozen=True)
class Stored:
    """One picture of `images/`. `label` is None when there is no readable label file; `label_error` says why.

    `entry` is organize's entry for it (None: the user's own); `edited` tells that picture or label file differ from
    what organize wrote. `shown` and `label_shown` are the files and `lines` the lines to point a person to:
    those of the source as long as the label file is as it was written.
    """

    split: str
    path: Path
    facts: PictureFacts
    label: Labels | None
    label_error: str
    label_error_line: int
    entry: dict | None
    edited: bool
    shown: str
    label_shown: str
    lines: tuple[int, ...]


def _known_facts(path: Path, entry: dict | None) -> PictureFacts | None:
    """Facts of a picture that organize has decoded and reported on; None when its bytes are others."""
    try:
        with open(path, "rb", buffering=0) as file:
            digest = hashlib.sha256(file.readall()).hexdigest()
    except OSError as error:
        return PictureFacts(error=f"cannot be opened: {error.strerror}")
    if not entry or digest != entry.get("picture_sha256"):
        return None
    size = {"width_px": entry["width"], "height_px": entry["height"]}
    whole = entry.get("whole", True)
    return PictureFacts(digest, source_format=entry["format"], format=entry["format"], whole=whole, **size)


def read_label(path: Path, entry: dict | None) -> tuple[Labels, bool]:
    """The label file of a picture of `images/`, and whether it is as organize wrote it by the entry of the ledger.

    Such a file needs no parser, which takes most of the time otherwise. LabelError as `read_voc`, FileNotFoundError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LabelError(f"cannot be opened: {error.strerror}") from None
    as_written = bool(entry) and hashlib.sha256(data).hexdigest() == entry.get("xml_sha256")
    return (read_written(data) if as_written else None) or read_voc(path), as_written


def shown_lines(root: Path, path: Path, label: Labels, entry: dict | None) -> tuple[str, tuple[int, ...]]:
    """The file to point a person to for the label file `path`, and the line of each of its boxes there.

    Those of the source when `entry` of the ledger is given, which says that the label file is as organize wrote it.
    """
    if entry:
        return entry["label"] or entry["source"], tuple(entry["lines"])
    return path.relative_to(root).as_posix(), tuple(box.line for box in label.boxes)


def _inspect(path: Path) -> PictureFacts:
    facts = inspect_picture((str(path), "stored", ""))
    # Facts are those of the bytes that organize would write; here nobody writes any.
    return facts if facts.error else replace(facts, whole=is_whole(path.read_bytes(), facts.format))


def _stored(root: Path, shown: str, path: Path, facts: PictureFacts, entry: dict | None) -> Stored:
    label_path = path.with_suffix(".xml")
    label, as_written, label_error, error_line = None, False, "", 0
    try:
        label, as_written = read_label(label_path, entry)
    except FileNotFoundError:
        pass
    except LabelError as error:
        label_error, error_line = str(error), error.line
    written = entry if as_written else None
    label_shown, lines = shown_lines(root, label_path, label or Labels(()), written)
    return Stored(
        split=path.parent.name,
        path=path,
        facts=facts,
        label=label,
        label_error=label_error,
        label_error_line=error_line,
        entry=entry,
        edited=bool(entry) and not (as_written and facts.sha256 == entry.get("picture_sha256")),
        shown=written["source"] if written else shown,
        label_shown=label_shown,
        lines=lines,
    )


def read_stored(root: Path, name: str) -> list[Stored]:
    """All pictures of `images/`, by split and file name; `name` stands before the progress bar.

    Only bytes that organize has not seen are decoded, in all cores when they are many. The rest is less work than
    handing it to another process.
    """
    entries = {entry["name"]: entry for entry in read_ledger(root)["pictures"]}
    pictures = {f"images/{key}": (path, entries.get(path.stem)) for key, path in stored_pictures(root).items()}
    known = {shown: _known_facts(path, entry) for shown, (path, entry) in pictures.items()}
    others = [shown for shown, facts in known.items() if facts is None]
    known.update(zip(others, map_items(_inspect, [pictures[shown][0] for shown in others], name), strict=True))
    return [_stored(root, shown, path, known[shown], entry) for shown, (path, entry) in pictures.items()]


def stored_labels(root: Path) -> list[Path]:
    """All label files of `images/`, in order."""
    return [path for split in SPLITS for path in sorted((root / "images" / split).glob("*.xml"))]

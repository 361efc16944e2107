"""The files of a source folder: which pictures, which label files, and which of them belong together."""

import os
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.findings import Finding, finding
from scripts.pictures.formats.voc import NotALabelError, VocError, read_voc
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.words import counted

# HEIC is here to be named as a finding: left out silently it would be missing without a word.
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif"}
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class SourceFiles:
    """All picture and label files below `folder`, sorted by path. `shown` is the folder as the user typed it."""

    folder: Path
    shown: str
    pictures: tuple[Path, ...]
    labels: tuple[Path, ...]

    def show(self, path: Path) -> str:
        """The path of a source file as the user would type it in the project folder."""
        return f"{self.shown}/{path.relative_to(self.folder).as_posix()}"


def same_name(text: str) -> str:
    """Equal for names that some file system takes for one: upper and lower case, composed and decomposed accents."""
    return unicodedata.normalize("NFC", text).casefold()


def _walk(folder: Path):
    seen = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        # `.git`, `.ipynb_checkpoints`, macOS' `__MACOSX` and `._NAME` hold copies that nobody means.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(base, name) for name in names if not name.startswith("."))


def scan_source(folder: Path, shown: str) -> SourceFiles:
    """List a folder with all its sub-folders. DetectorError when it is missing or holds no pictures or no labels."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DetectorError(f"source.path '{shown}' {what}: detector.toml: set it to the folder with your pictures")
    paths = sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix())
    pictures = tuple(path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES)
    labels = tuple(path for path in paths if path.suffix.lower() == ".xml")
    if not pictures:
        raise DetectorError(
            f"no .jpg, .jpeg or .png file: {shown}: set source.path in detector.toml to the folder that holds both "
            "pictures and label files"
        )
    if not labels:
        raise DetectorError(
            f"no .xml label file for {counted(len(pictures), 'picture')}: {shown}: put Pascal VOC files beside the "
            "pictures, or set source.path in detector.toml to the folder that holds both"
        )
    return SourceFiles(folder, shown, pictures, labels)


def split_of(path: Path, folder: Path) -> str:
    """The split that a sub-folder's name says (`val`, `valid` and `dev` are validation), or ""."""
    for part in path.relative_to(folder).parts[:-1]:
        if part.casefold() in _SPLIT_NAMES:
            return _SPLIT_NAMES[part.casefold()]
    return ""


def _shared_depth(one: Path, other: Path) -> int:
    return len(os.path.commonpath([one.parent, other.parent]))


def _nearest(picture: Path, candidates: list[Path]) -> list[Path]:
    """The label files with the deepest folder in common: `train/JPEGImages/1.jpg` takes `train/Annotations/1.xml`."""
    beside = [path for path in candidates if path.parent == picture.parent]
    if beside:
        exact = [path for path in beside if path.stem == picture.stem]
        return exact or beside
    deepest = max((_shared_depth(picture, path) for path in candidates), default=0)
    return [path for path in candidates if _shared_depth(picture, path) == deepest]


def _ambiguous(files: SourceFiles, path: Path, others: list[Path]) -> Finding:
    names = ", ".join(files.show(other) for other in others[:3])
    return finding("E020", files.show(path), f"'{path.name}' fits {len(others)} files: {names}")


def pair_labels(files: SourceFiles) -> tuple[dict[Path, Path | None], list[Finding]]:
    """The label file of each usable picture (None: it has none), and the findings of pairing.

    Pairing is by the name without extension: in the same folder first, then in the nearest folder anywhere.
    A picture that two label files fit, or a label file that two pictures fit, is left out with an error finding.
    """
    by_stem = defaultdict(list)
    for label in files.labels:
        by_stem[same_name(label.stem)].append(label)
    nearest = {picture: _nearest(picture, by_stem[same_name(picture.stem)]) for picture in files.pictures}
    owned = {label for picture, found in nearest.items() for label in found if label.parent == picture.parent}
    pairs, findings, taken = {}, [], defaultdict(list)
    for picture, found in nearest.items():
        free = [label for label in found if label.parent == picture.parent or label not in owned]
        if len(free) > 1:
            findings.append(_ambiguous(files, picture, free))
            continue
        pairs[picture] = free[0] if free else None
        if free:
            taken[free[0]].append(picture)
    for label, pictures in taken.items():
        if len(pictures) > 1:
            findings.append(_ambiguous(files, label, pictures))
            for picture in pictures:
                del pairs[picture]
    touched = {label for found in nearest.values() for label in found}
    return pairs, findings + _unused(files, [label for label in files.labels if label not in touched])


def _unused(files: SourceFiles, labels: list[Path]) -> list[Finding]:
    findings = []
    for label in labels:
        try:
            read_voc(label)
        except NotALabelError as error:
            findings.append(finding("W111", files.show(label), f"'{label.name}': {error}", error.line))
            continue
        except VocError:
            pass  # A broken file beside no picture: the missing picture is what to say.
        findings.append(finding("E009", files.show(label), f"no picture is named '{label.stem}'"))
    return findings


def respects_folders(splits: Counter, mode: str, shown: str) -> bool:
    """Whether the source's own split is kept. `splits` counts pictures by what their folder says."""
    if mode == "hash":
        return False
    if mode == "source" and not splits["train"]:
        raise DetectorError(
            f"split.mode is 'source' but there is no train folder: {shown}: set split.mode = \"auto\" in detector.toml"
        )
    return mode == "source" or (splits["train"] > 0 and splits["test"] > 0)

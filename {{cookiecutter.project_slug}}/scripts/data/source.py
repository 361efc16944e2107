"""The files of a source folder: which are images, and which split their folder says."""

import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scripts.core.text import DetectorError

# HEIC is here to be named as a finding: left out silently it would be missing without a word.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif"}
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
    """All image files below `folder` and all others, sorted by path. `shown` is the folder as the
    user typed it."""

    folder: Path
    shown: str
    images: tuple[Path, ...]
    others: tuple[Path, ...]

    def show(self, path: Path) -> str:
        """The path of a source file as the user would type it in the project folder."""
        return f"{self.shown}/{path.relative_to(self.folder).as_posix()}"


def same_name(text: str) -> str:
    """Equal for names that some file system takes for one: upper and lower case, composed and
    decomposed accents."""
    return unicodedata.normalize("NFC", text).casefold()


def _walk(folder: Path):
    seen = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        # `.git`, `.ipynb_checkpoints`, macOS' `__MACOSX` and `._NAME` hold copies that nobody
        # means.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(base, name) for name in names if not name.startswith("."))


def scan_source(folder: Path, shown: str) -> SourceFiles:
    """List a folder with all its sub-folders. DetectorError when it is missing or holds no images.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DetectorError(f"source.path '{shown}' {what}: detector.toml: set it to the folder with your images")
    paths = sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix())
    images = tuple(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    others = tuple(path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES)
    if not images:
        raise DetectorError(
            f"no .jpg, .jpeg or .png file: {shown}: set source.path in detector.toml to the folder that holds both "
            "images and label files"
        )
    return SourceFiles(folder, shown, images, others)


def _split_name(text: str) -> str:
    # `train2017` and `instances_val2017` are names of COCO.
    return _SPLIT_NAMES.get(re.sub(r"[0-9]+$", "", text.casefold()), "")


def split_of(path: Path, folder: Path) -> str:
    """The split that a sub-folder's name says (`val`, `valid` and `dev` are validation), or ""."""
    parts = path.relative_to(folder).parts[:-1]
    return next((name for name in map(_split_name, parts) if name), "")


def split_in_name(path: Path) -> str:
    """The split that a label file's own name says, `test_labels.csv` or `instances_val2017.json`,
    or ""."""
    words = re.split(r"[^a-zA-Z0-9]+", path.stem)
    return next((name for name in map(_split_name, words) if name), "")


def respects_folders(splits: Counter, mode: str, shown: str) -> bool:
    """Whether the source's own split is kept. `splits` counts images by what their folder says."""
    if mode == "hash":
        return False
    if mode == "source" and not splits["train"]:
        raise DetectorError(
            f"split.mode is 'source' but there is no train folder: {shown}: set split.mode = \"auto\" in detector.toml"
        )
    return mode == "source" or (splits["train"] > 0 and splits["test"] > 0)


# From source files to items: image, facts and boxes together, and what is wrong with them.


# Names in `images/`: the image's own name, made distinct where two images share one.

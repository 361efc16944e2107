"""The files of a source: which are images, which split their folder says, names in `images/`."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scripts.core.text import DetectorError

# Endings of what organize keeps as it is, by the format of the content; the first one is written.
SUFFIXES = {"jpeg": (".jpg", ".jpeg"), "png": (".png",)}
DECODED_SUFFIXES = frozenset(SUFFIXES["jpeg"] + SUFFIXES["png"])
# Of all images. HEIC is here to be named as a finding: left out it would be missing without a word.
IMAGE_SUFFIXES = DECODED_SUFFIXES | {".bmp", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif"}
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "dev": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}


@dataclass(frozen=True)
class SourceFiles:
    """All image files below `folder` and all others, sorted by path.

    `shown` is the folder as the user typed it.
    """

    folder: Path
    shown: str
    images: tuple[Path, ...]
    others: tuple[Path, ...]

    def show(self, path: Path) -> str:
        """Return a file of the source as the user would type it in the project folder."""
        return f"{self.shown}/{path.relative_to(self.folder).as_posix()}"


def scan_source(folder: Path, shown: str) -> SourceFiles:
    """List a folder with all its subfolders.

    Raises:
        DetectorError: the folder is missing or holds no images.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DetectorError(f"source.path '{shown}' {problem}: detector.toml: set it to the folder "
                            "with your images")
    paths = sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix())
    images = tuple(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    others = tuple(path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES)
    if not images:
        raise DetectorError(f"no .jpg, .jpeg or .png file: {shown}: set source.path in "
                            "detector.toml to the folder that holds both images and label files")
    return SourceFiles(folder, shown, images, others)


def _walk(folder: Path):
    seen = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        # `.git`, `.ipynb_checkpoints`, macOS' `__MACOSX` and `._NAME` hold unwanted copies.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(base, name) for name in names if not name.startswith("."))


# Splits that folders and files say.


def split_of(path: Path, folder: Path) -> str:
    """Return the split that a subfolder's name says (`val` is validation), or ""."""
    parts = path.relative_to(folder).parts[:-1]
    return next((name for name in map(_split_name, parts) if name), "")


def split_in_name(path: Path) -> str:
    """Return the split that the name of a file says, such as `test_labels.csv`, or ""."""
    words = re.split(r"[^a-zA-Z0-9]+", path.stem)
    return next((name for name in map(_split_name, words) if name), "")


def _split_name(text: str) -> str:
    # `train2017` and `instances_val2017` are names of COCO.
    return _SPLIT_NAMES.get(re.sub(r"[0-9]+$", "", text.casefold()), "")


def respects_folders(splits: Counter, mode: str, shown: str) -> bool:
    """Return whether the source's own split is kept.

    Args:
        splits: how many images are in which split by their folder.
        mode: `split.mode`.
        shown: the source as messages name it.

    Raises:
        DetectorError: the mode is "source" and the source has no train folder.
    """
    if mode == "hash":
        return False
    if mode == "source" and not splits["train"]:
        raise DetectorError(f"split.mode is 'source' but there is no train folder: {shown}: set "
                            'split.mode = "auto" in detector.toml')
    return mode == "source" or (splits["train"] > 0 and splits["test"] > 0)


# Names in `images/`: the image's own name, made distinct where two images share one.

_DEEPEST = 8  # folders in front of a name


def same_name(text: str) -> str:
    """Return a text that is equal for names which some file system takes for one.

    Upper and lower case, composed and decomposed accents are the same.
    """
    return unicodedata.normalize("NFC", text).casefold()


def distinct_names(shown: list[str], known: dict[str, str]) -> dict[str, str]:
    """Return a name without extension for each image of the source.

    Of several new images with one name all get folders in front, so the order does not matter.

    Args:
        shown: the files of the source.
        known: the names that files got in an earlier run; they keep them, whatever came later.
    """
    names = {path: known[path] for path in shown if path in known}
    used = {same_name(name) for name in known.values()}
    groups = defaultdict(list)
    for path in shown:
        if path not in names:
            groups[same_name(PurePosixPath(path).stem)].append(path)
    # Plain names first: they shall not be taken by one with folders in front.
    for _, paths in sorted(groups.items(), key=lambda group: (len(group[1]) > 1, group[0])):
        for path, name in zip(paths, _free_names(paths, used), strict=True):
            names[path] = name
            used.add(same_name(name))
    return names


def _free_names(paths: list[str], used: set[str]) -> list[str]:
    """Return a free name for each path, with as few folders in front as tell them apart."""
    for depth in range(len(paths) > 1, _DEEPEST):
        names = [_with_folders(path, depth) for path in paths]
        keys = {same_name(name) for name in names}
        if len(keys) == len(names) and not keys & used:
            return names
    stem, last = _with_folders(paths[0], 1), 2 + len(used) + 2 * len(paths)
    numbered = (f"{stem}_{number}" for number in range(2, last))
    return [name for name in numbered if same_name(name) not in used][: len(paths)]


def _with_folders(shown: str, depth: int) -> str:
    """Return `upper_folder_stem` with `depth` folders, or fewer when the path has fewer."""
    path = PurePosixPath(shown)
    folders = [part for part in path.parts[:-1] if part not in ("/", "..", ".", "~")]
    return "_".join([*folders[len(folders) - min(depth, len(folders)):], path.stem])

"""What `invoke predict` works on: pictures and videos, where their copies go, and the model."""

from collections import Counter
from pathlib import Path

from scripts.pipeline.errors import DetectorError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}
_LISTED = ", ".join(sorted(PICTURE_SUFFIXES)) + ", " + ", ".join(sorted(VIDEO_SUFFIXES))


def is_video(path: Path) -> bool:
    """Whether the ending is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Pictures and videos in order, each with its place below the path it came from; nothing in `out` is one.

    A file that is named is taken whatever its ending, as a picture unless it is that of a video; in a folder the
    endings of PICTURE_SUFFIXES and VIDEO_SUFFIXES count, in any case.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise DetectorError(f"path does not exist: {path}: give a picture, a video or a folder of them")
        if path.is_file():
            found[path] = Path(path.name)
            continue
        inside = {one: one.relative_to(path) for one in sorted(path.rglob("*")) if _is_wanted(one, out)}
        if not inside:
            raise DetectorError(f"folder has no {_LISTED}: {path}: give a folder of pictures or videos")
        found |= inside
    return found


def _is_wanted(path: Path, out: Path) -> bool:
    if path.suffix.lower() not in PICTURE_SUFFIXES | VIDEO_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return out.resolve() not in path.resolve().parents


def copy_targets(files: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Where the drawn copy of each file goes: `NAME.jpg` or `NAME.mp4`, or `NAME.png.jpg` where two have one name."""
    plain = {path: place.with_suffix(_copy_suffix(path)) for path, place in files.items()}
    names = Counter(str(place).casefold() for place in plain.values())
    originals, targets = {path.resolve() for path in files}, {}
    for path, place in files.items():
        shared = names[str(plain[path]).casefold()] > 1
        targets[path] = out / (place.with_name(place.name + _copy_suffix(path)) if shared else plain[path])
        if targets[path].resolve() in originals:
            raise DetectorError(f"the drawn copy would replace {targets[path]}: --out {out}: name another folder")
    return targets


def _copy_suffix(path: Path) -> str:
    return ".mp4" if is_video(path) else ".jpg"


def find_model(root: Path, name: str, ship: str) -> Path:
    """The model that `name` means: a path, or a variant such as `float16`; "" is the variant `ship` of the project.

    DetectorError for a word that is neither, with the variants there are.
    """
    path = Path(name or ship)
    if name and (path.exists() or path.suffix or len(path.parts) > 1):
        return path
    variant = root / f"tflite/detector_{path}.tflite"
    if name and not variant.is_file():
        there = sorted(file.stem.removeprefix("detector_") for file in variant.parent.glob("detector_*.tflite"))
        advice = f"name one of {', '.join(there)}, or a path" if there else "run `invoke tflite`, or name a path"
        raise DetectorError(f"no variant and no path {name!r}: tflite/: {advice}")
    return variant

"""`invoke predict`: a detector on any images and videos.

What it finds is written as JSON, as a table, and drawn on copies.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.core.files import replacing
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted, parse_count, parse_number
from scripts.data.drawing import draw_detections
from scripts.data.image_files import open_upright
from scripts.data.source import DECODED_SUFFIXES
from scripts.deploy.predictions import detection_rows, predict_video, results
from scripts.deploy.provenance import provenance_of
from scripts.deploy.reader import open_detector
from scripts.evaluation.thresholds import USUAL_SCORE

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}


@dataclass(frozen=True)
class PredictCounts:
    """What was read and found, where the result is, and which files could not be read completely.

    `frames` are those of `videos`; `threshold` is a score 0..1 and `reason` says where it comes
    from. `unreadable` and `broken_off` have a line for each file.
    """

    images: int
    videos: int
    frames: int
    detections: int
    threshold: float
    reason: str
    out: str
    unreadable: tuple[str, ...] = ()
    broken_off: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [counted(self.images, "image")] if self.images or not self.videos else []
        if self.videos:
            parts.append(f"{counted(self.videos, 'video')} ({counted(self.frames, 'frame')})")
        parts.append(f"{counted(self.detections, 'detection')} from a score of {self.threshold:g} "
                     f"({self.reason})")
        text = f"{', '.join(parts)} in {self.out}"
        for lines, fault in ((self.unreadable, "unreadable left out"),
                             (self.broken_off, "broken off")):
            if lines:
                shown = "; ".join([*lines[:3], *(["..."] if len(lines) > 3 else [])])
                text += f", {len(lines):,} {fault} ({shown})"
        return text


def predict(paths: list[Path], model: Path, out: Path, threshold: str = "",
            every: str = "1") -> PredictCounts:
    """Detect in images and videos; write `out/predictions.json`, `.csv` and drawn copies.

    Images and frames are turned upright first, as viewers and phones do: boxes, `width` and
    `height` refer to the upright image. `class_id` is the line of `labels.txt` counted from 0.

    Args:
        paths: images, videos, or folders with all below them.
        model: a `.tflite` or the folder of a SavedModel.
        out: the folder to write.
        threshold: the lowest score 0..1 that is kept, as typed; "" is what the file advises, or
            USUAL_SCORE.
        every: of a video each `every`th frame is looked at, as typed.

    Raises:
        DetectorError: A path is missing, a folder has no images, a copy would replace an original,
            or nothing can be read.
    """
    # What was typed and all paths are checked before the model is loaded, which takes longer.
    lowest, reason = _lowest_score(threshold, model)
    step = parse_count(every, "every", "5")
    files = find_files(paths, out)
    targets = copy_targets(files, out)
    look = _looker(open_detector(model), lowest)
    frames, images, unreadable, broken_off = [], 0, [], []
    with results(out) as written:
        for path in tqdm(files, desc="predict", unit="file", disable=None, leave=False):
            # A file that cannot be read is counted, and the others go on.
            try:
                if is_video(path):
                    count, flaw = predict_video(path, look, step, targets[path], written.add)
                    frames.append(count)
                    broken_off += [f"{path}: {flaw}"] if flaw else []
                else:
                    written.add(_predict_image(path, look, targets[path]))
                    images += 1
            except ValueError as error:
                unreadable.append(f"{path}: {error}")
        if not written.rows:
            raise DetectorError(f"nothing can be read: {unreadable[0]}: give JPEG, PNG or video "
                                "files")
    return PredictCounts(images, len(frames), sum(frames), written.detections, lowest, reason,
                         out.as_posix(), tuple(unreadable), tuple(broken_off))


def _lowest_score(threshold: str, model: Path) -> tuple[float, str]:
    """Return the threshold 0..1 that holds, and where it comes from."""
    if threshold:
        number = parse_number(threshold, "threshold", float, 0, 1, f"{USUAL_SCORE:g}")
        return number, "--threshold"
    advised = provenance_of(model).get("advised_score_threshold")
    if advised is None:
        return USUAL_SCORE, "the model advises none"
    return advised, "advised by the model"


def _looker(detector, threshold: float) -> Callable:
    """Return a function from an upright RGB image to its detections as JSON holds them."""
    labels = detector.labels

    def look(image) -> list[dict]:
        found = detector.detect(np.asarray(image))
        return detection_rows(found, image.size, labels, threshold)

    return look


def _predict_image(path: Path, look: Callable, target: Path) -> dict:
    """Return the row of an image and draw its copy. ValueError says why it cannot be read."""
    try:
        image = open_upright(path.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from error
    rows = look(image)
    with replacing(target) as temporary:
        draw_detections(image, rows).save(temporary, "JPEG", quality=90)
    return {"file": path.as_posix(), "width": image.width, "height": image.height,
            "detections": rows}


# What it works on.

def is_video(path: Path) -> bool:
    """Return whether the ending is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Return images and videos in order, each with its place below the path it came from.

    A file that is named is taken whatever its ending, as an image unless it is that of a video. In
    a folder the endings of DECODED_SUFFIXES and VIDEO_SUFFIXES count, in any case; nothing below
    `out` does.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise DetectorError(f"path does not exist: {path}: give an image, a video or a folder "
                                "of them")
        if path.is_file():
            found[path] = Path(path.name)
            continue
        inside = {file: file.relative_to(path) for file in sorted(path.rglob("*"))
                  if _is_wanted(file, out)}
        if not inside:
            listed = ", ".join([*sorted(DECODED_SUFFIXES), *sorted(VIDEO_SUFFIXES)])
            raise DetectorError(f"folder has no {listed}: {path}: give a folder of images or "
                                "videos")
        found |= inside
    return found


def _is_wanted(path: Path, out: Path) -> bool:
    known = path.suffix.lower() in DECODED_SUFFIXES | VIDEO_SUFFIXES
    if not known or path.name.startswith(".") or not path.is_file():
        return False
    return out.resolve() not in path.resolve().parents


def copy_targets(files: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Return where the drawn copy of each file goes: `NAME.jpg` or `NAME.mp4`.

    Where two would have one name, `NAME.png.jpg`. Raises DetectorError for a copy that would
    replace an original.
    """
    endings = {path: ".mp4" if is_video(path) else ".jpg" for path in files}
    plain = {path: place.with_suffix(endings[path]) for path, place in files.items()}
    names = Counter(str(place).casefold() for place in plain.values())
    originals, targets = {path.resolve() for path in files}, {}
    for path, place in files.items():
        is_shared = names[str(plain[path]).casefold()] > 1
        name = place.name + endings[path] if is_shared else plain[path].name
        targets[path] = out / place.with_name(name)
        if targets[path].resolve() in originals:
            raise DetectorError(f"the drawn copy would replace {targets[path]}: --out {out}: name "
                                "another folder")
    return targets


def find_model(root: Path, name: str, ship: str) -> Path:
    """Return the model that `name` means: a path, or a variant such as `float16`.

    "" is the variant `ship`, also when it is missing: the reader says what to run. Raises
    DetectorError for a word that is neither, with the variants there are.
    """
    path, layout = Path(name or ship), Layout(root)
    if name and (path.exists() or path.suffix or len(path.parts) > 1):
        return path
    variant = layout.variant(str(path))
    if name and not variant.is_file():
        there = sorted(file.stem.removeprefix("detector_")
                       for file in layout.tflite.glob("detector_*.tflite"))
        advice = "run `invoke tflite`, or name a path"
        if there:
            advice = f"name one of {', '.join(there)}, or a path"
        raise DetectorError(f"no variant and no path {name!r}: tflite/: {advice}")
    return variant

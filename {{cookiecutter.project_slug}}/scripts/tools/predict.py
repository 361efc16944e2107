"""What `invoke predict` works on: images and videos, where their copies go, and the model."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.core.files import replacing
from scripts.core.text import DetectorError, counted, parse_count, parse_number
from scripts.data.drawing import draw_detections
from scripts.data.image_files import open_upright
from scripts.deploy.metadata import provenance_of
from scripts.deploy.reader import open_detector
from scripts.deploy.video import predict_video, results
from scripts.evaluation.detections import clipped_xyxy_px, short
from scripts.evaluation.thresholds import USUAL_SCORE

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}
_LISTED = ", ".join(sorted(IMAGE_SUFFIXES)) + ", " + ", ".join(sorted(VIDEO_SUFFIXES))


def is_video(path: Path) -> bool:
    """Whether the ending is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Images and videos in order, each with its place below the path it came from; nothing in `out`
    is one.

    A file that is named is taken whatever its ending, as an image unless it is that of a video; in
    a folder the endings of IMAGE_SUFFIXES and VIDEO_SUFFIXES count, in any case.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise DetectorError(f"path does not exist: {path}: give an image, a video or a folder of them")
        if path.is_file():
            found[path] = Path(path.name)
            continue
        inside = {one: one.relative_to(path) for one in sorted(path.rglob("*")) if _is_wanted(one, out)}
        if not inside:
            raise DetectorError(f"folder has no {_LISTED}: {path}: give a folder of images or videos")
        found |= inside
    return found


def _is_wanted(path: Path, out: Path) -> bool:
    if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return out.resolve() not in path.resolve().parents


def copy_targets(files: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Where the drawn copy of each file goes: `NAME.jpg` or `NAME.mp4`, or `NAME.png.jpg` where two
    have one name."""
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
    """The model that `name` means: a path, or a variant such as `float16`; "" is the variant `ship`
    of the project.

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


# `invoke predict`: a detector on any images and videos; what it found as JSON, as a table and drawn
# on copies.

BOX_DECIMALS = 2


@dataclass(frozen=True)
class PredictCounts:
    """What was read and found, where the result is, and a line for each file that could not be
    read, or not wholly.

    `frames` are those of `videos`; `threshold` is a score 0..1 and `reason` says where it comes
    from.
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
        parts.append(f"{counted(self.detections, 'detection')} from a score of {self.threshold:g} ({self.reason})")
        text = f"{', '.join(parts)} in {self.out}"
        for lines, what in ((self.unreadable, "unreadable left out"), (self.broken_off, "broken off")):
            if lines:
                text += f", {len(lines):,} {what} ({'; '.join(lines[:3])}{'; ...' if len(lines) > 3 else ''})"
        return text


def predict(paths: list[Path], model: Path, out: Path, threshold: str = "", every: str = "1") -> PredictCounts:
    """Detect in `paths` (images, videos, or folders with all below them); write
    `out/predictions.json` and `.csv` and drawn copies.

    `model` is a `.tflite` or the folder of a SavedModel. `threshold` is the lowest score 0..1 that
    is kept, as typed; "" is what the file advises, or USUAL_SCORE. Of a video each `every`th frame
    is looked at. Images and frames are turned upright first, as viewers and phones do; boxes,
    `width` and `height` refer to the upright image. `class_id` is the line of `labels.txt` counted
    from 0. DetectorError for a missing path, a folder without images, copies that would replace
    originals, or when nothing can be read.
    """
    lowest, reason = _lowest_score(threshold, model)
    step = parse_count(every, "every", "5")
    files = find_files(paths, out)
    targets = copy_targets(files, out)
    look = _looker(open_detector(model), lowest)
    frames, images, unreadable, broken_off = [], 0, [], []
    with results(out) as written:
        for path in tqdm(files, desc="predict", unit="file", disable=None, leave=False):
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
            raise DetectorError(f"nothing can be read: {unreadable[0]}: give JPEG, PNG or video files")
    return PredictCounts(images, len(frames), sum(frames), written.detections, lowest, reason, out.as_posix(),
                         tuple(unreadable), tuple(broken_off))


def _lowest_score(threshold: str, model: Path) -> tuple[float, str]:
    """The threshold 0..1 that holds, and where it comes from."""
    if threshold:
        return parse_number(threshold, "threshold", float, 0, 1, "0.3"), "--threshold"
    advised = provenance_of(model).get("advised_score_threshold")
    return (USUAL_SCORE, "the model advises none") if advised is None else (advised, "advised by the model")


def _looker(detector, threshold: float) -> Callable:
    """A function from an upright RGB image to its detections as they stand in `predictions.json`.
    """
    labels = detector.labels

    def look(image) -> list[dict]:
        return detection_rows(detector.detect(np.asarray(image)), image.size, labels, threshold)

    return look


def _predict_image(path: Path, look: Callable, target: Path) -> dict:
    """The row of one image; its copy is drawn on the way. ValueError says why an image cannot be
    read."""
    try:
        image = open_upright(path.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from error
    rows = look(image)
    with replacing(target) as temporary:
        draw_detections(image, rows).save(temporary, "JPEG", quality=90)
    return {"file": path.as_posix(), "width": image.width, "height": image.height, "detections": rows}


def detection_rows(found, size_px: tuple[int, int], labels: list[str], threshold: float) -> list[dict]:
    """The `Detections` of an image as they stand in `predictions.json`, best first, none under the
    threshold."""
    rows = []
    boxes = clipped_xyxy_px(found.yxyx_norm, *size_px)
    for box, class_id, score in zip(boxes, found.class_ids, found.scores, strict=True):
        if score < threshold:
            continue
        name = labels[class_id] if class_id < len(labels) else f"class {class_id}"
        edges = [round(float(edge), BOX_DECIMALS) for edge in box]
        rows.append({"class": name, "class_id": int(class_id), "score": short(score), "box_xyxy_px": edges})
    return sorted(rows, key=lambda row: -row["score"])

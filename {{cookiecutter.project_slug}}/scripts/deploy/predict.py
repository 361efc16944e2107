"""`invoke predict`: a detector on any pictures; what it found as JSON and drawn on copies."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import replacing, write_json

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}
PREDICTIONS = "predictions.json"
BOX_DECIMALS = 2


@dataclass(frozen=True)
class PredictCounts:
    """Pictures read, detections in them, where the result is, and a line for each picture that could not be read."""

    pictures: int
    detections: int
    out: str
    unreadable: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.pictures:,} pictures, {self.detections:,} detections in {self.out}"
        if self.unreadable:
            named = "; ".join(self.unreadable[:3]) + ("; ..." if len(self.unreadable) > 3 else "")
            text += f", {len(self.unreadable):,} unreadable left out ({named})"
        return text


def predict(paths: list[Path], model: Path, out: Path, threshold: float) -> PredictCounts:
    """Detect in `paths` (pictures, or folders with all below them) and write `out/predictions.json` and drawn copies.

    `model` is a `.tflite` or the folder of a SavedModel, `threshold` the lowest score 0..1 that is kept. Pictures are
    turned upright by their EXIF orientation first, as viewers and phones do; boxes, `width` and `height` refer to the
    upright picture. `class_id` is the line of `labels.txt` counted from 0. DetectorError for a missing path, a folder
    without pictures, copies that would replace originals, or when no picture can be read.
    """
    from tqdm import tqdm

    from scripts.deploy.reader import open_detector

    if not 0 <= threshold <= 1:
        raise DetectorError(
            f"threshold {threshold} is not a score: --threshold: give a number from 0 to 1, such as 0.3"
        )
    pictures = find_pictures(paths, out)
    targets = _targets(pictures, out)
    detector = open_detector(model)
    labels, rows, unreadable = detector.labels, [], []
    for path in tqdm(pictures, desc="predict", unit="picture", disable=None, leave=False):
        try:
            rows.append(_predict_one(path, detector, labels, threshold, targets[path]))
        except ValueError as error:
            unreadable.append(f"{path}: {error}")
    if not rows:
        raise DetectorError(f"no picture can be read: {unreadable[0]}: give JPEG or PNG files")
    write_json(out / PREDICTIONS, rows)
    return PredictCounts(len(rows), sum(len(row["detections"]) for row in rows), out.as_posix(), tuple(unreadable))


def find_pictures(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Pictures in order, each with its place below the path it came from; nothing in `out` is one.

    A file that is named is taken whatever its ending; in a folder .jpg, .jpeg and .png count, in any case.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise DetectorError(f"path does not exist: {path}: give a picture or a folder of pictures")
        if path.is_file():
            found[path] = Path(path.name)
            continue
        inside = {one: one.relative_to(path) for one in sorted(path.rglob("*")) if _is_picture(one, out)}
        if not inside:
            raise DetectorError(f"folder has no .jpg, .jpeg or .png: {path}: give a folder of pictures")
        found |= inside
    return found


def _is_picture(path: Path, out: Path) -> bool:
    if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return out.resolve() not in path.resolve().parents


def _targets(pictures: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Where the drawn copy of each picture goes: `NAME.jpg`, or `NAME.png.jpg` where two would have one name."""
    names = Counter(str(place.with_suffix("")).casefold() for place in pictures.values())
    originals, targets = {path.resolve() for path in pictures}, {}
    for path, place in pictures.items():
        shared = names[str(place.with_suffix("")).casefold()] > 1
        targets[path] = out / (place.with_name(place.name + ".jpg") if shared else place.with_suffix(".jpg"))
        if targets[path].resolve() in originals:
            raise DetectorError(f"the drawn copy would replace {targets[path]}: --out {out}: name another folder")
    return targets


def _predict_one(path: Path, detector, labels: list[str], threshold: float, target: Path) -> dict:
    """The row of one picture; its copy is drawn on the way. ValueError says why a picture cannot be read."""
    import numpy as np

    from scripts.pictures.decode import open_upright
    from scripts.pictures.draw import draw_detections

    try:
        image = open_upright(path.read_bytes())
    except OSError as error:
        raise ValueError(error.strerror) from error
    rows = detection_rows(detector.detect(np.asarray(image)), image.size, labels, threshold)
    with replacing(target) as temporary:
        draw_detections(image, rows).save(temporary, "JPEG", quality=90)
    return {"file": path.as_posix(), "width": image.width, "height": image.height, "detections": rows}


def detection_rows(found, size_px: tuple[int, int], labels: list[str], threshold: float) -> list[dict]:
    """The `Detections` of a picture as they stand in `predictions.json`, best first, none under the threshold."""
    from scripts.evaluation.detections import clipped_xyxy_px, short

    rows = []
    boxes = clipped_xyxy_px(found.yxyx_norm, *size_px)
    for box, class_id, score in zip(boxes, found.class_ids, found.scores, strict=True):
        if score < threshold:
            continue
        name = labels[class_id] if class_id < len(labels) else f"class {class_id}"
        edges = [round(float(edge), BOX_DECIMALS) for edge in box]
        rows.append({"class": name, "class_id": int(class_id), "score": short(score), "box_xyxy_px": edges})
    return sorted(rows, key=lambda row: -row["score"])

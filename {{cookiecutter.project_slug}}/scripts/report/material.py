"""What a report is made of: the files that the steps have left, each None where there is none."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.split import SPLITS
from scripts.pipeline.errors import DetectorError
from scripts.records.label_map import LABEL_MAP, read_label_map
from scripts.records.table import table_path

FILES = {
    "check": ("annotations/check.json", "check"),
    "run": ("training/run.json", "train"),
    "metrics": ("eval/metrics.json", "evaluate"),
    "groundtruth": ("eval/groundtruth.json", "evaluate"),
    "detections": ("eval/detections.json", "evaluate"),
    "analysis": ("eval/analysis.json", "evaluate"),
    "errors": ("eval/errors.json", "evaluate"),
    "suspects": ("eval/suspects.json", "suspects"),
    "tflite": ("tflite/metrics.json", "tflite"),
}
"""Name in `Material` -> file, and the command that writes it."""
KEYS = {
    "check": ("findings", "warnings"),
    "run": ("model", "input_px", "classes", "steps", "seconds"),
    "metrics": ("AP", "AP50", "AR100", "per_class", "checkpoint", "pictures", "boxes"),
    "groundtruth": ("images", "annotations", "categories"),
    "analysis": ("intervals", "too_small", "sizes", "thresholds", "curves", "pr", "confusion"),
    "errors": ("score", "boxes", "detections", "right", "causes", "errors"),
    "suspects": ("boxes", "suspects"),
    "tflite": ("ship", "variants", "checkpoint"),
}
"""What each of them has to hold; one that does not was written by another version, or by hand."""


@dataclass(frozen=True)
class LabelledBox:
    """One row of the CSV tables: edges in pixels of a picture of `width_px` x `height_px`."""

    split: str
    class_name: str
    width_px: float
    height_px: float
    xyxy_px: tuple[float, float, float, float]

    @property
    def size_norm(self) -> float:
        """Side of a square of the same area as a fraction of that of the picture, 0..1."""
        xmin, ymin, xmax, ymax = self.xyxy_px
        return ((xmax - xmin) * (ymax - ymin) / (self.width_px * self.height_px)) ** 0.5

    @property
    def aspect(self) -> float:
        """Width by height in pixels."""
        xmin, ymin, xmax, ymax = self.xyxy_px
        return (xmax - xmin) / (ymax - ymin)


@dataclass(frozen=True)
class Material:
    """The content of each file; `pictures` and `boxes` are those of the CSV tables."""

    root: Path
    classes: tuple[str, ...]
    pictures: dict[str, int]
    boxes: tuple[LabelledBox, ...]
    check: dict | None
    run: dict | None
    metrics: dict | None
    groundtruth: dict | None
    detections: list | None
    analysis: dict | None
    errors: dict | None
    suspects: dict | None
    tflite: dict | None

    @property
    def scored(self) -> bool:
        """Whether `evaluate` has left figures and boxes."""
        return None not in (self.metrics, self.groundtruth, self.detections)

    @property
    def start_score(self) -> float:
        """The score 0..1 with which the page opens: the one of the best F1 on validation, else 0.3."""
        if self.analysis:
            best = self.analysis["thresholds"]["all"].get("best_f1")
            return best["score"] if best else 0.3
        return ((self.tflite or {}).get("advised_score_threshold")) or 0.3


def read_material(root: Path) -> Material:
    """Everything that is there. DetectorError for a damaged file, with the command that writes it anew."""
    content = {name: _read(root, name) for name in FILES}
    pictures, boxes = _tables(root)
    names = read_label_map(root / LABEL_MAP) if (root / LABEL_MAP).is_file() else {}
    listed = {row["id"]: row["name"] for row in (content["groundtruth"] or {}).get("categories", ())}
    return Material(root, tuple((listed or names).values()), pictures, tuple(boxes), **content)


def in_order(material: Material, by_name: dict) -> list[tuple]:
    """The items of what is kept by class, in the order of the label map: files have them sorted by name."""
    known = [name for name in material.classes if name in by_name]
    return [(name, by_name[name]) for name in (*known, *(name for name in by_name if name not in known))]


def missing_text(what: str, name: str) -> str:
    """One sentence for a section whose file is not there."""
    path, command = FILES[name]
    return f"{what}: {path} is not there. Type `invoke {command}`, then `invoke report`."


def _read(root: Path, name: str) -> dict | list | None:
    path, command = FILES[name]
    again = f"`invoke {command}`" if command == "suspects" else f"`invoke forget {command}`, then `invoke {command}`"
    try:
        content = json.loads((root / path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DetectorError(f"no JSON ({error}): {path}: {again}") from None
    keys = KEYS.get(name)
    if not isinstance(content, dict if keys else list):
        raise DetectorError(f"not {'an object' if keys else 'a list'}: {path}: {again}")
    missing = [key for key in keys or () if key not in content]
    if missing:
        raise DetectorError(f"{missing[0]!r} is not in it: {path}: {again}")
    return content


def _tables(root: Path) -> tuple[dict[str, int], list[LabelledBox]]:
    """Pictures of each split that has a table, and all boxes."""
    pictures, boxes = {}, []
    for split in SPLITS:
        path = table_path(root, split)
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        pictures[split] = len({row["filename"] for row in rows})
        try:
            boxes += [_box(split, row) for row in rows if row["class"]]
        except (KeyError, TypeError, ValueError) as error:
            where = path.relative_to(root).as_posix()
            raise DetectorError(f"a row that is no box ({error}): {where}: "
                                "`invoke forget csv`, then `invoke csv`") from None
    return pictures, boxes


def _box(split: str, row: dict) -> LabelledBox:
    edges = tuple(float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return LabelledBox(split, row["class"], float(row["width"]), float(row["height"]), edges)

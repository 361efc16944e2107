"""The error atlas of `invoke evaluate`: every false alarm and every miss on the test pictures, with its cause.

Causes and gains are TIDE's, see `tide.py`.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from scripts.evaluation.label_places import LabelPlaces
from scripts.evaluation.tide import CAUSES, Analysis, Error, analyse, gains
from scripts.pipeline.files import write_json, write_text
from scripts.pipeline.words import counted

ERRORS, TABLE = "eval/errors.json", "eval/errors.csv"
COLUMNS = ("rank", "cause", "file", "class", "truth_class", "score", "iou", "xmin", "ymin", "xmax", "ymax",
           "truth_xmin", "truth_ymin", "truth_xmax", "truth_ymax", "annotation", "line")  # fmt: skip


@dataclass(frozen=True)
class ErrorCounts:
    """Boxes, detections from `score` on, right ones; `causes` is cause -> (count, AP50 gained, 0..1 or None)."""

    score: float
    boxes: int
    detections: int
    right: int
    causes: dict[str, tuple[int, float | None]]

    def __str__(self) -> str:
        found = [(cause, *figures) for cause, figures in self.causes.items() if figures[0]]
        found.sort(key=lambda row: (-(row[2] or 0.0), -row[1]))
        texts = [f"{cause} {count:,} ({100 * (gain or 0.0):.1f} points)" for cause, count, gain in found]
        text = f"from score {self.score:.2f} on {self.right:,} of {counted(self.boxes, 'box', 'boxes')} found"
        return f"{text}; " + (f"most costly: {', '.join(texts)}; see {TABLE}" if texts else "no error")


def write_errors(root: Path, groundtruth: dict, detections: list[dict], checkpoint: str, score: float) -> ErrorCounts:
    """Find the causes of errors on the test split and write `eval/errors.json` and `eval/errors.csv`, worst first.

    `groundtruth` is a COCO dict, `detections` COCO results on it, of which those from `score` on count as shown. A box
    that is missed is the worst, then a wrong detection by how sure it was.
    """
    analysis = analyse(groundtruth, detections, score)
    gained = gains(groundtruth, detections, analysis)
    boxes = sum(not row["iscrowd"] for row in groundtruth["annotations"])
    numbers = {cause: sum(error.cause == cause for error in analysis.errors) for cause in CAUSES}
    rows = _rows(root, groundtruth, analysis)
    figures = {"score": analysis.score, "boxes": boxes, "detections": analysis.shown, "right": analysis.right}
    causes = {cause: {"count": numbers[cause], "ap50_gain": gained[cause]} for cause in CAUSES}
    head = {"schema": 1, "split": "test", "checkpoint": checkpoint}
    write_json(root / ERRORS, {**head, **figures, "causes": causes, "errors": rows})
    write_text(root / TABLE, _csv_text(rows))
    return ErrorCounts(**figures, causes={cause: (numbers[cause], gained[cause]) for cause in CAUSES})


def _rows(root: Path, groundtruth: dict, analysis: Analysis) -> list[dict]:
    images = {image["id"]: image for image in groundtruth["images"]}
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    places = LabelPlaces(root)
    return [_row(error, images, names, places) for error in sorted(analysis.errors, key=_worst_first)]


def _worst_first(error: Error) -> tuple:
    """A miss is as bad as a wrong detection with a score of 1; large missed boxes come before small ones."""
    if error.detection is None:
        return (-1.0, -error.truth["area"], error.truth["id"])
    return (-error.detection["score"], 0.0, error.detection["image_id"])


def _row(error: Error, images: dict, names: dict, places: LabelPlaces) -> dict:
    detection, truth = error.detection, error.truth
    image = images[(detection or truth)["image_id"]]
    truth_class = names[truth["category_id"]] if truth else None
    truth_box = xyxy_px(truth["bbox"]) if truth else None
    place = places.of("test", image, truth_class, truth_box)
    return {
        "cause": error.cause,
        "file": f"images/test/{image['file_name']}",
        "image_id": image["id"],
        "class": names[detection["category_id"]] if detection else None,
        "truth_class": truth_class,
        "score": detection["score"] if detection else None,
        "iou": None if error.iou is None else round(error.iou, 4),
        "box_xyxy_px": xyxy_px(detection["bbox"]) if detection else None,
        "truth_box_xyxy_px": truth_box,
        "annotation": place.file,
        "line": place.line,
    }


def xyxy_px(bbox: list[float]) -> list[float]:
    """COCO's x, y, width, height as xmin, ymin, xmax, ymax, to a thousandth of a pixel."""
    x, y, width, height = bbox
    return [round(value, 3) for value in (x, y, x + width, y + height)]


def _csv_text(rows: list[dict]) -> str:
    """The rows as a table for people; boxes in whole pixels."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, row in enumerate(rows, start=1):
        boxes = (row[key] or [None] * 4 for key in ("box_xyxy_px", "truth_box_xyxy_px"))
        edges = ["" if value is None else round(value) for box in boxes for value in box]
        cells = [row[key] for key in ("cause", "file", "class", "truth_class", "score", "iou")]
        writer.writerow([rank, *cells, *edges, row["annotation"], row["line"]])
    return buffer.getvalue()

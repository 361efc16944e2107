"""Why each detection is wrong and each box missed, and what AP50 would gain without one cause.

Causes and gains as in TIDE (Bolya, Foley, Hays and Hoffman 2020, "TIDE: A General Toolbox for
Identifying Object Detection Errors"; Hoiem, Chodpathumwan and Dai 2012, "Diagnosing Error in Object
Detectors", began it), for the detections from a score on. What is right and what is ignored is
pycocotools' matching at IoU 0.5.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pycocotools.mask import iou as coco_ious

from scripts.core.text import counted
from scripts.data.box_table import usable_box
from scripts.data.dataset import Corners, LabelError
from scripts.data.manifest import read_label, shown_lines
from scripts.evaluation.metrics import IOU as FOREGROUND_IOU
from scripts.evaluation.metrics import ap50, match

BACKGROUND_IOU = 0.1
CAUSES = ("localization", "class", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class Error:
    """A wrong detection (a COCO result), or a `missed` box, which has none.

    `truth` is the annotation that it was meant for, None for background; `iou` is that of both.
    `mends`: without the cause this detection would find `truth`, otherwise it would not be there.
    """

    cause: str
    detection: dict | None
    truth: dict | None
    iou: float | None = None
    mends: bool = False


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors among detections from `score` on: `shown` are all of these, `right` the hits."""

    score: float
    shown: int
    right: int
    errors: tuple[Error, ...]

    def of(self, cause: str) -> list[Error]:
        """Return the errors of one cause."""
        return [error for error in self.errors if error.cause == cause]


def find_errors(groundtruth: dict, detections: list[dict], score: float) -> ErrorAnalysis:
    """Find the cause of every error among the COCO results `detections` of at least `score`.

    Crowds (`iscrowd` 1) and what pycocotools matches to them count neither way, as in AP.
    """
    shown = [row for row in detections if row["score"] >= score]
    matches = match(groundtruth, shown).rows
    truths, wrong = defaultdict(list), defaultdict(list)
    for row in groundtruth["annotations"]:
        if not row["iscrowd"]:
            truths[row["image_id"]].append(row)
    for row in matches:
        if not row.hit and not row.ignored:
            wrong[row.image_id].append(shown[row.place])
    # A box that was found cannot be missed, and nothing else can be mended into finding it.
    hit_ids, errors = {row.annotation_id for row in matches if row.hit}, []
    for image in groundtruth["images"]:
        errors += _errors_of_image(wrong[image["id"]], truths[image["id"]], hit_ids)
    return ErrorAnalysis(score, len(shown), len(hit_ids), tuple(errors))


def _errors_of_image(wrong: list[dict], truths: list[dict], hit_ids: set[int]) -> list[Error]:
    boxes = [row["bbox"] for row in truths]
    ious = [[]] * len(wrong)
    if wrong and truths:
        ious = coco_ious([row["bbox"] for row in wrong], boxes, [0] * len(boxes)).tolist()
    errors, mended_ids = [], set()
    by_score = sorted(zip(wrong, ious, strict=True), key=lambda pair: -pair[0]["score"])
    for row, overlaps in by_score:
        cause, truth, iou = _cause(row, truths, overlaps)
        # Of several that were meant for one box the best becomes right, the others go.
        mends = cause in ("localization", "class") and truth["id"] not in hit_ids | mended_ids
        if mends:
            mended_ids.add(truth["id"])
        errors.append(Error(cause, row, truth, iou, mends))
    missed = [row for row in truths if row["id"] not in hit_ids | mended_ids]
    return errors + [Error("missed", None, row) for row in missed]


def _cause(row: dict, truths: list[dict],
           ious: list[float]) -> tuple[str, dict | None, float | None]:
    """Return the cause, the annotation it is about and the IoU with it.

    The rules stand in TIDE's order (`tidecv/errors/main_errors.py`); the first that fits counts.
    """

    def best(fits: Callable[[dict], bool]) -> tuple[float, dict | None]:
        fitting = [pair for pair in zip(ious, truths, strict=True) if fits(pair[1])]
        return max(fitting, key=lambda pair: pair[0], default=(0.0, None))

    same_iou, same = best(lambda truth: truth["category_id"] == row["category_id"])
    other_iou, other = best(lambda truth: truth["category_id"] != row["category_id"])
    if BACKGROUND_IOU <= same_iou < FOREGROUND_IOU:
        return "localization", same, same_iou
    if other_iou >= FOREGROUND_IOU:
        return "class", other, other_iou
    if same_iou >= FOREGROUND_IOU:
        return "duplicate", same, same_iou
    if other_iou >= BACKGROUND_IOU:
        return "both", other, other_iou
    return "background", None, max(same_iou, other_iou) or None


def gains(groundtruth: dict, detections: list[dict],
          analysis: ErrorAnalysis) -> dict[str, float | None]:
    """Return by cause how much AP50 (0..1) is gained when its errors alone are gone.

    AP50 is that of all detections, whatever the score of the analysis. None without any box.
    """
    before = ap50(groundtruth, detections)
    if before is None:
        return dict.fromkeys(CAUSES)
    found = {}
    for cause in CAUSES:
        errors = analysis.of(cause)
        after = ap50(*mended(groundtruth, detections, errors)) if errors else before
        if after is None:
            after = 1.0  # no box is left to miss
        found[cause] = max(0.0, round(after - before, 6))
    return found


def mended(groundtruth: dict, detections: list[dict],
           errors: list[Error]) -> tuple[dict, list[dict]]:
    """Return ground truth and detections as if `errors` had not been made (TIDE's oracles).

    A missed box is no longer asked for; a detection that was meant for a free box lies on it with
    its class; every other wrong detection is gone.
    """
    missed = {error.truth["id"] for error in errors if error.cause == "missed"}
    wrong = {id(error.detection): error for error in errors if error.detection is not None}
    kept = [row for row in groundtruth["annotations"] if row["id"] not in missed]
    rows = []
    for row in detections:
        error = wrong.get(id(row))
        if error is None:
            rows.append(row)
        elif error.mends:
            rows.append({**row, "bbox": error.truth["bbox"],
                         "category_id": error.truth["category_id"]})
    return {**groundtruth, "annotations": kept}, rows


# The file and line of a labeled box, which a person opens to correct it.

# Records hold fractions in float32: edges come back to a thousandth of a pixel.
NEAR_PX = 0.1


@dataclass(frozen=True)
class Place:
    """A file as findings of `check` name it, and a line in it; None for what is not known."""

    file: str | None
    line: int | None


class LabelPlaces:
    """Finds boxes of the records in the label files that they came from, each file read once.

    The place is in the source as long as the label file in `images/` is as organize wrote it, else
    in `images/`.
    """

    def __init__(self, images: Path, entries: Iterable[dict], class_names: Iterable[str]):
        """`images` is the folder of the splits, `entries` are the images of the manifest."""
        self._images = images
        self._entries = {entry["name"]: entry for entry in entries}
        self._classes = set(class_names)
        self._read: dict[str, tuple[str | None, list]] = {}

    def find(self, split: str, image: dict, class_name: str | None,
             xyxy_px: Corners | None) -> Place:
        """Return the place of a box of a COCO `image`; only the file when no box fits."""
        path = self._images / split / image["file_name"]
        if path not in self._read:
            self._read[path] = self._labels(path, image["width"], image["height"])
        file, boxes = self._read[path]
        for name, edges, line in boxes if xyxy_px else ():
            near = all(abs(a - b) <= NEAR_PX for a, b in zip(edges, xyxy_px, strict=True))
            if name == class_name and near:
                return Place(file, line or None)
        return Place(file, None)

    def _labels(self, image: Path, width_px: int, height_px: int) -> tuple[str | None, list]:
        """Return the file to show, and class, edges and line of each box that the records hold."""
        path, entry = image.with_suffix(".xml"), self._entries.get(image.stem)
        try:
            label, as_written = read_label(path, entry)
        except (LabelError, FileNotFoundError):
            return None, []
        file, lines = shown_lines(path, label, entry if as_written else None)
        boxes = []
        for box, line in zip(label.boxes, lines, strict=True):
            usable, _ = usable_box(box, width_px, height_px, self._classes)
            if usable:
                boxes.append((usable.class_name, usable.xyxy_px, line))
        return file, boxes


# What `eval/errors.json`, `eval/errors.csv` and the terminal say.

COLUMNS = ("rank", "cause", "file", "class", "truth_class", "score", "iou",
           "xmin", "ymin", "xmax", "ymax", "truth_xmin", "truth_ymin", "truth_xmax", "truth_ymax",
           "annotation", "line")


def error_report(groundtruth: dict, detections: list[dict], score: float,
                 places: LabelPlaces) -> dict:
    """Return the errors on the test split as `eval/errors.json` holds them, worst first.

    A box that is missed is the worst, then a wrong detection by how sure it was. Detections (COCO
    results) from `score` on count as shown.
    """
    analysis = find_errors(groundtruth, detections, score)
    gained = gains(groundtruth, detections, analysis)
    images = {image["id"]: image for image in groundtruth["images"]}
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    return {
        "score": analysis.score, "detections": analysis.shown, "right": analysis.right,
        "boxes": sum(not row["iscrowd"] for row in groundtruth["annotations"]),
        "causes": {cause: {"count": len(analysis.of(cause)), "ap50_gain": gained[cause]}
                   for cause in CAUSES},
        "errors": [_row(error, images, names, places)
                   for error in sorted(analysis.errors, key=_worst_first)],
    }


def _worst_first(error: Error) -> tuple:
    """A miss is as bad as a wrong detection with a score of 1, and a large one worse than a small.
    """
    if error.detection is None:
        return (-1.0, -error.truth["area"], error.truth["id"])
    return (-error.detection["score"], 0.0, error.detection["image_id"])


def _row(error: Error, images: dict, names: dict, places: LabelPlaces) -> dict:
    detection, truth = error.detection, error.truth
    image = images[(detection or truth)["image_id"]]
    truth_class = names[truth["category_id"]] if truth else None
    truth_box = _xyxy_px(truth["bbox"]) if truth else None
    place = places.find("test", image, truth_class, truth_box)
    return {
        "cause": error.cause,
        "file": f"images/test/{image['file_name']}",
        "image_id": image["id"],
        "class": names[detection["category_id"]] if detection else None,
        "truth_class": truth_class,
        "score": detection["score"] if detection else None,
        "iou": None if error.iou is None else round(error.iou, 4),
        "box_xyxy_px": _xyxy_px(detection["bbox"]) if detection else None,
        "truth_box_xyxy_px": truth_box,
        "annotation": place.file,
        "line": place.line,
    }


def _xyxy_px(bbox: list[float]) -> list[float]:
    """COCO's x, y, width, height as xmin, ymin, xmax, ymax, to a thousandth of a pixel."""
    x, y, width, height = bbox
    return [round(value, 3) for value in (x, y, x + width, y + height)]


def errors_csv(rows: list[dict]) -> str:
    """Return the `errors` of the report as a table for people, boxes in whole pixels."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, row in enumerate(rows, start=1):
        boxes = (row[key] or [None] * 4 for key in ("box_xyxy_px", "truth_box_xyxy_px"))
        edges = ["" if value is None else round(value) for box in boxes for value in box]
        cells = [row[key] for key in ("cause", "file", "class", "truth_class", "score", "iou")]
        writer.writerow([rank, *cells, *edges, row["annotation"], row["line"]])
    return buffer.getvalue()


def errors_line(report: dict) -> str:
    """Return one line for the terminal: what was found, and the causes by the AP50 they cost."""
    found = [(cause, part["count"], part["ap50_gain"] or 0.0)
             for cause, part in report["causes"].items() if part["count"]]
    found.sort(key=lambda row: (-row[2], -row[1]))
    texts = [f"{cause} {count:,} ({100 * gain:.1f} points)" for cause, count, gain in found]
    boxes = counted(report["boxes"], "box", "boxes")
    return (f"from score {report['score']:.2f} on {report['right']:,} of {boxes} found; "
            + (f"most costly: {', '.join(texts)}" if texts else "no error"))

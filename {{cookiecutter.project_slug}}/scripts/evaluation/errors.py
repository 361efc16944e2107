"""Why each detection is wrong and each box missed, and what AP50 would gain if one cause were gone.

As Bolya, Foley, Hays and Hoffman define it (2020, "TIDE: A General Toolbox for Identifying Object
Detection Errors"), for detections from a score on. What is right and what is ignored is
pycocotools' matching at IoU 0.5.
"""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import write_json, write_text
from scripts.core.text import counted
from scripts.data.box_table import usable_box
from scripts.data.dataset import LabelError
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.data.manifest import read_label, read_manifest, shown_lines
from scripts.evaluation.metrics import IOU as FOREGROUND_IOU
from scripts.evaluation.metrics import ap50, match

BACKGROUND_IOU = 0.1
CAUSES = ("localisation", "class", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class Error:
    """A wrong detection (row of COCO results), or a `missed` box, which has none.

    `truth` is the annotation that it was meant for, None for background. `iou` is that of both.
    `mends`: were the cause gone, this detection would find `truth`; otherwise it would not be
    there.
    """

    cause: str
    detection: dict | None
    truth: dict | None
    iou: float | None = None
    mends: bool = False


@dataclass(frozen=True)
class Analysis:
    """The errors of detections from `score` on, which were `shown`, `right` of them; others were
    ignored."""

    score: float
    shown: int
    right: int
    errors: tuple[Error, ...]


def analyze(groundtruth: dict, detections: list[dict], score: float) -> Analysis:
    """The cause of every error among `detections` (COCO results) of at least `score`.

    Crowds (`iscrowd` 1) and what pycocotools matches to them are left out, as in the score.
    """
    shown = [row for row in detections if row["score"] >= score]
    matches = match(groundtruth, shown).rows
    truths, wrong = defaultdict(list), defaultdict(list)
    for row in groundtruth["annotations"]:
        if not row["iscrowd"]:
            truths[row["image_id"]].append(row)
    for one in matches:
        if not one.hit and not one.ignored:
            wrong[one.image_id].append(shown[one.place])
    taken, errors = {one.annotation_id for one in matches if one.hit}, []
    for image in groundtruth["images"]:
        errors += _errors_of_image(wrong[image["id"]], truths[image["id"]], taken)
    return Analysis(score, len(shown), len(taken), tuple(errors))


def _errors_of_image(wrong: list[dict], truths: list[dict], taken: set[int]) -> list[Error]:
    from pycocotools.mask import iou as ious_of

    boxes = [row["bbox"] for row in truths]
    ious = ious_of([row["bbox"] for row in wrong], boxes, [0] * len(boxes)) if wrong and truths else [[]] * len(wrong)
    errors, mended = [], set()
    for row, overlaps in sorted(zip(wrong, ious, strict=True), key=lambda pair: -pair[0]["score"]):
        cause, truth, iou = _cause(row, truths, [float(value) for value in overlaps])
        # Of several that were meant for one box the best becomes right, the others go.
        mends = cause in ("localisation", "class") and truth["id"] not in taken | mended
        mended |= {truth["id"]} if mends else set()
        errors.append(Error(cause, row, truth, iou, mends))
    return errors + [Error("missed", None, row) for row in truths if row["id"] not in taken | mended]


def _cause(row: dict, truths: list[dict], ious: list[float]) -> tuple[str, dict | None, float | None]:
    """The cause, the annotation it is about, and the IoU with that; the first of TIDE's rules that
    fits."""

    def best(fits) -> tuple[float, dict | None]:
        fitting = [pair for pair in zip(ious, truths, strict=True) if fits(pair[1])]
        return max(fitting, key=lambda pair: pair[0], default=(0.0, None))

    same_iou, same = best(lambda truth: truth["category_id"] == row["category_id"])
    other_iou, other = best(lambda truth: truth["category_id"] != row["category_id"])
    if BACKGROUND_IOU <= same_iou < FOREGROUND_IOU:
        return "localisation", same, same_iou
    if other_iou >= FOREGROUND_IOU:
        return "class", other, other_iou
    if same_iou >= FOREGROUND_IOU:
        return "duplicate", same, same_iou
    if other_iou >= BACKGROUND_IOU:
        return "both", other, other_iou
    return "background", None, max(same_iou, other_iou) or None


def gains(groundtruth: dict, detections: list[dict], analysis: Analysis) -> dict[str, float | None]:
    """AP50 (0..1) that is gained when the errors of one cause alone are gone, by cause; None
    without any box.

    AP50 is that of all detections, as in `metrics.json`, whatever the score of the analysis.
    """
    before = ap50(groundtruth, detections)
    if before is None:
        return dict.fromkeys(CAUSES)
    found = {}
    for cause in CAUSES:
        errors = [error for error in analysis.errors if error.cause == cause]
        after = ap50(*mended(groundtruth, detections, errors)) if errors else before
        found[cause] = max(0.0, round((1.0 if after is None else after) - before, 6))  # None: nothing is left to miss
    return found


def mended(groundtruth: dict, detections: list[dict], errors: list[Error]) -> tuple[dict, list[dict]]:
    """Ground truth and detections as if `errors` had not been made.

    A missed box is no longer asked for, a detection that was meant for a free box lies on it with
    its class, every other wrong detection is gone: TIDE's oracles.
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
            rows.append({**row, "bbox": error.truth["bbox"], "category_id": error.truth["category_id"]})
    return {**groundtruth, "annotations": kept}, rows


# Where a labeled box is written: the file and line that a person opens to correct it.

NEAR_PX = 0.1
"""Records hold fractions in float32: edges come back to a thousandth of a pixel."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """A file as findings of `check` name it, and a line in it; None for what is not known."""

    file: str | None
    line: int | None


@dataclass(frozen=True)
class _Labels:
    file: str | None
    boxes: tuple[tuple[str, Corners, int], ...] = ()


class LabelPlaces:
    """Looks up boxes of the records in the label files that they came from, each file read once.

    The place is in the source as long as the label file in `images/` is as organize wrote it, else
    in `images/`.
    """

    def __init__(self, root: Path):
        self.root = root
        self._entries = {entry["name"]: entry for entry in read_manifest(root)["images"]}
        self._classes = set(read_label_map(root / LABEL_MAP).values())
        self._read: dict[str, _Labels] = {}

    def of(self, split: str, image: dict, class_name: str | None, xyxy_px: Corners | None) -> Place:
        """The place of a box of an `image` of COCO's; without box, or when it is not found: the
        file alone."""
        key = f"images/{split}/{image['file_name']}"
        if key not in self._read:
            self._read[key] = self._labels(self.root / key, image["width"], image["height"])
        found = self._read[key]
        for name, edges, line in found.boxes if xyxy_px else ():
            if name == class_name and all(abs(a - b) <= NEAR_PX for a, b in zip(edges, xyxy_px, strict=True)):
                return Place(found.file, line or None)
        return Place(found.file, None)

    def _labels(self, image: Path, width_px: int, height_px: int) -> _Labels:
        path, entry = image.with_suffix(".xml"), self._entries.get(image.stem)
        try:
            label, as_written = read_label(path, entry)
        except (LabelError, FileNotFoundError):
            return _Labels(None)
        file, lines = shown_lines(self.root, path, label, entry if as_written else None)
        rows = []
        for box, line in zip(label.boxes, lines, strict=True):
            usable, _ = usable_box(box, width_px, height_px, self._classes)
            rows += [(usable.class_name, usable.xyxy_px, line)] if usable else []
        return _Labels(file, tuple(rows))


# The error atlas of `invoke evaluate`: every false alarm and every miss on the test images, with
# its cause.

ERRORS, TABLE = "eval/errors.json", "eval/errors.csv"
COLUMNS = ("rank", "cause", "file", "class", "truth_class", "score", "iou", "xmin", "ymin", "xmax", "ymax",
           "truth_xmin", "truth_ymin", "truth_xmax", "truth_ymax", "annotation", "line")  # fmt: skip


@dataclass(frozen=True)
class ErrorCounts:
    """Boxes, detections from `score` on, right ones; `causes` is cause -> (count, AP50 gained, 0..1
    or None)."""

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
    """Find the causes of errors on the test split and write `eval/errors.json` and
    `eval/errors.csv`, worst first.

    `groundtruth` is a COCO dict, `detections` COCO results on it, of which those from `score` on
    count as shown. A box that is missed is the worst, then a wrong detection by how sure it was.
    """
    analysis = analyze(groundtruth, detections, score)
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
    """A miss is as bad as a wrong detection with a score of 1; large missed boxes come before small
    ones."""
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

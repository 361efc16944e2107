"""Why each detection is wrong and each box missed, and what AP50 would gain if one cause were gone.

As Bolya, Foley, Hays and Hoffman define it (2020, "TIDE: A General Toolbox for Identifying Object Detection Errors"),
for detections from a score on. What is right and what is ignored is pycocotools' matching at IoU 0.5.
"""

from collections import defaultdict
from dataclasses import dataclass

from scripts.evaluation.matching import IOU as FOREGROUND_IOU
from scripts.evaluation.matching import match
from scripts.evaluation.scorer import ap50

BACKGROUND_IOU = 0.1
CAUSES = ("localisation", "class", "both", "duplicate", "background", "missed")


@dataclass(frozen=True)
class Error:
    """A wrong detection (row of COCO results), or a `missed` box, which has none.

    `truth` is the annotation that it was meant for, None for background. `iou` is that of both. `mends`: were the
    cause gone, this detection would find `truth`; otherwise it would not be there.
    """

    cause: str
    detection: dict | None
    truth: dict | None
    iou: float | None = None
    mends: bool = False


@dataclass(frozen=True)
class Analysis:
    """The errors of detections from `score` on, which were `shown`, `right` of them; others were ignored."""

    score: float
    shown: int
    right: int
    errors: tuple[Error, ...]


def analyse(groundtruth: dict, detections: list[dict], score: float) -> Analysis:
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
        errors += _errors_of_picture(wrong[image["id"]], truths[image["id"]], taken)
    return Analysis(score, len(shown), len(taken), tuple(errors))


def _errors_of_picture(wrong: list[dict], truths: list[dict], taken: set[int]) -> list[Error]:
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
    """The cause, the annotation it is about, and the IoU with that; the first of TIDE's rules that fits."""

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
    """AP50 (0..1) that is gained when the errors of one cause alone are gone, by cause; None without any box.

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

    A missed box is no longer asked for, a detection that was meant for a free box lies on it with its class, every
    other wrong detection is gone: TIDE's oracles.
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

"""The score from which detections are worth showing, found on the validation pictures."""

from dataclasses import dataclass
from pathlib import Path

SPLIT = "validation"
HUNDREDTHS = range(1, 100)


@dataclass(frozen=True)
class Advice:
    """A score threshold 0..1 and what it gives on the split where it was chosen: fractions 0..1."""

    score_threshold: float
    f1: float
    precision: float
    recall: float

    def as_dict(self) -> dict:
        """The figures as they stand in `tflite/metrics.json`."""
        return {"split": SPLIT, "F1": self.f1, "precision": self.precision, "recall": self.recall}


def advise(root: Path, model, score_threshold: float, max_detections: int) -> Advice | None:
    """`best_threshold` of a `TrainedModel` on the validation pictures; none of them is in any score that is reported.

    `score_threshold` and `max_detections` are those of `[evaluate]`.
    """
    from scripts.evaluation.evaluate import checkpoint_detections
    from scripts.evaluation.groundtruth import coco_groundtruth

    detections = list(checkpoint_detections(root, model, score_threshold, max_detections, SPLIT))
    return best_threshold(coco_groundtruth(root, SPLIT), detections)


def best_threshold(groundtruth: dict, detections: list[dict]) -> Advice | None:
    """The hundredth of a score at which F1 is highest at IoU 0.5, all classes together; of equals the middle one.

    `groundtruth` is a COCO dict, `detections` COCO results on it. Crowds count neither way. None when no box is found.
    """
    import numpy as np

    from scripts.evaluation.matching import match

    matches = match(groundtruth, detections)
    counted, boxes = [row for row in matches.rows if not row.ignored], sum(matches.boxes.values())
    scores, right = np.array([row.score for row in counted]), np.array([row.hit for row in counted], bool)
    if not right.any():
        return None
    rows = []
    for hundredth in HUNDREDTHS:
        kept = scores >= hundredth / 100
        hits, shown = int(right[kept].sum()), int(kept.sum())
        rows.append((2 * hits / (shown + boxes), hits / max(shown, 1), hits / boxes))
    f1 = np.array([row[0] for row in rows])
    best = np.flatnonzero(f1 == f1.max())
    middle = int(best[len(best) // 2])
    return Advice(HUNDREDTHS[middle] / 100, *(round(float(value), 6) for value in rows[middle]))

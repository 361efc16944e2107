"""From which score detections are worth showing.

The score is chosen on the validation images and measured on the test images: what is chosen on
images can no longer be measured on them. All counts are at one IoU, by `metrics.match`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.text import points
from scripts.evaluation.metrics import DECIMALS, Matches

SCORES = tuple(hundredth / 100 for hundredth in range(1, 100))
# For a model of which no score is advised.
USUAL_SCORE = 0.3
# A score is worth showing detections from when at least one in five is right and F1 is no less than
# this.
# A model that has hardly learned has its best F1 at 0.01, where a hundred boxes cover each image.
WORTH_PRECISION, WORTH_F1 = 0.2, 0.1


@dataclass(frozen=True)
class Curve:
    """Counts at each of SCORES: boxes `shown`, `hits` among them; and the `boxes` to be found."""

    shown: tuple[int, ...]
    hits: tuple[int, ...]
    boxes: int

    def misses(self, place: int) -> int:
        """Return how many boxes are not found at SCORES[place]."""
        return self.boxes - self.hits[place]

    def false_alarms(self, place: int) -> int:
        """Return how many boxes shown at SCORES[place] are wrong."""
        return self.shown[place] - self.hits[place]

    def figures(self, place: int) -> dict:
        """Return `precision`, `recall` and `f1` (0..1) at SCORES[place].

        None where nothing is shown or to be found.
        """
        hits, shown, boxes = self.hits[place], self.shown[place], self.boxes
        return {"precision": _ratio(hits, shown), "recall": _ratio(hits, boxes),
                "f1": _ratio(2 * hits, shown + boxes)}

    def over_scores(self) -> dict:
        """Return `score` and the figures at each of them as lists."""
        rows = [self.figures(place) for place in range(len(SCORES))]
        figures = {name: [row[name] for row in rows] for name in ("precision", "recall", "f1")}
        return {"score": list(SCORES)} | figures


def curves(matches: Matches) -> dict[int, Curve]:
    """Return the curve of each category id. What lies on a crowd counts neither way."""
    found = {category_id: ([], []) for category_id in matches.boxes}
    for row in matches.rows:
        if not row.ignored:
            found[row.category_id][0].append(row.score)
            if row.hit:
                found[row.category_id][1].append(row.score)
    # How many scores are at least as high as each of SCORES.
    result = {}
    for category_id, lists in found.items():
        shown, hits = (len(scores) - np.searchsorted(np.sort(scores), SCORES) for scores in lists)
        boxes = matches.boxes[category_id]
        result[category_id] = Curve(tuple(shown.tolist()), tuple(hits.tolist()), boxes)
    return result


def together(parts: Iterable[Curve]) -> Curve:
    """Return the curve of all classes: their counts added up."""
    parts = list(parts)
    # A row of zeros first, so that the sum of no curves is one of zeros.
    shown, hits = (tuple(map(sum, zip(*([0] * len(SCORES), *lists), strict=True)))
                   for lists in ([part.shown for part in parts], [part.hits for part in parts]))
    return Curve(shown, hits, sum(part.boxes for part in parts))


def best_f1(curve: Curve) -> int | None:
    """Return the place in SCORES at which F1 is highest; of equals the middle one.

    Only scores count at which at least WORTH_PRECISION of what is shown is right. None for a model
    that hardly learned.
    """
    rows = [curve.figures(place) for place in range(len(SCORES))]
    worth = {place: row["f1"] for place, row in enumerate(rows)
             if (row["precision"] or 0) >= WORTH_PRECISION and row["f1"] >= WORTH_F1}
    return _middle_of_least({place: -f1 for place, f1 in worth.items()}) if worth else None


def best_cost(curve: Curve, miss_cost: float) -> int | None:
    """Return the place in SCORES at which `miss_cost` x misses + false alarms is least.

    Of equals the middle one; None where there is nothing to find.
    """
    if not curve.boxes:
        return None
    return _middle_of_least({place: miss_cost * curve.misses(place) + curve.false_alarms(place)
                             for place in range(len(SCORES))})


def thresholds(validation: Curve, test: Curve, miss_cost: float) -> dict:
    """Return `best_f1` and `best_cost`: chosen on `validation`, figures of `test`."""
    found = {"best_f1": None, "best_cost": None}
    by_f1, by_cost = best_f1(validation), best_cost(validation, miss_cost)
    if by_f1 is not None:
        found["best_f1"] = {"score": SCORES[by_f1], **test.figures(by_f1)}
    if by_cost is not None:
        found["best_cost"] = {"score": SCORES[by_cost], **test.figures(by_cost),
                              "misses": test.misses(by_cost),
                              "false_alarms": test.false_alarms(by_cost)}
    return found


@dataclass(frozen=True)
class Advice:
    """The score 0..1 from which detections are worth showing, and its figures on the test images.
    """

    score_threshold: float
    f1: float | None
    precision: float | None
    recall: float | None

    def as_dict(self) -> dict:
        """Return the figures as they stand in `tflite/metrics.json`."""
        return {"split": "test", "F1": self.f1, "precision": self.precision, "recall": self.recall}


def read_advice(path: Path) -> Advice | None:
    """Return the advice of the file `eval/analysis.json`."""
    return advice_of(json.loads(path.read_text(encoding="utf-8")))


def advice_of(analysis: dict) -> Advice | None:
    """Return what `analysis` advises for all classes together; None if the model hardly learned.
    """
    best = analysis["thresholds"]["all"]["best_f1"]
    if best is None:
        return None
    return Advice(best["score"], best["f1"], best["precision"], best["recall"])


def advice_text(advice: Advice | None) -> str:
    """Return the line that `invoke evaluate` and `invoke tflite` print."""
    if advice is None:
        return ("no score is advised: from none on are detections worth showing, the model has "
                f"hardly learned; train longer ({USUAL_SCORE:g} is taken meanwhile)")
    return (f"show detections from a score of {advice.score_threshold:.2f} on: F1 "
            f"{points(advice.f1)} on test (precision {points(advice.precision)}, recall "
            f"{points(advice.recall)})")


def _middle_of_least(costs: dict[int, float]) -> int:
    least = min(costs.values())
    equal = [place for place, cost in costs.items() if cost == least]
    return equal[len(equal) // 2]


def _ratio(part: int, total: int) -> float | None:
    return round(part / total, DECIMALS) if total else None

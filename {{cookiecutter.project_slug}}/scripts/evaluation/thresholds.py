"""From which score detections are worth showing: chosen on the validation images, measured on the
test images.

What is chosen on images can no longer be measured on them. All counts are at one IoU, by
`matching.match`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.text import points

ANALYSIS = "eval/analysis.json"
DECIMALS = 6
SCORES = tuple(hundredth / 100 for hundredth in range(1, 100))
USUAL_SCORE = 0.3
"""For a model of which no score is advised."""
WORTH_PRECISION, WORTH_F1 = 0.2, 0.1
"""A score is worth showing detections from when at least one in five is right and F1 is no less
than this.

A model that has hardly learned has its best F1 at 0.01, where a hundred boxes cover each image.
"""


@dataclass(frozen=True)
class Curve:
    """Counts at each of SCORES: boxes `shown`, those of them that are `hits`; and the `boxes` there
    are to find."""

    shown: tuple[int, ...]
    hits: tuple[int, ...]
    boxes: int

    def __add__(self, other: "Curve") -> "Curve":
        shown, hits = (tuple(map(sum, zip(*pair, strict=True)))
                       for pair in ((self.shown, other.shown), (self.hits, other.hits)))
        return Curve(shown, hits, self.boxes + other.boxes)

    def misses(self, place: int) -> int:
        """Boxes that are not found at SCORES[place]."""
        return self.boxes - self.hits[place]

    def false_alarms(self, place: int) -> int:
        """Boxes shown at SCORES[place] that are wrong."""
        return self.shown[place] - self.hits[place]

    def figures(self, place: int) -> dict:
        """`precision`, `recall` and `f1` (0..1) at SCORES[place], None where nothing is shown or to
        be found."""
        hits, shown, boxes = self.hits[place], self.shown[place], self.boxes
        return {"precision": _ratio(hits, shown), "recall": _ratio(hits, boxes), "f1": _ratio(2 * hits, shown + boxes)}

    def over_scores(self) -> dict:
        """`score` and the figures at each of them as lists."""
        rows = [self.figures(place) for place in range(len(SCORES))]
        return {"score": list(SCORES)} | {name: [row[name] for row in rows] for name in ("precision", "recall", "f1")}


def curves(matches) -> dict[int, Curve]:
    """Category id -> Curve of `Matches`. What lies on a crowd counts neither way."""
    found = {category_id: ([], []) for category_id in matches.boxes}
    for row in matches.rows:
        if not row.ignored:
            found[row.category_id][0].append(row.score)
            if row.hit:
                found[row.category_id][1].append(row.score)
    result = {}
    for category_id, lists in found.items():
        shown, hits = (len(scores) - np.searchsorted(np.sort(scores), SCORES) for scores in lists)
        result[category_id] = Curve(tuple(shown.tolist()), tuple(hits.tolist()), matches.boxes[category_id])
    return result


def together(parts: Iterable[Curve]) -> Curve:
    """The curve of all classes: their counts added up."""
    return sum(parts, Curve((0,) * len(SCORES), (0,) * len(SCORES), 0))


def best_f1(curve: Curve) -> int | None:
    """The place in SCORES at which F1 is highest; of equals the middle one. None for a model that
    hardly learned.

    Only scores count at which at least WORTH_PRECISION of what is shown is right.
    """
    rows = [curve.figures(place) for place in range(len(SCORES))]
    worth = {place: row["f1"] for place, row in enumerate(rows)
             if (row["precision"] or 0) >= WORTH_PRECISION and row["f1"] >= WORTH_F1}
    return _middle_of_least({place: -f1 for place, f1 in worth.items()}) if worth else None


def best_cost(curve: Curve, miss_cost: float) -> int | None:
    """The place in SCORES at which `miss_cost` x misses + false alarms is least; of equals the
    middle one.

    None where there is nothing to find.
    """
    if not curve.boxes:
        return None
    return _middle_of_least({place: miss_cost * curve.misses(place) + curve.false_alarms(place)
                             for place in range(len(SCORES))})


def thresholds(validation: Curve, test: Curve, miss_cost: float) -> dict:
    """`best_f1` and `best_cost` as `eval/analysis.json` has them: chosen on `validation`, figures
    of `test`."""
    by_f1, by_cost = best_f1(validation), best_cost(validation, miss_cost)
    return {
        "best_f1": None if by_f1 is None else {"score": SCORES[by_f1], **test.figures(by_f1)},
        "best_cost": None if by_cost is None else {
            "score": SCORES[by_cost], **test.figures(by_cost), "misses": test.misses(by_cost),
            "false_alarms": test.false_alarms(by_cost)},
    }  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """The score 0..1 from which detections are worth showing, and what it gives on the test images:
    0..1 or None."""

    score_threshold: float
    f1: float | None
    precision: float | None
    recall: float | None

    def as_dict(self) -> dict:
        """The figures as they stand in `tflite/metrics.json`."""
        return {"split": "test", "F1": self.f1, "precision": self.precision, "recall": self.recall}


def read_advice(root: Path) -> Advice | None:
    """`advice_of` what `invoke evaluate` wrote."""
    return advice_of(json.loads((root / ANALYSIS).read_text(encoding="utf-8")))


def advice_of(analysis: dict) -> Advice | None:
    """What the dict of `eval/analysis.json` advises for all classes together; None if the model
    hardly learned."""
    best = analysis["thresholds"]["all"]["best_f1"]
    return None if best is None else Advice(best["score"], best["f1"], best["precision"], best["recall"])


def advice_text(advice: Advice | None) -> str:
    """The line that `invoke evaluate` and `invoke tflite` print."""
    if advice is None:
        return ("no score is advised: from none on are detections worth showing, the model has hardly learned; "
                f"train longer ({USUAL_SCORE:g} is taken meanwhile)")
    return (f"show detections from a score of {advice.score_threshold:.2f} on: F1 {points(advice.f1)} on test "
            f"(precision {points(advice.precision)}, recall {points(advice.recall)})")


def _middle_of_least(costs: dict[int, float]) -> int:
    least = min(costs.values())
    equal = [place for place, cost in costs.items() if cost == least]
    return equal[len(equal) // 2]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, DECIMALS) if whole else None

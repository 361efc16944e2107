"""What `eval/analysis.json` says beyond AP: intervals, sizes, thresholds, curves and confusions.

All of it is of the test images; validation images only choose the score thresholds.
"""

from scripts.core.text import counted, points
from scripts.evaluation.intervals import ap_intervals
from scripts.evaluation.metrics import (
    IOU,
    by_size,
    confusion,
    evaluated,
    match,
    precision_over_recall,
)
from scripts.evaluation.thresholds import (
    USUAL_SCORE,
    advice_of,
    advice_text,
    curves,
    thresholds,
    together,
)


def analyze(groundtruth: dict, detections: list[dict], validation: tuple[dict, list[dict]], miss_cost: float) -> dict:
    """The parts of `eval/analysis.json` from COCO ground truth and results of the test split, which
    has images.

    `validation` is the same pair of the validation split, `miss_cost` what a missed box costs in
    false alarms.
    """
    evaluation = evaluated(groundtruth, detections)
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    test, chosen_on = (curves(match(*pair)) for pair in ((groundtruth, detections), validation))
    all_test = together(test.values())
    overall = thresholds(together(chosen_on.values()), all_test, miss_cost)
    best = overall["best_f1"]
    intervals = ap_intervals(groundtruth, detections)
    return {
        "iou": IOU,
        "intervals": intervals,
        "too_small": cannot_tell(len(groundtruth["images"]), intervals["AP"]),
        "sizes": by_size(evaluation),
        "thresholds": {"chosen_on": "validation", "miss_cost": miss_cost, "all": overall,
                       "per_class": {name: thresholds(chosen_on[number], test[number], miss_cost)
                                     for number, name in names.items()}},
        "curves": {names[number]: curve.over_scores() for number, curve in test.items()}
        | {"all": all_test.over_scores()},
        "pr": precision_over_recall(evaluation),
        "confusion": confusion(groundtruth, detections, best["score"] if best else USUAL_SCORE),
    }


def remarks(analysis: dict) -> list[str]:
    """What a person should know beyond the table, a line each."""
    too_small, found = analysis["too_small"], analysis["thresholds"]
    advice, cheapest = advice_of(analysis), found["all"]["best_cost"]
    lines = [f"{too_small}: add images to that split"] if too_small else []
    lines.append(advice_text(advice))
    if advice and cheapest:
        lines.append(f"least cost with evaluate.miss_cost = {found['miss_cost']:g}: from {cheapest['score']:.2f} on "
                     f"({cheapest['misses']:,} missed, {counted(cheapest['false_alarms'], 'false alarm')})")
    return lines


# When a test split is too small to tell.

FEWEST_IMAGES = 20
"""With fewer, what is right or wrong in all of them looks certain, whatever the interval says."""
TOLD_AP = 0.05
"""What one wants to tell of a single model: five points of AP."""


def cannot_tell(images: int, interval: tuple[float, float] | None, told_ap: float = TOLD_AP) -> str:
    """A plain sentence when `images` test images leave AP, or a loss of it, open by more than
    `told_ap`, else "".

    `interval` is the 95 % interval, fractions 0..1; None when no AP is defined.
    """
    low, high = interval or (0.0, 1.0)
    if images >= FEWEST_IMAGES and (high - low) / 2 <= told_ap:
        return ""
    return f"{images:,} test images cannot tell {points(told_ap)} points of AP from chance"

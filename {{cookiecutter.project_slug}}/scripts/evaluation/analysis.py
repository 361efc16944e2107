"""What `eval/analysis.json` says beyond AP: intervals, sizes, thresholds, curves and confusions.

All of it is of the test pictures; validation pictures only choose the score thresholds.
"""

from scripts.evaluation.bootstrap import ap_intervals
from scripts.evaluation.certainty import cannot_tell
from scripts.evaluation.confusion import confusion
from scripts.evaluation.matching import IOU, match
from scripts.evaluation.scorer import by_size, evaluated, precision_over_recall
from scripts.evaluation.threshold import USUAL_SCORE, curves, thresholds, together


def analyse(groundtruth: dict, detections: list[dict], validation: tuple[dict, list[dict]], miss_cost: float) -> dict:
    """The parts of `eval/analysis.json` from COCO ground truth and results of the test split, which has pictures.

    `validation` is the same pair of the validation split, `miss_cost` what a missed box costs in false alarms.
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

"""What `eval/analysis.json` says beyond AP: intervals, sizes, thresholds, curves and confusions.

All of it is of the test images; validation images only choose the score thresholds.
"""

from scripts.core.text import counted
from scripts.evaluation.intervals import ap_intervals, cannot_tell
from scripts.evaluation.metrics import (
    ALL_AREAS,
    AT_100,
    DECIMALS,
    IOU,
    IOU_50,
    as_fraction,
    evaluated,
    match,
    mean_defined,
)
from scripts.evaluation.thresholds import (
    USUAL_SCORE,
    advice_of,
    advice_text,
    curves,
    thresholds,
    together,
)

# pycocotools' areas after the one of all boxes.
SIZES = ("small", "medium", "large")
BACKGROUND = "background"


def analyze(groundtruth: dict, detections: list[dict], validation: tuple[dict, list[dict]],
            miss_cost: float) -> dict:
    """Return the parts of `eval/analysis.json`.

    Args:
        groundtruth: of the test split, a COCO dict that has images.
        detections: COCO results on it.
        validation: the same pair of the validation split.
        miss_cost: how many false alarms a missed box costs.
    """
    evaluation = evaluated(groundtruth, detections)
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    test, chosen_on = curves(match(groundtruth, detections)), curves(match(*validation))
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
    """Return what a person should know beyond the table, a line each."""
    too_small, found = analysis["too_small"], analysis["thresholds"]
    advice, cheapest = advice_of(analysis), found["all"]["best_cost"]
    lines = [f"{too_small}: add images to that split"] if too_small else []
    lines.append(advice_text(advice))
    if advice and cheapest:
        alarms = counted(cheapest["false_alarms"], "false alarm")
        lines.append(f"least cost with evaluate.miss_cost = {found['miss_cost']:g}: from "
                     f"{cheapest['score']:.2f} on ({cheapest['misses']:,} missed, {alarms})")
    return lines


def by_size(evaluation) -> dict:
    """Return AP and number of scored boxes by class name, and "all", and by size.

    `evaluation` is a `COCOeval` that has run. An area on a limit is in both sizes, as pycocotools
    counts it.
    """
    classes = {name: [index] for index, name in enumerate(_names(evaluation))}
    classes["all"] = list(range(len(classes)))
    return {name: {size: _size_figures(evaluation, indices, area)
                   for area, size in enumerate(SIZES, start=1)}
            for name, indices in classes.items()}


def _size_figures(evaluation, indices: list[int], area: int) -> dict:
    least, most = evaluation.params.areaRng[area]
    ids = [evaluation.params.catIds[index] for index in indices]
    boxes = sum(row["category_id"] in ids and not row["iscrowd"] and least <= row["area"] <= most
                for row in evaluation.cocoGt.dataset["annotations"])
    precision = evaluation.eval["precision"][:, :, indices, area, AT_100]
    return {"AP": mean_defined(precision), "boxes": boxes}


def precision_over_recall(evaluation) -> dict:
    """Return by class name `recall` (101 values, 0 to 1) and `precision` at IoU 0.5.

    Classes without a box are left out.
    """
    precision = evaluation.eval["precision"][IOU_50, :, :, ALL_AREAS, AT_100]
    recall = [round(float(value), DECIMALS) for value in evaluation.params.recThrs]
    return {name: {"recall": recall, "precision": list(map(as_fraction, precision[:, index]))}
            for index, name in enumerate(_names(evaluation)) if precision[0, index] > -1}


def _names(evaluation) -> list[str]:
    """Class names in the order in which the evaluation has its classes."""
    names = {category["id"]: category["name"]
             for category in evaluation.cocoGt.dataset["categories"]}
    return [names[category_id] for category_id in evaluation.params.catIds]


def confusion(groundtruth: dict, detections: list[dict], score: float) -> dict:
    """Count which class the boxes were taken for.

    Detections from `score` 0..1 on are matched at IoU 0.5 whatever their class, the best first.
    Crowds count neither way.

    Returns:
        `score`, `labels` (classes, then background) and `rows` of counts: rows are the truth,
        columns what was found. The last row counts boxes found where nothing is, the last column
        boxes that were missed.
    """
    places = {category["id"]: place for place, category in enumerate(groundtruth["categories"])}
    unmatched = {row["id"]: places[row["category_id"]]
                 for row in groundtruth["annotations"] if not row["iscrowd"]}
    background = len(places)
    rows = [[0] * (background + 1) for _ in range(background + 1)]
    shown = [row for row in detections if row["score"] >= score]
    for row in match(groundtruth, shown, by_class=False).rows:
        if not row.ignored:
            truth = unmatched.pop(row.annotation_id) if row.hit else background
            rows[truth][places[row.category_id]] += 1
    for truth in unmatched.values():
        rows[truth][background] += 1
    labels = [category["name"] for category in groundtruth["categories"]]
    return {"score": score, "labels": [*labels, BACKGROUND], "rows": rows}

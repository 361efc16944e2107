"""AP and precision-recall counts of single classes, out of pycocotools' evaluation."""

import numpy as np
import pytest

from scripts.evaluation.metrics import evaluated, score
from scripts.training.summaries import THRESHOLDS, average_precisions, pr_counts

APPLE, PEAR, PLUM = 1, 2, 3


def truth(*boxes):
    """`boxes`: (image, class, left edge, crowd) of squares of 100 px."""
    rows = [{"id": number, "image_id": image, "category_id": category, "bbox": [left, 0, 100, 100], "area": 10_000,
             "iscrowd": crowd} for number, (image, category, left, crowd) in enumerate(boxes, start=1)]  # fmt: skip
    return {"images": [{"id": number, "width": 900, "height": 100} for number in (1, 2)], "annotations": rows,
            "categories": [{"id": APPLE, "name": "apple"}, {"id": PEAR, "name": "pear"}, {"id": PLUM, "name": "plum"}]}


def found(*detections):
    """`detections`: (image, class, left edge, score)."""
    return [{"image_id": image, "category_id": category, "bbox": [left, 0, 100, 100], "score": sure}
            for image, category, left, sure in detections]


BOXES = truth((1, APPLE, 0, 0), (1, APPLE, 300, 0), (2, APPLE, 0, 0), (2, APPLE, 500, 1), (2, PEAR, 700, 0))
DETECTIONS = found((1, APPLE, 5, 0.9), (1, APPLE, 600, 0.6), (2, APPLE, 10, 0.4), (2, APPLE, 500, 0.8),
                   (2, PEAR, 0, 0.7), (1, APPLE, 850, 0.0))


def at(threshold, counts):
    index = int(np.flatnonzero(THRESHOLDS == threshold)[0])
    return int(counts.right[index]), int(counts.wrong[index]), int(counts.missed[index])


@pytest.mark.parametrize(
    ("threshold", "apple"),
    [
        (0.0, (2, 1, 1)),  # what has no score is no detection
        (0.4, (2, 1, 1)),  # a score equal to the threshold is shown
        (0.41, (1, 1, 2)),
        (0.7, (1, 0, 2)),  # the crowd found at 0.8 is neither right nor wrong
        (1.0, (0, 0, 3)),
    ],
)
def test_right_wrong_and_missed_follow_the_threshold(threshold, apple):
    counts = pr_counts(evaluated(BOXES, DETECTIONS))
    assert at(threshold, counts[APPLE]) == apple
    assert sorted(counts) == [APPLE, PEAR], "no curve of a class without boxes"


def test_precision_and_recall_are_those_of_the_counts():
    counts = pr_counts(evaluated(BOXES, DETECTIONS))
    index = 50
    assert counts[APPLE].precision[index] == 1 / 2 and counts[APPLE].recall[index] == pytest.approx(1 / 3)
    assert counts[PEAR].precision[index] == 0 and counts[PEAR].recall[index] == 0
    assert counts[PEAR].precision[100] == 0, "nothing is shown there"


def test_a_class_of_which_nothing_was_found_has_a_curve_of_misses():
    counts = pr_counts(evaluated(BOXES, []))
    assert set(counts[APPLE].missed) == {3} and not counts[APPLE].right.any()


def test_ap_by_class_is_that_of_the_table():
    evaluation, table = evaluated(BOXES, DETECTIONS), score(BOXES, DETECTIONS)["per_class"]
    by_class = average_precisions(evaluation)
    assert by_class[APPLE] == pytest.approx(table["apple"]["AP"], abs=1e-6) and 0 < by_class[APPLE] < 1
    assert by_class[PEAR] == table["pear"]["AP"] == 0
    assert PLUM not in by_class and table["plum"]["AP"] is None

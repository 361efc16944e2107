"""The accumulation of ours gives pycocotools' figures, for the images as they are and for every
draw of them."""

import numpy as np
import pytest
from made_detections import made

from scripts.evaluation.intervals import matched, overall
from scripts.evaluation.metrics import evaluated


def taken_literally(groundtruth, detections, taken):
    """Ground truth and detections in which an image taken three times stands there three times."""
    images, boxes, found = [], [], []
    for image, times in zip(groundtruth["images"], taken, strict=True):
        for _ in range(times):
            number = len(images) + 1
            images.append({**image, "id": number})
            boxes += [{**row, "id": len(boxes) + 1 + place, "image_id": number} for place, row in enumerate(
                row for row in groundtruth["annotations"] if row["image_id"] == image["id"])]
            found += [{**row, "image_id": number} for row in detections if row["image_id"] == image["id"]]
    return {**groundtruth, "images": images, "annotations": boxes}, found


def figures_of_pycocotools(groundtruth, detections):
    """AP and AP50 by class, NaN where undefined, then over all classes."""
    evaluation = evaluated(groundtruth, detections)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = [np.where(part.max((0, 1)) < 0, np.nan, part.mean((0, 1))) for part in (precision, precision[:1])]
    return by_class, evaluation.stats[:2]


@pytest.mark.parametrize("seed", range(6))
def test_figures_of_any_draw_are_those_of_pycocotools(seed):
    groundtruth, detections = made(12, seed)
    taken = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), 8)
    by_class = matched(groundtruth, detections).ap(taken)
    for draw, times in enumerate(taken):
        expected, stats = figures_of_pycocotools(*taken_literally(groundtruth, detections, times))
        for ours, theirs, all_classes in zip(by_class, expected, stats, strict=True):
            np.testing.assert_allclose(ours[draw], theirs, atol=1e-9)
            assert overall(ours)[draw] == pytest.approx(all_classes, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_equal_scores_stand_as_pycocotools_has_them(seed):
    groundtruth, detections = made(40, seed)
    detections = [{**row, "score": round(row["score"], 1)} for row in detections]
    by_class = matched(groundtruth, detections).ap(np.ones((1, 40), int))
    expected, _ = figures_of_pycocotools(groundtruth, detections)
    for ours, theirs in zip(by_class, expected, strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-9)


def test_a_class_without_a_box_is_undefined_and_does_not_count():
    groundtruth, detections = made(10, classes=2)
    groundtruth["annotations"] = [row for row in groundtruth["annotations"] if row["category_id"] == 1]
    ap, _ = matched(groundtruth, detections).ap(np.ones((1, 10), int))
    assert np.isnan(ap[0, 1])
    assert overall(ap)[0] == ap[0, 0] > 0
    assert np.isnan(overall(np.full((1, 2), np.nan)))


def test_detections_that_are_none_have_an_ap_of_zero():
    groundtruth, _ = made(10)
    ap, ap50 = matched(groundtruth, []).ap(np.ones((2, 10), int))
    assert (ap == 0).all() and (ap50 == 0).all()

"""Intervals of AP: the accumulation gives pycocotools' figures for every draw, and whether a loss of AP
is more than chance.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from made_detections import made

from scripts.deploy.gate import passes, summary, what_to_try
from scripts.evaluation.intervals import ap_drop_interval, ap_intervals, matched, overall
from scripts.evaluation.metrics import evaluated, score


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


# Intervals, and what the gate makes of them.

def labeled(images: int):
    """COCO ground truth with one box an image, and detections that find each of them exactly."""
    boxes = [{"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
             for number in range(1, images + 1)]
    truth = {"images": [{"id": row["id"], "file_name": "", "width": 100, "height": 100} for row in boxes],
             "categories": [{"id": 1, "name": "apple"}], "annotations": boxes}
    found = [{"image_id": row["id"], "category_id": 1, "bbox": row["bbox"], "score": 0.9} for row in boxes]
    return truth, found


def test_the_same_detections_lose_nothing():
    truth, found = labeled(12)
    assert ap_drop_interval(truth, found, found) == (0.0, 0.0)


def test_a_loss_in_every_third_image_is_no_chance_and_one_in_a_single_image_may_be():
    truth, found = labeled(30)
    low, high = ap_drop_interval(truth, found, [row for row in found if row["image_id"] % 3])
    assert 0.1 < low < 1 / 3 < high < 0.6
    low, high = ap_drop_interval(truth, found, found[1:])
    assert low == 0.0 and 0.02 < high < 0.2
    assert ap_drop_interval(truth, found[1:], found)[0] < -0.02, "the sign says who is better"


def test_intervals_hold_the_figure_and_are_narrower_with_more_images():
    widths = []
    for images in (15, 150):
        truth, found = made(images)
        figures, intervals = score(truth, found), ap_intervals(truth, found)
        parts = [(figures, intervals)] + [(figures["per_class"][name], part)
                                          for name, part in intervals["per_class"].items()]
        for values, part in parts:
            assert all(part[name][0] < values[name] < part[name][1] for name in ("AP", "AP50") if name in part)
        widths.append(intervals["AP"][1] - intervals["AP"][0])
    assert widths[1] < widths[0] / 2
    assert list(intervals["per_class"]) == ["class 1", "class 2", "class 3"]
    assert ap_intervals(truth, found) == intervals, "the same figures, the same interval"


def test_where_nothing_or_too_little_is_to_be_found_there_is_no_interval():
    truth, found = labeled(5)
    assert ap_intervals(truth, found)["AP"] == (1.0, 1.0)
    assert ap_drop_interval(truth, found, found[1:])[0] == 0.0
    truth["categories"].append({"id": 2, "name": "pear"})
    assert ap_intervals(truth, found)["per_class"]["pear"] == {"AP": None}
    nothing = {"AP": None, "AP50": None, "per_class": {"apple": {"AP": None}, "pear": {"AP": None}}}
    assert ap_intervals({**truth, "annotations": []}, found) == nothing
    assert ap_intervals({**truth, "images": [], "annotations": []}, []) == nothing
    four = {**truth, "annotations": truth["annotations"][:4]}
    assert ap_intervals(four, found)["AP"] is None
    assert ap_drop_interval(four, found, found[1:]) == (-1.0, 1.0), "four images cannot tell"


@pytest.mark.parametrize(
    ("drop", "interval", "passed"),
    [
        (0.004, (0.001, 0.008), True),  # small, whatever it is
        (-0.02, (-0.03, -0.01), True),  # a gain
        (0.015, (-0.01, 0.04), True),  # over the limit, chance explains it
        (0.015, (0.003, 0.03), False),  # over the limit and real
        (0.021, (-0.05, 0.09), False),  # over twice the limit
        (None, None, False),  # not comparable
    ],
)
def test_the_gate(drop, interval, passed):
    assert passes(drop, interval, 0.01) is passed


def shipped(ship="int8", images=200):
    return SimpleNamespace(ship=ship, calibration_images=images)


def test_a_refusal_names_the_one_setting_to_try():
    assert what_to_try(shipped(images=20)) == "calibration_images = 200"
    assert what_to_try(shipped()) == 'ship = "int8_qat", and name it in variants'
    assert what_to_try(shipped("int8_qat")) == 'ship = "float16", and name it in variants'


def test_too_few_test_images_are_said_so():
    def line(interval):
        row = {"file": "x.tflite", "AP": 0.5, "ap_drop": 0.005, "ap_drop_interval": interval,
               "bytes": 3_800_000, "latency_ms": {"median": 2.0}}
        return summary(row, 0.01, 21)

    assert "21 test images cannot tell 1.0 points of AP from chance" in line((-0.02, 0.02))
    assert "cannot tell" not in line((-0.004, 0.006))

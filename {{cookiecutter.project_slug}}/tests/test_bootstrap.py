"""Whether a loss of AP is more than chance, and what the gate makes of it."""

from types import SimpleNamespace

import pytest
from made_detections import made

from scripts.deploy.gate import passes, summary, what_to_try
from scripts.evaluation.intervals import ap_drop_interval, ap_intervals
from scripts.evaluation.metrics import score


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

"""COCO figures and matches in cases small enough for a person; test_analysis compares with
pycocotools itself.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_detections import APPLE, BOX, DETECTIONS, PEAR, TRUTHS, found, groundtruth, made, matched

from scripts.core.text import DetectorError
from scripts.deploy.gate import passes, summary, what_to_try
from scripts.evaluation.detections import Detections, coco_detections
from scripts.evaluation.intervals import ap_drop_interval, ap_intervals, overall
from scripts.evaluation.intervals import matched as matched_intervals
from scripts.evaluation.metrics import evaluated, match, score, table_text


def test_perfect_detections_score_one():
    metrics = score(
        groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)]), [found(1, APPLE, BOX), found(2, PEAR, BOX)])
    assert {metrics[name] for name in ("AP", "AP50", "AP75", "AR1", "AR100")} == {1.0}
    assert metrics["per_class"]["pear"] == {"AP": 1.0, "AP50": 1.0, "AR100": 1.0, "boxes": 1}
    assert (metrics["images"], metrics["boxes"]) == (2, 2)
    assert [metrics[name] for name in ("APs", "APm", "APl")] == [None, 1.0, None], "5,000 px²"


def test_right_box_with_the_wrong_class_scores_nothing():
    metrics = score(
        groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)]), [found(1, PEAR, BOX), found(2, APPLE, BOX)])
    assert metrics["AP"] == 0.0 and metrics["AR100"] == 0.0


def test_half_of_the_box_counts_at_iou_half_only():
    # 100 x 50 against 100 x 26: IoU 0.52, so one of the ten thresholds.
    metrics = score(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, [10, 20, 100, 26])])
    assert (metrics["AP50"], metrics["AP75"], metrics["AP"]) == (1.0, 0.0, 0.1)


def test_false_alarm_before_the_hit_halves_the_precision_and_after_it_costs_nothing():
    truth = groundtruth([(1, APPLE, BOX)])
    wrong = [400.0, 300.0, 100.0, 50.0]
    assert score(truth, [found(1, APPLE, wrong, 0.95), found(1, APPLE, BOX)])["AP50"] == 0.5
    assert score(truth, [found(1, APPLE, wrong, 0.3), found(1, APPLE, BOX)])["AP50"] == 1.0


def test_false_alarm_in_an_image_without_boxes_counts():
    truth = groundtruth([(1, APPLE, BOX)], count=3)
    assert score(truth, [found(3, APPLE, BOX, 0.95), found(1, APPLE, BOX)])["AP50"] == 0.5


def test_missed_image_counts():
    truth = groundtruth([(1, APPLE, BOX), (2, APPLE, BOX)])
    metrics = score(truth, [found(1, APPLE, BOX)])
    assert metrics["AR100"] == 0.5
    # Precision is 1 at the recalls 0.00 to 0.50, which are 51 of 101.
    assert metrics["AP"] == pytest.approx(51 / 101, abs=1e-6)


def test_crowd_is_neither_rewarded_nor_punished():
    crowd = [300.0, 200.0, 200.0, 200.0]
    truth = groundtruth([(1, APPLE, BOX), (1, APPLE, crowd, True)])
    inside = [found(1, APPLE, [310 + 40 * i, 210, 30, 30], 0.99) for i in range(4)]
    metrics = score(truth, [*inside, found(1, APPLE, BOX)])
    assert metrics["AP"] == 1.0
    assert metrics["boxes"] == 1
    assert metrics["per_class"]["apple"]["boxes"] == 1
    assert score(truth, [found(1, APPLE, BOX)])["AP"] == 1.0


def test_class_without_boxes_is_undefined_and_does_not_pull_the_mean_down():
    metrics = score(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX), found(1, PEAR, BOX)])
    assert metrics["per_class"]["pear"] == {"AP": None, "AP50": None, "AR100": None, "boxes": 0}
    assert metrics["AP"] == 1.0


def test_no_detections_score_zero():
    metrics = score(groundtruth([(1, APPLE, BOX)]), [])
    assert metrics["AP"] == 0.0 and metrics["AR100"] == 0.0
    assert metrics["per_class"]["apple"]["AP"] == 0.0 and metrics["per_class"]["pear"]["AP"] is None


@pytest.mark.parametrize("images", [0, 2])
def test_no_ground_truth_is_undefined(images):
    metrics = score(groundtruth([], images), [])
    assert metrics["AP"] is None
    assert metrics["per_class"]["apple"]["AP"] is None
    assert metrics["boxes"] == 0


def test_detections_of_another_split_are_refused():
    with pytest.raises(ValueError, match="such as 9"):
        score(groundtruth([(1, APPLE, BOX)]), [found(9, APPLE, BOX)])


def test_prints_nothing_and_leaves_its_input_alone(capsys):
    truth, rows = groundtruth([(1, APPLE, BOX), (1, PEAR, BOX, True)]), [found(1, APPLE, BOX)]
    before = repr((truth, rows))
    score(truth, rows)
    assert repr((truth, rows)) == before and capsys.readouterr().out == ""


def test_table_is_aligned_and_in_points():
    names = ("apple", "苹果", "a much longer name")
    truth = groundtruth([(1, 1, BOX), (2, 2, BOX)], names=names)
    intervals = {"AP": (0.25, 1.0),
                 "per_class": {name: {"AP": None} for name in names} | {"apple": {"AP": (0, 0.5)}}}
    lines = table_text(score(truth, [found(1, 1, BOX)]), intervals).split("\n")
    assert re.split(" {2,}", lines[0]) == ["class", "AP", "95 %", "AP50", "AR100", "boxes"]
    assert lines[1].split() == ["apple", "100.0", "0.0-50.0", "100.0", "100.0", "1"]
    assert lines[2].split() == ["苹果", "0.0", "-", "0.0", "0.0", "1"]
    assert lines[3].split()[-5:] == ["-", "-", "-", "-", "0"]
    assert lines[4].split() == ["all", "50.0", "25.0-100.0", "50.0", "50.0", "2"]
    assert len(lines[1]) == len(lines[3]) == len(
        lines[2]) + 2, "each of the two Chinese letters is two columns wide"


def detections(yxyx_norm, class_ids, scores):
    return Detections(
        np.float32(yxyx_norm).reshape(-1, 4), np.asarray(class_ids, int), np.float32(scores))


def test_coco_form_is_in_pixels_of_the_image_and_counts_classes_from_one():
    (row,) = coco_detections(7, 200, 100, detections([[0.1, 0.2, 0.5, 0.6]], [0], [0.75]))
    assert row == {"image_id": 7, "category_id": 1, "bbox": [40.0, 10.0, 80.0, 40.0], "score": 0.75}


def test_boxes_are_clipped_to_the_image():
    rows = coco_detections(
        1, 200, 100, detections([[-0.5, 0.9, 0.5, 1.4], [0.6, 0.6, 0.4, 0.4]], [0, 1], [0.9, 0.8]))
    assert rows[0]["bbox"] == [180.0, 0.0, 20.0, 50.0]
    assert rows[1]["bbox"][2:] == [0.0, 0.0], "inverted: no area"


def test_close_scores_keep_their_ranks():
    scores = [np.float32(0.5)]
    for _ in range(50):
        scores.append(np.nextafter(scores[-1], np.float32(0)))
    rows = coco_detections(1, 10, 10, detections([[0, 0, 1, 1]] * 51, [0] * 51, scores))
    assert [np.float32(row["score"]) for row in rows] == scores
    assert max(len(str(row["score"])) for row in rows) <= 12


def test_a_broken_detector_is_named():
    with pytest.raises(DetectorError, match="image 3"):
        coco_detections(3, 10, 10, detections([[0, 0, 1, 1]], [0], [float("nan")]))


def test_no_detections_give_no_rows():
    assert coco_detections(1, 10, 10, detections([], [], [])) == []


# Which detection found which box, also against a matching written out.

def test_a_box_is_found_once_and_best_first():
    rows = match(
        groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX, 0.4), found(1, APPLE, BOX, 0.8)]).rows
    assert [(row.score, row.hit, row.annotation_id) for row in rows] == [
        (0.8, True, 1), (0.4, False, None)]


def test_the_wrong_class_is_a_hit_only_where_classes_do_not_count():
    truth = groundtruth([(1, APPLE, BOX)])
    assert not match(truth, [found(1, PEAR, BOX)]).rows[0].hit
    (row,) = match(truth, [found(1, PEAR, BOX)], by_class=False).rows
    assert row.hit and row.category_id == PEAR and row.annotation_id == 1


def test_a_crowd_may_be_found_often_and_counts_neither_way():
    matches = match(
        groundtruth([(1, APPLE, BOX, True), (2, APPLE, BOX)]), [found(1, APPLE, BOX)] * 2)
    assert [(row.hit, row.ignored) for row in matches.rows] == [(False, True)] * 2
    assert matches.boxes == {APPLE: 1, PEAR: 0}


def test_no_image_and_no_detection_are_no_matches():
    assert match(groundtruth([], count=0), []).rows == ()
    assert match(groundtruth([(1, APPLE, BOX)]), []).boxes == {APPLE: 1, PEAR: 0}


@pytest.mark.parametrize(("iou", "hit"), [(0.5, True), (0.55, False)])
def test_the_overlap_asked_for_decides(iou, hit):
    # IoU 0.52
    (row,) = match(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, [10, 20, 100, 26])], iou).rows
    assert row.hit is hit


@settings(deadline=None, max_examples=80)
@given(TRUTHS, DETECTIONS, st.booleans())
def test_matches_are_those_of_a_matching_written_out(truth, detections, by_class):
    matches = match(truth, detections, by_class=by_class)
    expected = [(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"],
                 box is not None, ignored)
                for row, (box, ignored) in ((detections[place], outcome)
                                            for place, outcome in matched(
                                                truth, detections, by_class).items())]
    assert sorted(expected) == sorted((
        row.image_id, row.category_id, row.bbox, row.score, row.hit, row.ignored)
                                      for row in matches.rows)
    assert sum(matches.boxes.values()) == sum(not box["iscrowd"] for box in truth["annotations"])


# Intervals of AP: the accumulation gives pycocotools' figures for every draw, and whether a loss of
# AP is more than chance.


def taken_literally(groundtruth, detections, taken):
    """Ground truth and detections in which an image taken three times stands there three times."""
    images, boxes, found = [], [], []
    for image, times in zip(groundtruth["images"], taken, strict=True):
        for _ in range(times):
            number = len(images) + 1
            images.append({**image, "id": number})
            boxes += [{**row, "id": len(boxes) + 1 + place, "image_id": number}
                      for place, row in enumerate(
                row for row in groundtruth["annotations"] if row["image_id"] == image["id"])]
            found += [
                {**row, "image_id": number} for row in detections if row["image_id"] == image["id"]]
    return {**groundtruth, "images": images, "annotations": boxes}, found


def figures_of_pycocotools(groundtruth, detections):
    """AP and AP50 by class, NaN where undefined, then over all classes."""
    evaluation = evaluated(groundtruth, detections)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = [np.where(part.max((0, 1)) < 0, np.nan, part.mean((0, 1)))
                for part in (precision, precision[:1])]
    return by_class, evaluation.stats[:2]


@pytest.mark.parametrize("seed", range(6))
def test_figures_of_any_draw_are_those_of_pycocotools(seed):
    groundtruth, detections = made(12, seed)
    taken = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), 8)
    by_class = matched_intervals(groundtruth, detections).ap(taken)
    for draw, times in enumerate(taken):
        expected, stats = figures_of_pycocotools(*taken_literally(groundtruth, detections, times))
        for ours, theirs, all_classes in zip(by_class, expected, stats, strict=True):
            np.testing.assert_allclose(ours[draw], theirs, atol=1e-9)
            assert overall(ours)[draw] == pytest.approx(all_classes, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_equal_scores_stand_as_pycocotools_has_them(seed):
    groundtruth, detections = made(40, seed)
    detections = [{**row, "score": round(row["score"], 1)} for row in detections]
    by_class = matched_intervals(groundtruth, detections).ap(np.ones((1, 40), int))
    expected, _ = figures_of_pycocotools(groundtruth, detections)
    for ours, theirs in zip(by_class, expected, strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-9)


def test_a_class_without_a_box_is_undefined_and_does_not_count():
    groundtruth, detections = made(10, classes=2)
    groundtruth["annotations"] = [
        row for row in groundtruth["annotations"] if row["category_id"] == 1]
    ap, _ = matched_intervals(groundtruth, detections).ap(np.ones((1, 10), int))
    assert np.isnan(ap[0, 1])
    assert overall(ap)[0] == ap[0, 0] > 0
    assert np.isnan(overall(np.full((1, 2), np.nan)))


def test_detections_that_are_none_have_an_ap_of_zero():
    groundtruth, _ = made(10)
    ap, ap50 = matched_intervals(groundtruth, []).ap(np.ones((2, 10), int))
    assert (ap == 0).all() and (ap50 == 0).all()


# Intervals, and what the gate makes of them.

def labeled(images: int):
    """COCO ground truth with one box an image, and detections that find each of them exactly."""
    boxes = [{"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 50, 50],
              "area": 2500, "iscrowd": 0}
             for number in range(1, images + 1)]
    truth = {"images": [
        {"id": row["id"], "file_name": "", "width": 100, "height": 100} for row in boxes],
             "categories": [{"id": 1, "name": "apple"}], "annotations": boxes}
    found = [{"image_id": row["id"], "category_id": 1, "bbox": row["bbox"], "score": 0.9}
             for row in boxes]
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
            assert all(part[name][0] < values[name] < part[name][1] for name in ("AP", "AP50")
                       if name in part)
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

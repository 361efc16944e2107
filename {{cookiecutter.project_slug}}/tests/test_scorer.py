"""COCO figures: cases small enough for a person, and equality with pycocotools itself."""

import contextlib
import io
import random

import numpy as np
import pytest

from scripts.evaluation.detections import Detections, coco_detections
from scripts.evaluation.scorer import SUMMARY, score, table_text
from scripts.pipeline.errors import DetectorError

APPLE, PEAR = 1, 2
BOX = [10.0, 20.0, 100.0, 50.0]


def groundtruth(boxes, pictures=2, names=("apple", "pear")):
    """COCO form of (picture, class, bbox[, crowd]) rows."""
    annotations = [
        {"id": number, "image_id": picture, "category_id": label, "bbox": bbox, "area": bbox[2] * bbox[3],
         "iscrowd": int(any(crowd))}
        for number, (picture, label, bbox, *crowd) in enumerate(boxes, start=1)
    ]  # fmt: skip
    images = [{"id": number, "width": 640, "height": 480} for number in range(1, pictures + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def found(picture, label, bbox, confidence=0.9):
    return {"image_id": picture, "category_id": label, "bbox": bbox, "score": confidence}


def test_perfect_detections_score_one():
    metrics = score(groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)]), [found(1, APPLE, BOX), found(2, PEAR, BOX)])
    assert metrics["AP"] == metrics["AP50"] == metrics["AP75"] == metrics["AR1"] == metrics["AR100"] == 1.0
    assert metrics["per_class"]["pear"] == {"AP": 1.0, "AP50": 1.0, "AR100": 1.0, "boxes": 1}
    assert (metrics["pictures"], metrics["boxes"]) == (2, 2)
    assert metrics["APm"] == 1.0 and metrics["APs"] is None and metrics["APl"] is None, "5,000 px² is a medium box"


def test_right_box_with_the_wrong_class_scores_nothing():
    metrics = score(groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)]), [found(1, PEAR, BOX), found(2, APPLE, BOX)])
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


def test_false_alarm_in_a_picture_without_boxes_counts():
    truth = groundtruth([(1, APPLE, BOX)], pictures=3)
    assert score(truth, [found(3, APPLE, BOX, 0.95), found(1, APPLE, BOX)])["AP50"] == 0.5


def test_missed_picture_counts():
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
    assert metrics["AP"] == 1.0 and metrics["boxes"] == 1 and metrics["per_class"]["apple"]["boxes"] == 1
    assert score(truth, [found(1, APPLE, BOX)])["AP"] == 1.0


def test_class_without_boxes_is_undefined_and_does_not_pull_the_mean_down():
    metrics = score(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX), found(1, PEAR, BOX)])
    assert metrics["per_class"]["pear"] == {"AP": None, "AP50": None, "AR100": None, "boxes": 0}
    assert metrics["AP"] == 1.0


def test_no_detections_score_zero():
    metrics = score(groundtruth([(1, APPLE, BOX)]), [])
    assert metrics["AP"] == 0.0 and metrics["AR100"] == 0.0
    assert metrics["per_class"]["apple"]["AP"] == 0.0 and metrics["per_class"]["pear"]["AP"] is None


@pytest.mark.parametrize("pictures", [0, 2])
def test_no_ground_truth_is_undefined(pictures):
    metrics = score(groundtruth([], pictures), [])
    assert metrics["AP"] is None and metrics["per_class"]["apple"]["AP"] is None and metrics["boxes"] == 0


def test_detections_of_another_split_are_refused():
    with pytest.raises(ValueError, match="such as 9"):
        score(groundtruth([(1, APPLE, BOX)]), [found(9, APPLE, BOX)])


def test_prints_nothing_and_leaves_its_input_alone(capsys):
    truth, rows = groundtruth([(1, APPLE, BOX), (1, PEAR, BOX, True)]), [found(1, APPLE, BOX)]
    before = repr((truth, rows))
    score(truth, rows)
    assert repr((truth, rows)) == before and capsys.readouterr().out == ""


def test_equals_pycocotools():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dice = random.Random(3)
    boxes, rows = [], []
    for _ in range(150):
        picture, label = dice.randint(1, 30), dice.randint(1, 3)
        bbox = [dice.uniform(0, 500), dice.uniform(0, 300), dice.uniform(5, 140), dice.uniform(5, 140)]
        boxes.append((picture, label, bbox, dice.random() < 0.1))
        for _ in range(dice.randint(0, 3)):
            shifted = [value + dice.gauss(0, 6) for value in bbox[:2]]
            shifted += [value * dice.uniform(0.7, 1.3) for value in bbox[2:]]
            rows.append(found(picture, dice.choice([label, label, 1]), shifted, round(dice.random(), 2)))
    truth = groundtruth(boxes, 40, ("apple", "pear", "plum", "never seen"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in rows]), "bbox")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    metrics = score(truth, rows)
    assert [metrics[name] for name in SUMMARY] == pytest.approx(list(evaluation.stats), abs=1e-6)
    classes = [part["AP"] for part in metrics["per_class"].values() if part["AP"] is not None]
    assert len(classes) == 3 and np.mean(classes) == pytest.approx(metrics["AP"], abs=1e-6)


def test_table_is_aligned_and_in_points():
    names = ("apple", "苹果", "a much longer name")
    truth = groundtruth([(1, 1, BOX), (2, 2, BOX)], names=names)
    lines = table_text(score(truth, [found(1, 1, BOX)])).split("\n")
    assert lines[0].split() == ["class", "AP", "AP50", "AR100", "boxes"]
    assert lines[1].split() == ["apple", "100.0", "100.0", "100.0", "1"]
    assert lines[2].split() == ["苹果", "0.0", "0.0", "0.0", "1"]
    assert lines[3].split()[-4:] == ["-", "-", "-", "0"]
    assert lines[4].split() == ["all", "50.0", "50.0", "50.0", "2"]
    assert len(lines[1]) == len(lines[3]) == len(lines[2]) + 2, "each of the two Chinese letters is two columns wide"


def detections(yxyx_norm, class_ids, scores):
    return Detections(np.float32(yxyx_norm).reshape(-1, 4), np.asarray(class_ids, int), np.float32(scores))


def test_coco_form_is_in_pixels_of_the_picture_and_counts_classes_from_one():
    (row,) = coco_detections(7, 200, 100, detections([[0.1, 0.2, 0.5, 0.6]], [0], [0.75]))
    assert row == {"image_id": 7, "category_id": 1, "bbox": [40.0, 10.0, 80.0, 40.0], "score": 0.75}


def test_boxes_are_clipped_to_the_picture():
    rows = coco_detections(1, 200, 100, detections([[-0.5, 0.9, 0.5, 1.4], [0.6, 0.6, 0.4, 0.4]], [0, 1], [0.9, 0.8]))
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
    with pytest.raises(DetectorError, match="picture 3"):
        coco_detections(3, 10, 10, detections([[0, 0, 1, 1]], [0], [float("nan")]))


def test_no_detections_give_no_rows():
    assert coco_detections(1, 10, 10, detections([], [], [])) == []

"""What TensorBoard shows: figures by class, images, and the events of real steps."""

import json

import numpy as np
import pytest
from PIL import Image
from small_project import configure_small, decoded, group, read_events, train_small

from scripts.data.drawing import class_color
from scripts.evaluation.metrics import evaluated, score
from scripts.training.summaries import (
    PANEL_PX,
    THRESHOLDS,
    average_precisions,
    choose,
    pr_counts,
    side_by_side,
)

# AP and precision-recall counts of single classes, out of pycocotools' evaluation.

APPLE, PEAR, PLUM = 1, 2, 3


def truth(*boxes):
    """`boxes`: (image, class, left edge, crowd) of squares of 100 px."""
    rows = [{"id": number, "image_id": image, "category_id": category, "bbox": [left, 0, 100, 100],
             "area": 10_000, "iscrowd": crowd}
            for number, (image, category, left, crowd) in enumerate(boxes, start=1)]
    return {"images": [{"id": number, "width": 900, "height": 100} for number in (1, 2)],
            "annotations": rows,
            "categories": [{"id": APPLE, "name": "apple"}, {"id": PEAR, "name": "pear"},
                           {"id": PLUM, "name": "plum"}]}


def found(*detections):
    """`detections`: (image, class, left edge, score)."""
    return [{"image_id": image, "category_id": category, "bbox": [left, 0, 100, 100], "score": sure}
            for image, category, left, sure in detections]


BOXES = truth((1, APPLE, 0, 0), (1, APPLE, 300, 0), (2, APPLE, 0, 0), (2, APPLE, 500, 1),
              (2, PEAR, 700, 0))
DETECTIONS = found((1, APPLE, 5, 0.9), (1, APPLE, 600, 0.6), (2, APPLE, 10, 0.4),
                   (2, APPLE, 500, 0.8), (2, PEAR, 0, 0.7), (1, APPLE, 850, 0.0))


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
    assert counts[APPLE].precision[index] == 1 / 2
    assert counts[APPLE].recall[index] == pytest.approx(1 / 3)
    assert counts[PEAR].precision[index] == 0 and counts[PEAR].recall[index] == 0
    assert counts[PEAR].precision[100] == 0, "nothing is shown there"


def test_a_class_of_which_nothing_was_found_has_a_curve_of_misses():
    counts = pr_counts(evaluated(BOXES, []))
    assert set(counts[APPLE].missed) == {3} and not counts[APPLE].right.any()


def test_ap_by_class_is_that_of_the_table():
    evaluation, table = evaluated(BOXES, DETECTIONS), score(BOXES, DETECTIONS)["per_class"]
    by_class = average_precisions(evaluation)
    assert by_class[APPLE] == pytest.approx(table["apple"]["AP"], abs=1e-6)
    assert 0 < by_class[APPLE] < 1
    assert by_class[PEAR] == table["pear"]["AP"] == 0
    assert PLUM not in by_class and table["plum"]["AP"] is None


# Images: which are chosen, and what stands side by side.

IMAGE = Image.new("RGB", (PANEL_PX, 240), (128, 128, 128))


def box(class_id, score=None, box_xyxy_px=(60, 60, 260, 200)):
    return {"class": f"class {class_id}", "class_id": class_id, "score": score,
            "box_xyxy_px": list(box_xyxy_px)}


def shown_px(image, class_id):
    return int((np.asarray(image) == class_color(class_id)).all(axis=2).sum())


def halves(sheet):
    middle = sheet.width // 2
    return (sheet.crop((0, 0, middle, sheet.height)),
            sheet.crop((middle, 0, sheet.width, sheet.height)))


def test_chosen_images_hold_labels_and_show_every_class():
    shown = [(number, {1}) for number in range(100)]
    shown += [(200, set()), (201, {2}), (202, {3}), (203, {1, 2})]
    chosen = choose(shown, 4)
    assert chosen == choose(shown, 4) and len(chosen) == len(set(chosen)) == 4
    assert {202, 201} < set(chosen) and 200 not in chosen


def test_there_may_be_fewer_images_than_asked_for():
    assert choose([(7, {1}), (8, set())], 8) == [7]
    assert choose([(8, set())], 8) == [] == choose([], 8)


def test_labels_stand_left_and_detections_right():
    sheet = side_by_side(IMAGE, [box(0)], [box(1, 0.8)])
    left, right = halves(sheet)
    assert sheet.width >= 2 * PANEL_PX and sheet.height > 240
    assert shown_px(left, 0) > 500 and shown_px(left, 1) == 0
    assert shown_px(right, 1) > 500 and shown_px(right, 0) == 0


def test_only_detections_that_are_sure_enough_are_drawn():
    found = [box(1, 0.29, (150, 110, 310, 230)), box(2, 0.3, (10, 30, 130, 100))]
    _, right = halves(side_by_side(IMAGE, [], found))
    assert shown_px(right, 1) == 0 and shown_px(right, 2) > 500


# Event files of a training and an evaluation: the real steps on 24 drawn images.

PR = "precision and recall at IoU 0.5"
SPLITS = [("training/validation", "validation", "AP"), ("eval/tensorboard", "test", "test/AP")]

@pytest.fixture(scope="module")
def board(trained, tmp_path_factory):
    """A project of several evaluations and a score on the test images."""
    import shutil

    from scripts.steps.evaluate import evaluate

    root = shutil.copytree(trained, tmp_path_factory.mktemp("board") / "project")
    configure_small(root, INVOKE_TRAIN_EPOCHS="8")
    train_small(root)
    evaluate(root, "last", 0.01, 100, 1.0)
    return root


def labeled(root, split):
    """Boxes to find by class name, and names of images, of a split."""
    from scripts.core.layout import Layout
    from scripts.data.label_map import read_label_map
    from scripts.evaluation.detections import coco_groundtruth

    layout = Layout(root)
    found = coco_groundtruth(layout.records(split), read_label_map(layout.label_map))
    names = {category["id"]: category["name"] for category in found["categories"]}
    classes = [names[row["category_id"]] for row in found["annotations"] if not row["iscrowd"]]
    return ({name: classes.count(name) for name in set(classes)},
            {image["file_name"] for image in found["images"]})


@pytest.mark.slow
def test_validation_figures_are_those_of_run_json(board):
    events = read_events(board / "training/validation")
    run = json.loads((board / "training/run.json").read_text())
    noted = {made["step"]: made["AP"] for made in run["evaluations"]}
    assert len(noted) > 3
    assert {step: float(value) for step, value in events["AP"].items()} == pytest.approx(noted)
    assert {"AP50", "AP75", "ARmax100"} < set(events)
    figures = [steps for tag, steps in events.items() if tag.startswith(("AP", "AR"))]
    shown = [value for steps in figures for value in steps.values()]
    assert min(shown) >= 0, "an undefined figure is not shown as -1"


@pytest.mark.slow
def test_losses_of_training_and_validation_are_in_one_chart(board):
    training, validation = (read_events(board / "training" / run)
                            for run in ("train", "validation"))
    for tag in ("total_loss", "cls_loss", "box_loss"):
        assert set(validation[tag]) <= set(training[tag])
    for tag in ("learning_rate", "steps_per_second", "training/gradient_norm",
                "training/images_per_second"):
        assert all(value > 0 for value in training[tag].values())


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "split", "average_tag"), SPLITS)
def test_each_class_with_boxes_has_its_ap_and_its_curve(board, folder, split, average_tag):
    events, (boxes, _) = read_events(board / folder), labeled(board, split)
    by_class = group(events, f"{split} AP by class")
    assert set(by_class) == set(boxes)
    assert all(set(steps) == set(events[average_tag]) for steps in by_class.values())
    for step, average in events[average_tag].items():
        found = np.mean([steps[step] for steps in by_class.values()])
        assert found == pytest.approx(float(average), abs=1e-5)
    curves = group(events, PR)
    assert set(curves) == {f"{name}/pr_curves" for name in boxes}
    for name, steps in curves.items():
        for right, wrong, _, missed, precision, recall in steps.values():
            assert set(right + missed) == {boxes[name.removesuffix("/pr_curves")]}
            shown = right + wrong > 0
            expected = right / np.maximum(right + wrong, 1)
            assert precision[shown] == pytest.approx(expected[shown], abs=1e-6)
            assert recall == pytest.approx(right / (right + missed), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "split", "average_tag"), SPLITS)
def test_the_same_images_are_shown_at_each_evaluation(board, folder, split, average_tag):
    events, (_, names) = read_events(board / folder), labeled(board, split)
    images = group(events, f"{split} images")
    assert images and set(images) <= names
    for steps in images.values():
        assert set(steps) == set(events[average_tag])
        for array in steps.values():
            pixels = decoded(array)
            height, width = pixels.shape[:2]
            assert width > 1.8 * height and pixels.std() > 10
            left, right = pixels[:, :width // 2], pixels[:, width - width // 2:]
            assert np.abs(left.astype(int) - right).max() > 50


@pytest.mark.slow
def test_the_test_figures_are_those_of_metrics_json(board):
    metrics = json.loads((board / "eval/metrics.json").read_text())
    events = read_events(board / "eval/tensorboard")
    step = int(metrics["checkpoint"].rsplit("-", 1)[1])
    for name in ("AP", "AP50", "AR100"):
        assert float(events[f"test/{name}"][step]) == pytest.approx(metrics[name], abs=1e-6)
    for name, steps in group(events, "test AP by class").items():
        assert float(steps[step]) == pytest.approx(metrics["per_class"][name]["AP"], abs=1e-6)

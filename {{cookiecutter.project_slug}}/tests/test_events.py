"""What TensorBoard shows of a training and an evaluation: the real steps on 24 drawn images."""

import json

import numpy as np
import pytest
from event_files import decoded, group, read_events
from small_project import configure_small, train_small

PR = "precision and recall at IoU 0.5"
SPLITS = [("training/validation", "validation", "AP"), ("eval/tensorboard", "test", "test/AP")]

pytestmark = pytest.mark.slow


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


def truth(root, split):
    """Boxes to find by class name, and names of images, of a split."""
    from scripts.core.layout import Layout
    from scripts.data.label_map import read_label_map
    from scripts.evaluation.detections import coco_groundtruth

    layout = Layout(root)
    found = coco_groundtruth(layout.records(split), read_label_map(layout.label_map))
    names = {category["id"]: category["name"] for category in found["categories"]}
    classes = [names[row["category_id"]] for row in found["annotations"] if not row["iscrowd"]]
    return ({name: classes.count(name) for name in set(classes)}, {image["file_name"] for image in found["images"]})


def test_validation_figures_are_those_of_run_json(board):
    events = read_events(board / "training/validation")
    noted = {each["step"]: each["AP"] for each in json.loads((board / "training/run.json").read_text())["evaluations"]}
    assert len(noted) > 3
    assert {step: float(value) for step, value in events["AP"].items()} == pytest.approx(noted)
    assert {"AP50", "AP75", "ARmax100"} < set(events)
    figures = [steps for tag, steps in events.items() if tag.startswith(("AP", "AR"))]
    assert all(value >= 0 for steps in figures for value in steps.values()), "an undefined figure is not shown as -1"


def test_losses_of_training_and_validation_are_in_one_chart(board):
    training, validation = (read_events(board / "training" / run) for run in ("train", "validation"))
    for tag in ("total_loss", "cls_loss", "box_loss"):
        assert set(validation[tag]) <= set(training[tag])
    for tag in ("learning_rate", "steps_per_second", "training/gradient_norm", "training/images_per_second"):
        assert all(value > 0 for value in training[tag].values())


@pytest.mark.parametrize(("folder", "split", "average_tag"), SPLITS)
def test_each_class_with_boxes_has_its_ap_and_its_curve(board, folder, split, average_tag):
    events, (boxes, _) = read_events(board / folder), truth(board, split)
    by_class = group(events, f"{split} AP by class")
    assert set(by_class) == set(boxes)
    assert all(set(steps) == set(events[average_tag]) for steps in by_class.values())
    for step, average in events[average_tag].items():
        assert np.mean([steps[step] for steps in by_class.values()]) == pytest.approx(float(average), abs=1e-5)
    curves = group(events, PR)
    assert set(curves) == {f"{name}/pr_curves" for name in boxes}
    for name, steps in curves.items():
        for right, wrong, _, missed, precision, recall in steps.values():
            assert set(right + missed) == {boxes[name.removesuffix("/pr_curves")]}
            shown = right + wrong > 0
            assert precision[shown] == pytest.approx((right / np.maximum(right + wrong, 1))[shown], abs=1e-6)
            assert recall == pytest.approx(right / (right + missed), abs=1e-6)


@pytest.mark.parametrize(("folder", "split", "average_tag"), SPLITS)
def test_the_same_images_are_shown_side_by_side_at_each_evaluation(board, folder, split, average_tag):
    events, (_, names) = read_events(board / folder), truth(board, split)
    images = group(events, f"{split} images")
    assert images and set(images) <= names
    for steps in images.values():
        assert set(steps) == set(events[average_tag])
        for array in steps.values():
            pixels = decoded(array)
            height, width = pixels.shape[:2]
            assert width > 1.8 * height and pixels.std() > 10
            assert np.abs(pixels[:, :width // 2].astype(int) - pixels[:, width - width // 2:]).max() > 50


def test_the_test_figures_are_those_of_metrics_json(board):
    metrics = json.loads((board / "eval/metrics.json").read_text())
    events = read_events(board / "eval/tensorboard")
    step = int(metrics["checkpoint"].rsplit("-", 1)[1])
    for name in ("AP", "AP50", "AR100"):
        assert float(events[f"test/{name}"][step]) == pytest.approx(metrics[name], abs=1e-6)
    for name, steps in group(events, "test AP by class").items():
        assert float(steps[step]) == pytest.approx(metrics["per_class"][name]["AP"], abs=1e-6)

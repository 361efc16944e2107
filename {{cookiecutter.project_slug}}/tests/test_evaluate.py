"""TFRecords back as COCO ground truth, and what `invoke evaluate` writes, on real records.
"""

import json
import random

import pytest
from independent import differences, figures_of_files

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.dataset import Box, Image

pytestmark = pytest.mark.slow
IDS = {"apple": 1, "пиво": 4}
NAMES = {number: name for name, number in IDS.items()}


@pytest.fixture
def root(project):
    """A project whose test split has two images: one with a box of each flag, one without boxes."""
    import tensorflow as tf

    from scripts.data.examples import example_bytes

    root = project.root
    (root / "annotations").mkdir()
    boxes = (
        Box("apple", (0.0, 0.5, 333.0, 250.25)),
        Box("пиво", (10.0, 20.0, 30.0, 40.0), group_of=True),
        Box("пиво", (10.0, 20.0, 31.0, 40.0), difficult=True),
        Box("apple", (10.0, 20.0, 32.0, 40.0), is_crowd=True),
        Box("apple", (10.0, 20.0, 33.0, 40.0), truncated=True, occluded=True),
    )
    data = project.bytes_of("a", (333, 251))
    with tf.io.TFRecordWriter(str(root / "annotations/test.record-00000-of-00001")) as writer:
        writer.write(example_bytes(Image(root / "ä b.jpg", 333, 251, boxes), data, 12, IDS))
        writer.write(example_bytes(Image(root / "empty.jpg", 333, 251), data, 3, IDS))
    return root


def test_boxes_come_back_as_they_were_labeled(root):
    from scripts.evaluation.detections import coco_groundtruth

    truth = coco_groundtruth(Layout(root).records("test"), NAMES)
    assert truth["images"] == [
        {"id": 12, "file_name": "ä b.jpg", "width": 333, "height": 251},
        {"id": 3, "file_name": "empty.jpg", "width": 333, "height": 251},
    ]
    assert truth["categories"] == [{"id": 1, "name": "apple"}, {"id": 4, "name": "пиво"}]
    first = truth["annotations"][0]
    assert first["bbox"] == [0.0, 0.5, 333.0, 249.75] and first["area"] == pytest.approx(333 * 249.75)
    assert [row["iscrowd"] for row in truth["annotations"]] == [0, 1, 1, 1, 0]
    assert [row["category_id"] for row in truth["annotations"]] == [1, 4, 4, 1, 1]
    assert all(row["id"] > 0 and row["image_id"] == 12 for row in truth["annotations"])


def test_images_are_given_with_the_bytes_of_their_file(root, project):
    from scripts.evaluation.detections import decode_rgb, record_images

    images = list(record_images(Layout(root).records("test")))
    assert [image.image_id for image in images] == [12, 3]
    assert images[0].encoded == project.bytes_of("a", (333, 251))
    assert decode_rgb(images[0].encoded).shape == (251, 333, 3)


def test_missing_records_and_unknown_classes_are_named(root):
    from scripts.evaluation.detections import coco_groundtruth

    with pytest.raises(DetectorError, match="invoke records"):
        coco_groundtruth(Layout(root).records("validation"), NAMES)
    with pytest.raises(DetectorError, match="class id 4 .*ä b.jpg"):
        coco_groundtruth(Layout(root).records("test"), {1: "apple"})


def moved_boxes(model, images, score_threshold, max_detections):
    """Most labeled boxes of images, moved a little: two steps of training find nothing."""
    dice = random.Random(7)
    for image in images:
        for label_id, edges in zip(image.label_ids, image.xyxy_px, strict=True):
            xmin, ymin, xmax, ymax = edges
            label = label_id if dice.random() < 0.9 else 1
            corner = [round(value + dice.gauss(0, 3), 3) for value in (xmin, ymin)]
            bbox = [*corner, round(xmax - xmin, 3), round(ymax - ymin, 3)]
            yield {"image_id": image.image_id, "category_id": label, "bbox": bbox,
                   "score": round(dice.random(), 2)}


def test_the_written_files_give_pycocotools_the_written_figures(copy, monkeypatch, capsys):
    from scripts.steps import evaluate

    monkeypatch.setattr(evaluate, "checkpoint_detections", moved_boxes)
    evaluate.evaluate(copy, "best", 0.01, 100, 1.0)
    files = [copy / "eval/metrics.json", copy / "eval/analysis.json"]
    metrics, analysis = (json.loads(path.read_text("utf-8")) for path in files)
    assert metrics["AP"] > 0.1 and metrics["checkpoint"] == analysis["checkpoint"]
    independent = figures_of_files(copy / "eval/groundtruth.json", copy / "eval/detections.json")
    assert max(differences(metrics, analysis, independent)) < 1e-6
    printed = capsys.readouterr().out
    assert (copy / "eval/table.txt").read_text("utf-8") in printed
    assert f"from a score of {analysis['thresholds']['all']['best_f1']['score']:.2f} on" in printed
    assert "test images cannot tell" in printed, "there are but a few"
    errors = json.loads((copy / "eval/errors.json").read_text("utf-8"))
    assert errors["checkpoint"] == metrics["checkpoint"] and errors["boxes"] == metrics["boxes"]
    assert len((copy / "eval/errors.csv").read_text("utf-8").splitlines()) == len(errors["errors"]) + 1
    assert [path.name for path in (copy / "eval/runs").glob("*/run.json")] == ["run.json"]

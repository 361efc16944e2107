"""TFRecords back as COCO ground truth, and what `invoke evaluate` writes, on real records.
"""

import json
import random

import pytest
from made_detections import differences, figures_of_files
from made_tflite import SLOTS_OF_TINY_TFLITE as SLOTS
from made_tflite import _post_process

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.dataset import Box, Image

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


@pytest.mark.slow
def test_boxes_come_back_as_they_were_labeled(root):
    from scripts.evaluation.detections import coco_groundtruth

    truth = coco_groundtruth(Layout(root).records("test"), NAMES)
    assert truth["images"] == [
        {"id": 12, "file_name": "ä b.jpg", "width": 333, "height": 251},
        {"id": 3, "file_name": "empty.jpg", "width": 333, "height": 251},
    ]
    assert truth["categories"] == [{"id": 1, "name": "apple"}, {"id": 4, "name": "пиво"}]
    first = truth["annotations"][0]
    assert first["bbox"] == [0.0, 0.5, 333.0, 249.75]
    assert first["area"] == pytest.approx(333 * 249.75)
    assert [row["iscrowd"] for row in truth["annotations"]] == [0, 1, 1, 1, 0]
    assert [row["category_id"] for row in truth["annotations"]] == [1, 4, 4, 1, 1]
    assert all(row["id"] > 0 and row["image_id"] == 12 for row in truth["annotations"])


@pytest.mark.slow
def test_images_are_given_with_the_bytes_of_their_file(root, project):
    from scripts.evaluation.detections import decode_rgb, record_images

    images = list(record_images(Layout(root).records("test")))
    assert [image.image_id for image in images] == [12, 3]
    assert images[0].encoded == project.bytes_of("a", (333, 251))
    assert decode_rgb(images[0].encoded).shape == (251, 333, 3)


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert len((copy / "eval/errors.csv").read_text("utf-8").splitlines()) == len(
        errors["errors"]) + 1
    assert [path.name for path in (copy / "eval/runs").glob("*/run.json")] == ["run.json"]


# Suppression of the checkpoint against that of the operation in the shipped file.


ANCHORS, CLASSES, THRESHOLD = 300, 6, 0.3


@pytest.fixture(scope="module")
def operation(tmp_path_factory) -> bytes:
    """A `.tflite` that is the operation alone: boxes and scores in, detections out."""
    import tensorflow as tf

    module, folder = tf.Module(), str(tmp_path_factory.mktemp("operation"))
    post_process = _post_process(CLASSES)
    anchors = tf.constant([[0.5, 0.5, 1.0, 1.0]] * ANCHORS)

    @tf.function(
        input_signature=[tf.TensorSpec([1, ANCHORS, 4], name="b"),
                         tf.TensorSpec([1, ANCHORS, CLASSES], name="s")]
    )
    def serve(b, s):
        return dict(zip(("a", "b", "c", "d"), post_process(b, s, anchors), strict=True))

    module.serve = serve
    tf.saved_model.save(module, folder, signatures={"serving_default": serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.allow_custom_ops = True
    return converter.convert()


def random_case(seed):
    """Boxes (center, side) in heaps, so that many overlap, and scores of which some are under the
    threshold."""
    import numpy as np

    dice = np.random.default_rng(seed)
    heaps = dice.uniform(0.2, 0.8, (12, 2))
    centers = heaps[dice.integers(0, 12, ANCHORS)] + dice.normal(0, 0.03, (ANCHORS, 2))
    sides = dice.uniform(0.1, 0.3, (ANCHORS, 2))
    return centers.astype(np.float32), sides.astype(np.float32), dice.random(
        (ANCHORS, CLASSES), np.float32) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_checkpoint_and_file_suppress_alike(operation, threads):
    import numpy as np
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from scripts.evaluation.detector import suppress

    run = Interpreter(model_content=operation, num_threads=threads).get_signature_runner()
    ours = tf.function(lambda boxes, scores: suppress(boxes, scores, THRESHOLD, 0.5, SLOTS))
    for seed in range(5):
        centers, sides, scores = random_case(seed)
        encoded = np.concatenate([centers - 0.5, np.log(sides)], 1)[None].astype(np.float32)
        theirs = run(b=encoded, s=scores[None])
        yxyx = np.concatenate([centers - sides / 2, centers + sides / 2], 1)
        boxes, classes, best, count = (part.numpy() for part in ours(yxyx[None], scores[None]))
        used = int(theirs["d"][0])
        assert count.tolist() == [used] and 10 < used < SLOTS
        assert np.allclose(best[0, :used], theirs["c"][0, :used], atol=1e-6)
        assert classes[0, :used].tolist() == theirs["b"][0, :used].tolist()
        assert set(classes[0, :used]) == set(range(CLASSES)), "no class is lost"
        assert np.allclose(boxes[0, :used], theirs["a"][0, :used].clip(0, 1), atol=1e-5)
        assert not boxes[0, used:].any() and not best[0, used:].any()


@pytest.mark.slow
def test_images_of_a_batch_do_not_mix_and_none_may_be_empty():
    import numpy as np

    from scripts.evaluation.detector import suppress

    boxes = np.float32(
        [[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45]], [[-0.2, 0, 0.5, 1.5], [0.6, 0.6, 1, 1]]])
    scores = np.float32([[[0.1, 0.2], [0.2, 0.1]], [[0.4, 0.6], [0.9, 0.1]]])
    found, classes, best, count = (part.numpy() for part in suppress(boxes, scores, 0.3, 0.5, 4))
    assert count.tolist() == [0, 2] and not found[0].any()
    assert classes[1, :2].tolist() == [0, 1] and best[1, :2].tolist() == pytest.approx([0.9, 0.6])
    assert found[1, 1].tolist() == [0, 0, 0.5, 1], "clipped to the image"

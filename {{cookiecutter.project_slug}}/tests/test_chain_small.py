"""The real steps on 24 drawn pictures and two training steps: what each file says is what the next one does."""

import json

import pytest
from mediapipe_client import mediapipe_detections
from small_project import configure_small, settings_of

from scripts.pipeline.errors import DetectorError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lively(trained):
    """The trained model with class scores that differ: two steps leave them all at one per cent.

    Scaled and shifted by what it says of a few pictures, so that one place in a hundred scores above a half in every
    class whatever two steps of training left in the layers before.
    """
    import numpy as np

    from scripts.deploy.convert import calibration_pictures
    from scripts.evaluation.model import load_model

    model = load_model(trained, "best")
    classifier = model.network.head._classifier
    dice = np.random.default_rng(7)
    classifier.pointwise_kernel.assign(dice.normal(0, 0.1, classifier.pointwise_kernel.shape))
    classifier.depthwise_kernel.assign(dice.normal(0, 0.1, classifier.depthwise_kernel.shape))
    classifier.bias.assign(classifier.bias * 0.0)
    pictures = calibration_pictures(trained, model.input_px, 8)
    scores = np.concatenate([model.predict(picture[None])[1].numpy().reshape(-1, 4) for picture in pictures])
    logits = np.log(scores / (1 - scores))
    scale = 2.0 / np.std(logits)
    classifier.pointwise_kernel.assign(classifier.pointwise_kernel * scale)
    classifier.bias.assign([0.0, *(-scale * np.quantile(logits, 0.99, axis=0))])  # First comes the background.
    return model


def test_a_missing_checkpoint_names_those_there_are(trained):
    from scripts.evaluation.model import checkpoint_path

    assert checkpoint_path(trained, "last").name == "average_weights-2"
    with pytest.raises(DetectorError, match=r"no checkpoint '7' \(steps there: 2\)"):
        checkpoint_path(trained, "7")


def test_training_sees_a_picture_as_validation_does(trained):
    """Without augmentation the small picture kept in memory gives what the library's parser gives, boxes too."""
    import numpy as np

    from scripts.training import detector
    from scripts.training.experiment import read_experiment, with_absolute_paths

    configure_small(trained, INVOKE_TRAIN_AUGMENT="none")
    config = with_absolute_paths(read_experiment(trained / "training/experiment.yaml"), trained).task
    configure_small(trained)
    task = detector.DetectorTask(config)
    config.validation_data.input_path = config.train_data.input_path
    theirs = {}
    for images, labels in task.build_inputs(config.validation_data).take(3).as_numpy_iterator():
        for image, boxes, classes in zip(images, labels["boxes_px"], labels["classes"], strict=True):
            theirs[len(theirs)] = image, boxes[classes > 0], classes[classes > 0]
    ((images, labels),) = task.build_inputs(config.train_data).take(1).as_numpy_iterator()
    for image, number, boxes, classes in zip(images, *(labels[k] for k in ("picture", "boxes_px", "classes")),
                                             strict=True):
        expected, expected_boxes, expected_classes = theirs[number]
        assert np.allclose(image, expected, atol=0.005)
        assert np.allclose(boxes[classes > 0], expected_boxes, atol=0.01)
        assert list(classes[classes > 0]) == list(expected_classes)


def matched(ours, theirs, score_tolerance):
    """Share of our detections that theirs holds: same class, IoU above 0.9, score within the tolerance."""
    import numpy as np

    def iou(one, other):
        top_left, bottom_right = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
        common = np.prod(np.clip(bottom_right - top_left, 0, None))
        return common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common)

    hits = 0
    for box, class_id, score in zip(ours.yxyx_norm, ours.class_ids, ours.scores, strict=True):
        hits += any(
            class_id == other_id and abs(score - other_score) < score_tolerance and iou(box, other.clip(0, 1)) > 0.9
            for other, other_id, other_score in zip(theirs.yxyx_norm, theirs.class_ids, theirs.scores, strict=True))
    return hits / len(ours.scores)


def mediapipe_scores(path, rgb):
    """Scores of MediaPipe's detector on a picture of the input's size, best first."""
    found = mediapipe_detections(path, rgb)
    assert found, "MediaPipe finds something"
    return sorted((score for _, score, _ in found), reverse=True)


def test_checkpoint_savedmodel_and_tflite_find_the_same(lively, trained, tmp_path):
    import tensorflow as tf

    from scripts.deploy.convert import calibration_pictures, convert
    from scripts.deploy.equalize import equalize
    from scripts.deploy.export import detection_module
    from scripts.deploy.metadata import with_metadata
    from scripts.deploy.reader import SavedModelDetector, TfliteDetector, first_slots
    from scripts.evaluation.groundtruth import decode_rgb, record_pictures
    from scripts.evaluation.model import stretch

    labels = ["apple", "banana", "orange", "strawberry"]
    module = detection_module(lively, 0.3)
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures={"serving_default": module.serve})
    detectors = {"saved_model": (SavedModelDetector(tmp_path / "saved_model"), 0.001)}
    for variant, tolerance in (("float32", 0.01), ("int8", 0.2)):
        if variant == "int8":
            equalize(lively, calibration_pictures(trained, lively.input_px, 8))
        data = convert(lively, variant, 0.3, calibration_pictures(trained, lively.input_px, 8))
        path = tmp_path / f"{variant}.tflite"
        path.write_bytes(with_metadata(data, labels, name="x", description="", author="", licence="", provenance={}))
        detectors[variant] = (TfliteDetector(path), tolerance)
    shares = {name: [] for name in detectors}
    for picture in list(record_pictures(trained, "test"))[:3]:
        rgb = decode_rgb(picture.encoded)
        boxes, classes, scores, count = lively.detect(stretch(rgb, lively.input_px)[None], 0.3)
        ours = first_slots(boxes.numpy(), classes.numpy(), scores.numpy(), count.numpy())
        assert len(ours.scores) > 3, "a model that finds nothing proves nothing"
        for name, (detector, tolerance) in detectors.items():
            shares[name].append(matched(ours, detector.detect(rgb), tolerance))
        int8 = detectors["int8"][0].detect(stretch(rgb, lively.input_px).numpy().astype("uint8"))
        seen = mediapipe_scores(tmp_path / "int8.tflite", stretch(rgb, lively.input_px).numpy().astype("uint8"))
        # MediaPipe leaves out a box that has no area inside the picture; all others have their score.
        assert len(seen) >= 0.9 * len(int8.scores)
        assert all(min(abs(int8.scores - score)) < 0.01 for score in seen)
    assert min(shares["saved_model"]) == 1.0
    assert min(shares["float32"]) > 0.95
    assert sum(shares["int8"]) / 3 > 0.4, shares


def test_equalized_weights_compute_the_same(trained):
    import numpy as np

    from scripts.deploy.convert import calibration_pictures
    from scripts.deploy.equalize import equalize, stream_reach
    from scripts.evaluation.model import load_model

    model = load_model(trained, "best")
    pictures = calibration_pictures(trained, model.input_px, 4)
    before = [part.numpy() for part in model.predict(np.stack(pictures))]
    spread_before = [np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, pictures)]
    equalize(model, pictures)
    after = [part.numpy() for part in model.predict(np.stack(pictures))]
    spread_after = [np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, pictures)]
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(before, after, strict=True))
    assert sum(spread_after) < 0.8 * sum(spread_before), "channels reach more equally far"


def test_evaluate_export_and_tflite_agree_on_disk(copy):
    from scripts.deploy.export import export
    from scripts.deploy.tflite import make_tflite
    from scripts.evaluation.evaluate import evaluate
    from scripts.pipeline.files import sha256_file

    settings = settings_of(copy)
    evaluate(copy, "best", 0.01, 100)
    export(copy, "best", 0.01)
    make_tflite(copy, "fruit", settings)
    metrics = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))
    assert set(metrics["variants"]) == {"float32", "int8"}
    for row in metrics["variants"].values():
        assert sha256_file(copy / row["file"]) == row["sha256"] and row["passed"]
    assert (copy / "tflite/labels.txt").read_text("utf-8").split() == ["apple", "banana", "orange", "strawberry"]


def test_a_file_that_lost_too_much_is_put_aside(copy):
    from scripts.deploy import tflite
    from scripts.evaluation.evaluate import evaluate

    evaluate(copy, "best", 0.01, 100)
    metrics = json.loads((copy / "eval/metrics.json").read_text("utf-8")) | {"AP": 0.9}
    (copy / "eval/metrics.json").write_text(json.dumps(metrics), "utf-8")
    settings = settings_of(copy, INVOKE_TFLITE_VARIANTS="float32", INVOKE_TFLITE_SHIP="float32",
                           INVOKE_TFLITE_MAX_AP_DROP="0.01")
    with pytest.raises(DetectorError, match="tflite/rejected/detector_float32.tflite"):
        tflite.make_tflite(copy, "fruit", settings)
    assert not (copy / "tflite/detector_float32.tflite").exists()
    row = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))["variants"]["float32"]
    assert not row["passed"] and row["file"] == "tflite/rejected/detector_float32.tflite"

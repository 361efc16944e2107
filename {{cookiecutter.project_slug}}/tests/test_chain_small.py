"""The real steps on 24 drawn images and two training steps: what each file says is what the next
one does."""

import json

import pytest
from small_project import calibration_of, configure_small, model_of, settings_of

from scripts.core.text import DetectorError

pytestmark = pytest.mark.slow


def test_a_missing_checkpoint_names_those_there_are(trained):
    from scripts.evaluation.detector import checkpoint_path

    assert checkpoint_path(trained / "training", "last").name == "average_weights-2"
    with pytest.raises(DetectorError, match=r"no checkpoint '7' \(steps there: 2\)"):
        checkpoint_path(trained / "training", "7")


def test_training_sees_an_image_as_validation_does(trained):
    """Without augmentation the small image kept in memory gives what the library's parser gives,
    boxes too."""
    import numpy as np

    from scripts.modeling.experiment import read_experiment, with_absolute_paths
    from scripts.training import task as detector

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
    for image, number, boxes, classes in zip(images, *(labels[k] for k in ("image", "boxes_px", "classes")),
                                             strict=True):
        expected, expected_boxes, expected_classes = theirs[number]
        assert np.allclose(image, expected, atol=0.005)
        assert np.allclose(boxes[classes > 0], expected_boxes, atol=0.01)
        assert list(classes[classes > 0]) == list(expected_classes)


def test_equalized_weights_compute_the_same(trained):
    import numpy as np

    from scripts.deploy.quantization import equalize, stream_reach

    model = model_of(trained)
    images = calibration_of(trained, model.input_px, 4)
    before = [part.numpy() for part in model.predict(np.stack(images))]
    spread_before = [np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, images)]
    equalize(model, images)
    after = [part.numpy() for part in model.predict(np.stack(images))]
    spread_after = [np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, images)]
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(before, after, strict=True))
    assert sum(spread_after) < 0.8 * sum(spread_before), "channels reach more equally far"


def test_evaluate_export_and_tflite_agree_on_disk(copy):
    from scripts.core.files import sha256_file
    from scripts.steps.evaluate import evaluate
    from scripts.steps.export import export
    from scripts.steps.tflite import tflite

    settings = settings_of(copy)
    evaluate(copy, "best", 0.01, 100, 1.0)
    export(copy, "best", 0.01)
    tflite(copy, "fruit", settings)
    metrics = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))
    assert set(metrics["variants"]) == {"float32", "int8"}
    for row in metrics["variants"].values():
        assert sha256_file(copy / row["file"]) == row["sha256"] and row["passed"]
    assert (copy / "tflite/labels.txt").read_text("utf-8").split() == ["apple", "banana", "orange", "strawberry"]


def test_a_file_that_lost_too_much_is_put_aside(copy):
    from scripts.steps import tflite
    from scripts.steps.evaluate import evaluate

    evaluate(copy, "best", 0.01, 100, 1.0)
    metrics = json.loads((copy / "eval/metrics.json").read_text("utf-8")) | {"AP": 0.9}
    (copy / "eval/metrics.json").write_text(json.dumps(metrics), "utf-8")
    settings = settings_of(copy, INVOKE_TFLITE_VARIANTS="float32", INVOKE_TFLITE_SHIP="float32",
                           INVOKE_TFLITE_MAX_AP_DROP="0.01")
    with pytest.raises(DetectorError, match="tflite/rejected/detector_float32.tflite"):
        tflite.tflite(copy, "fruit", settings)
    assert not (copy / "tflite/detector_float32.tflite").exists()
    row = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))["variants"]["float32"]
    assert not row["passed"] and row["file"] == "tflite/rejected/detector_float32.tflite"

"""One network, many files and readers: the same images give the same boxes, and a reader that errs
is caught.

The small project has drawn images of 128 x 96 pixels and weights that two steps of training hardly
moved.
"""

import numpy as np
import pytest
from mediapipe_client import mediapipe_detector, rows_of
from parity import same_share
from small_project import calibration_of, model_of

from scripts.core.layout import Layout
from scripts.deploy.reader import stretch

pytestmark = pytest.mark.slow

LABELS = ["apple", "banana", "orange", "strawberry"]
# Variant: (largest difference of scores, least share of detections that have to be the same).
EXACT, TOLERANCES = (
    0.005, 0.99), {"float32": (0.005, 0.99), "float16": (0.05, 0.9), "dynamic": (0.3, 0.4),
                                    "int8": (0.2, 0.4), "int8_raw": (0.2, 0.4),
                                    "int8_qat": (0.2, 0.4)}


@pytest.fixture(scope="module")
def lively(trained):
    """The trained model with class scores that differ: two steps leave them all at one per cent.

    Scaled and shifted by what it says of a few images, so that one place in a hundred scores above
    a half in every class whatever two steps of training left in the layers before.
    """
    import numpy as np

    model = model_of(trained)
    classifier = model.network.head._classifier
    dice = np.random.default_rng(7)
    classifier.pointwise_kernel.assign(dice.normal(0, 0.1, classifier.pointwise_kernel.shape))
    classifier.depthwise_kernel.assign(dice.normal(0, 0.1, classifier.depthwise_kernel.shape))
    classifier.bias.assign(classifier.bias * 0.0)
    images = calibration_of(trained, model.input_px, 8)
    scores = np.concatenate(
        [model.predict(image[None])[1].numpy().reshape(-1, 4) for image in images])
    logits = np.log(scores / (1 - scores))
    scale = 2.0 / np.std(logits)
    classifier.pointwise_kernel.assign(classifier.pointwise_kernel * scale)
    # First comes the background.
    classifier.bias.assign([0.0, *(-scale * np.quantile(logits, 0.99, axis=0))])
    return model


@pytest.fixture(scope="module")
def seen(lively, trained):
    """Three test images, and what the checkpoint finds in each."""
    from scripts.deploy.reader import first_slots
    from scripts.evaluation.detections import decode_rgb, record_images

    images = [decode_rgb(image.encoded)
              for image in list(record_images(Layout(trained).records("test")))[:3]]
    found = [first_slots(
        *(part.numpy() for part in lively.detect(stretch(rgb, lively.input_px)[None], 0.3)))
             for rgb in images]
    assert min(len(each) for each in found) > 3, "a model that finds nothing proves nothing"
    return images, found


@pytest.fixture(scope="module")
def files(lively, trained, tmp_path_factory):
    """The network as every kind of file."""
    from scripts.core.schema import SLOTS
    from scripts.deploy.conversion import CALIBRATED, anchors_yxhw, convert
    from scripts.deploy.metadata import with_metadata
    from scripts.deploy.quantization import QuantizationAware, equalize, quantized_network
    from scripts.modeling.experiment import SUPPRESSION_IOU

    calibration = calibration_of(trained, lively.input_px, 8)
    decoding = {"decoding": {
        "score_threshold": 0.3, "suppression_iou": SUPPRESSION_IOU, "max_detections": SLOTS}}
    made, weights = {}, [(weight, weight.numpy()) for weight in lively.network.weights]
    for variant in TOLERANCES:
        if variant in CALIBRATED:
            equalize(lively, calibration)
        raw, model = variant.endswith("raw"), lively
        # Not trained on: where it starts is what the trained network computes.
        if variant == "int8_qat":
            model = QuantizationAware(
                quantized_network(lively, calibration), lively.config, lively.checkpoint)
        data = convert(model, variant, 0.3, calibration)
        made[variant] = tmp_path_factory.mktemp("files") / f"{variant}.tflite"
        made[variant].write_bytes(with_metadata(
            data, LABELS, name="x", description="", author="", license="",
            provenance=decoding if raw else {},
            anchors_yxhw=anchors_yxhw(lively) if raw else None))
    for weight, value in weights:
        weight.assign(value)
    return made


def share(seen, detect, score_tolerance) -> float:
    """Mean share of detections that `detect` and the checkpoint have in common."""
    return float(np.mean(
        [same_share(ours, detect(rgb), score_tolerance) for rgb, ours in zip(*seen, strict=True)]))


def test_the_saved_model_finds_what_the_checkpoint_finds(lively, seen, tmp_path):
    import tensorflow as tf

    from scripts.deploy.reader import SavedModelDetector
    from scripts.steps.export import detection_module

    module = detection_module(lively, 0.3)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    assert share(seen, SavedModelDetector(tmp_path).detect, EXACT[0]) >= EXACT[1]


@pytest.mark.parametrize("variant", TOLERANCES)
def test_a_file_finds_what_the_checkpoint_finds(files, seen, variant):
    from scripts.deploy.reader import TfliteDetector

    score_tolerance, least = TOLERANCES[variant]
    assert share(seen, TfliteDetector(files[variant]).detect, score_tolerance) >= least


def test_the_raw_file_finds_what_the_finished_one_finds(files, seen):
    """They differ in the sigmoid alone, and in one scale for the outputs."""
    from scripts.deploy.reader import TfliteDetector

    finished, raw = (TfliteDetector(files[variant]) for variant in ("int8", "int8_raw"))
    assert np.mean(
        [same_share(finished.detect(rgb), raw.detect(rgb), 0.1, 0.8) for rgb in seen[0]]) > 0.7


def test_the_page_for_browsers_refuses_the_raw_file(files, package, tmp_path):
    """MediaPipe would suppress in another way than what was scored."""
    from scripts.core.text import DetectorError
    from scripts.tools.web import make_web

    with pytest.raises(DetectorError, match="in another way than was measured"):
        make_web(files["int8_raw"], package, tmp_path / "page")
    assert not (tmp_path / "page").exists()
    make_web(files["int8"], package, tmp_path / "page")


def letterboxed(rgb, side_px):
    height, width = rgb.shape[:2]
    square = np.zeros((max(height, width),) * 2 + (3,), rgb.dtype)
    square[:height, :width] = rgb
    return stretch(square, side_px)


def by_corners(rgb, side_px):
    """Pixels picked from their corners on, not from their centers: the resize that is half a pixel
    off."""
    rows, columns = ((np.arange(side_px) * size / side_px) for size in rgb.shape[:2])
    doubled = np.pad(rgb, [(0, 1), (0, 1), (0, 0)], "edge").astype(np.float32)
    down, across = (rows % 1)[:, None, None], (columns % 1)[None, :, None]
    top, left = rows.astype(int), columns.astype(int)
    upper = doubled[np.ix_(top, left)] * (1 - across) + doubled[np.ix_(top, left + 1)] * across
    lower = doubled[np.ix_(top + 1, left)] * (
        1 - across) + doubled[np.ix_(top + 1, left + 1)] * across
    return upper * (1 - down) + lower * down


def changed(found, **parts):
    from dataclasses import replace

    return replace(found, **parts)


MISTAKES = {
    "letterbox for stretch": lambda run, rgb, side: run(letterboxed(rgb, side)),
    "BGR for RGB": lambda run, rgb, side: run(rgb[..., ::-1]),
    "x and y swapped": lambda run, rgb, side: changed(
        run(rgb), yxyx_norm=run(rgb).yxyx_norm[:, [1, 0, 3, 2]]),
    "label offset by one": lambda run, rgb, side: changed(
        run(rgb), class_ids=run(rgb).class_ids + 1),
    "normalized twice": lambda run, rgb, side: run(rgb.astype(np.float32) / 127.5 - 1.0),
    "half a pixel off": lambda run, rgb, side: run(by_corners(rgb, side)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_reading_is_caught(files, seen, mistake):
    from scripts.deploy.reader import TfliteDetector

    detector = TfliteDetector(files["float32"])
    wrong = share(
        seen, lambda rgb: MISTAKES[mistake](detector.detect, rgb, detector.input_px), EXACT[0])
    assert wrong < EXACT[1], f"{mistake} went unseen"


def test_reading_slots_past_the_count_is_caught(files, seen, monkeypatch):
    from scripts.deploy.reader import TfliteDetector, first_slots

    detector = TfliteDetector(files["float32"])
    monkeypatch.setattr(detector, "_finish", lambda boxes, classes, scores, count: first_slots(
        boxes, classes, scores, [scores.shape[1]]))
    assert share(seen, detector.detect, EXACT[0]) < EXACT[1]


def test_mediapipe_has_the_scores_of_our_reader(files, seen):
    """On images of the size of the input, so that nobody's resize matters."""
    from scripts.deploy.reader import TfliteDetector

    reader = TfliteDetector(files["int8"])
    with mediapipe_detector(files["int8"]) as detector:
        for rgb in (stretch(rgb, reader.input_px).astype(np.uint8) for rgb in seen[0]):
            found, ours = rows_of(detector, rgb), reader.detect(rgb).scores
            # MediaPipe leaves out a box that has no area inside the image; all others have their
            # score.
            assert len(found) >= 0.9 * len(ours) > 0
            assert all(min(abs(ours - score)) < 0.01 for _, score, _ in found)


def test_mediapipe_reads_the_raw_file_by_its_anchors(files, seen):
    """Its suppression is another, so its boxes are sought among all of ours before suppression.

    Of a box over the border it moves the corner and keeps the size; such boxes are left out.
    """
    from scripts.deploy.reader import TfliteDetector

    reader = TfliteDetector(files["int8_raw"])
    reader._finish._decoding |= {"suppression_iou": 1.0, "max_detections": 10_000}
    inside = 0
    with mediapipe_detector(files["int8_raw"]) as detector:
        for rgb in (stretch(rgb, reader.input_px).astype(np.uint8) for rgb in seen[0]):
            ours = reader.detect(rgb)
            edges_px = ours.yxyx_norm * reader.input_px
            for label, score, box in rows_of(detector, rgb):
                if 0 < min(box) and max(box) < reader.input_px:
                    inside += 1
                    same = [place for place, number in enumerate(ours.class_ids)
                            if LABELS[number] == label
                            and abs(ours.scores[place] - score) < 0.01
                            and np.abs(edges_px[place] - box).max() < 2.5]
                    assert same, (label, score, box)
    assert inside > 3, "boxes were compared"


@pytest.mark.release
def test_int8_qat_trains_on_and_leaves_the_statistics(trained):
    from scripts.deploy.quantization import quantization_aware
    from scripts.modeling.experiment import read_experiment, with_absolute_paths

    experiment = with_absolute_paths(read_experiment(trained / "training/experiment.yaml"), trained)

    def weights(share):
        model = model_of(trained)
        images = calibration_of(trained, model.input_px, 8)
        network = quantization_aware(model, experiment, share, images).network
        return {
            number: (weight.name, weight.numpy()) for number, weight in enumerate(network.weights)}

    start, end = weights(0.0), weights(1.0)
    changed = {name for number, (name, value) in start.items()
               if not np.array_equal(value, end[number][1])}
    assert any("depthwise_kernel:0" in name for name in changed), "two steps change the weights"
    assert not any(
        "moving_" in name or "activation_m" in name or "output_m" in name for name in changed)

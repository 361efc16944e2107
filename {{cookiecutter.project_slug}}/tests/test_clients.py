"""The samples in clients/: run as their readers would run them, and compared with our own reader.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_tflite import CELLS as CELLS_mediapipe
from made_tflite import COLORS, LABELS, SIDE_PX, image, tiny_tflite
from parity import mediapipe_detector, rows_of, same_share
from PIL import Image
from small_project import calibration_of, model_of

from scripts.core.layout import Layout
from scripts.deploy.reader import stretch

CLIENT = Path(__file__).resolve().parent.parent / "clients" / "detect.py"
CELLS = {(0, 0): 0, (1, 2): 3, (3, 3): 6, (2, 0): 4}


def test_the_reader_has_under_forty_lines_and_imports_nothing_of_the_project():
    text = CLIENT.read_text("utf-8")
    assert len(text.splitlines()) < 40 and "scripts" not in text and "tensorflow" not in text


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["float32", "int8"])
@pytest.mark.parametrize(
    ("size_px", "turn"), [((32, 32), 1), ((431, 217), 1), ((640, 480), 6), ((20, 90), 1)])
def test_it_finds_what_our_reader_finds(tmp_path, variant, size_px, turn):
    import numpy as np

    from scripts.data.image_files import open_upright
    from scripts.deploy.metadata import with_metadata
    from scripts.deploy.predictions import detection_rows
    from scripts.deploy.reader import TfliteDetector

    model, photo = tmp_path / "détecteur 1.tflite", tmp_path / "ю a.png"
    about = {"name": "n", "description": "d", "author": "a", "license": "l", "provenance": {}}
    model.write_bytes(with_metadata(tiny_tflite(variant), list(LABELS), **about))
    noise = np.random.default_rng(3).integers(0, 40, (*size_px[::-1], 3), np.uint8)
    cells = np.asarray(Image.fromarray(image(CELLS, 96)).resize(size_px, Image.Resampling.NEAREST))
    tags = Image.Exif()
    tags[0x0112] = turn
    Image.fromarray(np.maximum(cells, noise)).save(photo, exif=tags)

    upright = open_upright(photo.read_bytes())
    detector = TfliteDetector(model)
    expected = detection_rows(
        detector.detect(np.asarray(upright)), upright.size, detector.labels, 0.5)
    assert len(expected) >= 3
    done = subprocess.run([sys.executable, CLIENT, model, photo, "0.5"], capture_output=True,
                          text=True,
                          encoding="utf-8", cwd=tmp_path,
                          env={"PYTHONIOENCODING": "utf-8"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], float(row[1])) for row in found] == [
        (row["class"], round(row["score"], 3)) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert [int(edge) for edge in row[2:]] == pytest.approx(other["box_xyxy_px"], abs=0.51)


@pytest.mark.slow
def test_its_resize_is_that_of_training(monkeypatch):
    import numpy as np

    from scripts.deploy.reader import stretch

    monkeypatch.syspath_prepend(CLIENT.parent)
    from detect import detect

    class Recorder:
        """A signature runner that keeps what it is given."""

        def get_input_details(self):
            return {"images": {"shape": np.array([1, 64, 64, 3]), "dtype": np.float32}}

        def __call__(self, images):
            self.pixels = images[0]
            return {"num_detections": np.float32([0])}

    for size_px in ((333, 217), (31, 57), (1, 1), (64, 64), (2, 999), (1201, 900)):
        image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size_px, 3), np.uint8))
        run = Recorder()
        assert list(detect(run, [], image, 0.3)) == []
        assert np.abs(run.pixels - stretch(np.asarray(image), 64)).max() < 1e-3


# MediaPipe Tasks' ObjectDetector beside our reader: the same boxes, as far as its resize and whole
# pixels allow.


IMAGES, CERTAIN = 12, 0.45


@pytest.fixture(scope="module", params=["float32", "int8"])
def path(request, tmp_path_factory):
    """The tiny detector as it would be shipped."""
    from scripts.deploy.metadata import with_metadata

    about = {"name": "n", "description": "d", "author": "a", "license": "l"}
    file = tmp_path_factory.mktemp("shipped") / "detector.tflite"
    file.write_bytes(
        with_metadata(tiny_tflite(request.param), list(LABELS), **about, provenance={}))
    return file


def scene(seed: int, size_px: tuple[int, int]):
    """Colored cells at random places inside the border, the colors a little dull, in an image of
    (height, width)."""
    dice = np.random.default_rng(seed)
    places = [(row, column) for row in range(1, CELLS_mediapipe - 1)
              for column in range(1, CELLS_mediapipe - 1)]
    chosen = dice.permutation(len(places))[: dice.integers(1, 4)]
    cells = {places[index]: int(dice.integers(len(COLORS))) for index in chosen}
    rows, columns = (np.arange(side) * SIDE_PX // side for side in size_px)
    return image(cells, dim=float(dice.uniform(0.85, 1.0)))[rows][:, columns]


def whole_pixels(yxyx_px):
    """Boxes [n, 4] as MediaPipe gives them: it cuts the fraction off the corner, and off height and
    width."""
    corners = np.floor(yxyx_px[:, :2])
    return np.concatenate([corners, corners + np.floor(yxyx_px[:, 2:] - yxyx_px[:, :2])], 1)


def compared(path, images, resize=None):
    """Differences of all boxes: pixels [n, 4] as ymin, xmin, ymax, xmax, and scores [n]; `resize`
    goes before ours."""
    from scripts.deploy.reader import TfliteDetector

    ours, edges, scores = TfliteDetector(path), [], []
    with mediapipe_detector(path) as detector:
        for rgb in images:
            found, theirs = ours.detect(resize(rgb) if resize else rgb), rows_of(detector, rgb)
            boxes = whole_pixels(found.yxyx_norm * np.tile(rgb.shape[:2], 2))
            mine = [(LABELS[one], float(score), box)
                    for one, score, box in zip(found.class_ids, found.scores, boxes, strict=True)]
            # What scores near the threshold of the file may be found by one of them only.
            for some, all_others in ((mine, theirs), (theirs, mine)):
                for label, score, box in (one for one in some if one[1] > CERTAIN):
                    same = [(other, other_box) for name, other, other_box in all_others
                            if name == label]
                    assert same, f"{label} with {score:.2f} is found by one of them only"
                    other, nearest = min(
                        same, key=lambda pair: np.abs(np.subtract(pair[1], box)).max())
                    edges.append(np.subtract(nearest, box))
                    scores.append(other - score)
    assert len(scores) > IMAGES, "a detector that finds nothing proves nothing"
    return np.abs(edges), np.abs(scores)


def blurred(size_px: tuple[int, int]) -> list:
    """Scenes whose colors run into the black around them, so that it matters where a resize looks.
    """
    import cv2

    return [
        cv2.GaussianBlur(scene(seed, size_px), (0, 0), max(size_px) / 30) for seed in range(IMAGES)]


def warped(rgb):
    """MediaPipe's resize on a CPU: OpenCV's warpPerspective, corner to corner, without half-pixel
    centers."""
    import cv2

    corners = np.float32([[0, 1], [0, 0], [1, 0], [1, 1]])
    matrix = cv2.getPerspectiveTransform(
        corners * np.float32(rgb.shape[1::-1]), corners * np.float32(SIDE_PX))
    return cv2.warpPerspective(rgb, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [(32, 32), (320, 320), (480, 200), (200, 480), (48, 40)])
def test_mediapipe_finds_the_same_boxes(path, size_px):
    """Stretched to the input in the same way, colors and classes the same; a rounding may tip over
    by one pixel."""
    edges, scores = compared(path, [scene(seed, size_px) for seed in range(IMAGES)])
    assert edges.max() <= 1 and scores.max() < 0.001


@pytest.mark.slow
def test_where_colors_run_mediapipe_differs_by_its_resize_alone(path):
    """It has no half-pixel centers: what it sees of an image ten times the input lies up to 4.5
    pixels further on."""
    images = blurred((320, 320))
    edges, scores = compared(path, images, warped)
    assert edges.max() <= 1 and scores.max() < 0.001
    edges, scores = compared(path, images)
    assert edges.max() <= 1 + 4.5 and 0.001 < scores.max() < 0.25


# One network, many files and readers: the same images give the same boxes, and a reader that errs
# is caught.


LABELS_of_parity = ["apple", "banana", "orange", "strawberry"]
# Variant: (largest difference of scores, least share of detections that have to be the same).
EXACT = (0.005, 0.99)
TOLERANCES = {"float32": EXACT, "float16": (0.05, 0.9), "dynamic": (0.3, 0.4),
              "int8": (0.2, 0.4), "int8_raw": (0.2, 0.4), "int8_qat": (0.2, 0.4)}


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
            data, LABELS_of_parity, name="x", description="", author="", license="",
            provenance=decoding if raw else {},
            anchors_yxhw=anchors_yxhw(lively) if raw else None))
    for weight, value in weights:
        weight.assign(value)
    return made


def share(seen, detect, score_tolerance) -> float:
    """Mean share of detections that `detect` and the checkpoint have in common."""
    return float(np.mean(
        [same_share(ours, detect(rgb), score_tolerance) for rgb, ours in zip(*seen, strict=True)]))


@pytest.mark.slow
def test_the_saved_model_finds_what_the_checkpoint_finds(lively, seen, tmp_path):
    import tensorflow as tf

    from scripts.deploy.reader import SavedModelDetector
    from scripts.steps.export import detection_module

    module = detection_module(lively, 0.3)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    assert share(seen, SavedModelDetector(tmp_path).detect, EXACT[0]) >= EXACT[1]


@pytest.mark.slow
@pytest.mark.parametrize("variant", TOLERANCES)
def test_a_file_finds_what_the_checkpoint_finds(files, seen, variant):
    from scripts.deploy.reader import TfliteDetector

    score_tolerance, least = TOLERANCES[variant]
    assert share(seen, TfliteDetector(files[variant]).detect, score_tolerance) >= least


def raw_outputs(path, images: np.ndarray) -> list[np.ndarray]:
    """Return boxes and logits of an `int8_raw` file, as real numbers [images, anchors, n].

    `images`: float32 [images, side, side, 3], RGB 0..255.
    """
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    details, (name,) = runner.get_output_details(), runner.get_input_details()
    found = [runner(**{name: np.rint(image[None]).astype(np.uint8)}) for image in images]
    outputs = []
    for key in ("raw_boxes", "raw_logits"):
        scale, zero_point = details[key]["quantization"]
        values = np.concatenate([outputs_of_one[key] for outputs_of_one in found])
        outputs.append((values.astype(np.float32) - zero_point) * scale)
    return outputs


def correlations(network: list, file: list) -> list[float]:
    """Return the correlation of boxes and of logits over all images and anchors."""
    return [float(np.corrcoef(wanted.ravel(), got.ravel())[0, 1])
            for wanted, got in zip(network, file, strict=True)]


@pytest.mark.slow
def test_raw_outputs_of_int8_follow_the_network(files, seen, lively):
    """Few detections agree where all scores are close; the outputs of all anchors still do."""
    images = np.stack([stretch(rgb, lively.input_px) for rgb in seen[0]])
    network = [part.numpy() for part in lively.predict_logits(images)]
    right = correlations(network, raw_outputs(files["int8_raw"], images))
    swapped = correlations(network, raw_outputs(files["int8_raw"], images[..., ::-1]))
    assert min(right) > 0.999, right
    # The measure tells right from wrong: colors in the wrong order are much farther away.
    assert 1 - swapped[1] > 2 * (1 - right[1])


@pytest.mark.slow
def test_the_raw_file_finds_what_the_finished_one_finds(files, seen):
    """They differ in the sigmoid alone, and in one scale for the outputs."""
    from scripts.deploy.reader import TfliteDetector

    finished, raw = (TfliteDetector(files[variant]) for variant in ("int8", "int8_raw"))
    assert np.mean(
        [same_share(finished.detect(rgb), raw.detect(rgb), 0.1, 0.8) for rgb in seen[0]]) > 0.7


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_reading_is_caught(files, seen, mistake):
    from scripts.deploy.reader import TfliteDetector

    detector = TfliteDetector(files["float32"])
    wrong = share(
        seen, lambda rgb: MISTAKES[mistake](detector.detect, rgb, detector.input_px), EXACT[0])
    assert wrong < EXACT[1], f"{mistake} went unseen"


@pytest.mark.slow
def test_reading_slots_past_the_count_is_caught(files, seen, monkeypatch):
    from scripts.deploy.reader import TfliteDetector, first_slots

    detector = TfliteDetector(files["float32"])
    monkeypatch.setattr(detector, "_finish", lambda boxes, classes, scores, count: first_slots(
        boxes, classes, scores, [scores.shape[1]]))
    assert share(seen, detector.detect, EXACT[0]) < EXACT[1]


@pytest.mark.slow
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


@pytest.mark.slow
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
                            if LABELS_of_parity[number] == label
                            and abs(ours.scores[place] - score) < 0.01
                            and np.abs(edges_px[place] - box).max() < 2.5]
                    assert same, (label, score, box)
    assert inside > 3, "boxes were compared"


@pytest.mark.slow
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

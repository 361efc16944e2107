"""A `.tflite` of our contract read by index, by signature and by MediaPipe; its metadata; the
resize."""

import io
import sys
import zipfile

import pytest
from made_tflite import CELLS, COLORS, LABELS, SIDE_PX, edited, image, tiny_tflite
from made_tflite import SLOTS_OF_TINY_TFLITE as SLOTS
from parity import mediapipe_detections

from scripts.core.text import DetectorError

pytestmark = pytest.mark.slow
ABOUT = {"name": "tiny", "description": "Сортировка", "author": "Ää", "license": "MIT"}
PROVENANCE = {"checkpoint": "ckpt-7", "versions": {"tensorflow": "2.20"}, "note": "ночь"}
MIXED = {(0, 0): 0, (1, 2): 3, (3, 3): 6, (2, 0): 4}


@pytest.fixture(params=["float32", "int8"])
def model(request) -> bytes:
    """The tiny detector with metadata, as it would be shipped."""
    from scripts.deploy.metadata import with_metadata

    return with_metadata(tiny_tflite(request.param), list(LABELS), **ABOUT, provenance=PROVENANCE)


def write(folder, model, name="modèle 1.tflite"):
    (folder / name).write_bytes(model)
    return folder / name


def found_by_ours(path, rgb):
    """Class id -> box as ymin, xmin, ymax, xmax in 0..1."""
    from scripts.deploy.reader import TfliteDetector

    found = TfliteDetector(path).detect(rgb)
    return {
        int(one): box.tolist() for one, box in zip(found.class_ids, found.yxyx_norm, strict=True)}


def found_by_mediapipe(path, rgb):
    """Label -> box as ymin, xmin, ymax, xmax in pixels."""
    return {label: edges for label, _, edges in mediapipe_detections(path, rgb)}


def test_index_readers_signature_readers_and_mediapipe_see_the_same_boxes(tmp_path, model):
    def drop_signature(network):
        network.signatureDefs = None

    def shuffle_outputs(network):
        outputs = list(network.subgraphs[0].outputs)
        network.subgraphs[0].outputs = outputs[::-1]

    rgb = image(MIXED, side_px=320)
    path = write(tmp_path, model)
    expected = found_by_ours(path, rgb)
    assert sorted(expected) == sorted(MIXED.values())
    for (row, column), class_id in MIXED.items():
        cell = [edge / CELLS for edge in (row, column, row + 1, column + 1)]
        assert expected[class_id] == pytest.approx(cell, abs=0.05), "the box lies on its cell"
    assert found_by_ours(
        write(tmp_path, edited(model, drop_signature), "by index.tflite"), rgb) == expected
    assert found_by_ours(
        write(tmp_path, edited(model, shuffle_outputs), "by key.tflite"), rgb) == expected
    seen = found_by_mediapipe(path, rgb)
    assert sorted(seen) == sorted(LABELS[class_id] for class_id in expected)
    for class_id, box in expected.items():
        # MediaPipe cuts where a box begins and how long it is down to whole pixels.
        assert seen[LABELS[class_id]] == pytest.approx([edge * 320 for edge in box], abs=2)


def test_boxes_that_reach_over_the_border_end_at_it(tmp_path, model):
    from scripts.deploy.reader import TfliteDetector

    # of the tiny detector's boxes, red ones lie to the left, white ones low
    rgb = image({(0, 0): 0, (3, 3): 6})
    raw = TfliteDetector(write(tmp_path, tiny_tflite("float32"), "raw.tflite")).detect(
        rgb).yxyx_norm
    assert raw.min() < -0.01 and raw.max() > 1.01
    found = TfliteDetector(write(tmp_path, model)).detect(rgb).yxyx_norm
    assert sorted(found.tolist()) == [
        pytest.approx(box, abs=0.01) for box in sorted(raw.clip(0, 1).tolist())]
    assert found.min() == 0 and found.max() == 1


def test_every_class_survives_the_round_trip(tmp_path, model):
    from scripts.deploy.reader import TfliteDetector

    path = write(tmp_path, model)
    everything = image(
        {(class_id // CELLS, class_id % CELLS): class_id for class_id in range(len(COLORS))})
    # with regular suppression the class whose id is the number of threads is lost
    for threads in (1, 2, 3, 4):
        assert sorted(TfliteDetector(path, threads).detect(everything).class_ids) == list(
            range(len(COLORS)))
    for class_id in range(len(COLORS)):
        rgb = image({(class_id % CELLS, 1): class_id}, side_px=96)
        assert list(found_by_ours(path, rgb)) == [class_id]
        assert list(found_by_mediapipe(path, rgb)) == [LABELS[class_id]]


def test_confident_boxes_past_the_count_change_nothing(tmp_path, model):
    import numpy as np

    from scripts.deploy.reader import TfliteDetector

    class Stale:
        """An interpreter whose unused slots hold the best boxes of some other image."""

        def __init__(self, interpreter):
            self.interpreter = interpreter

        def __getattr__(self, name):
            return getattr(self.interpreter, name)

        def get_tensor(self, index):
            value = self.interpreter.get_tensor(index).copy()
            if value.ndim >= 2 and value.shape[1] == SLOTS:
                value[:, len(MIXED) :] = 0.999
            return value

    detector, rgb = TfliteDetector(write(tmp_path, model)), image(MIXED)
    before = detector.detect(rgb)
    detector._interpreter = Stale(detector._interpreter)
    after = detector.detect(rgb)
    assert len(before) == len(after) == len(MIXED)
    assert np.array_equal(before.yxyx_norm, after.yxyx_norm)
    assert np.array_equal(before.scores, after.scores)


def test_an_image_without_objects_after_one_full_of_them(tmp_path, model):
    from scripts.deploy.reader import TfliteDetector

    detector = TfliteDetector(write(tmp_path, model))
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    assert len(detector.detect(image(dict.fromkeys(cells, 2)))) == CELLS * CELLS
    assert len(detector.detect(image({}))) == 0


def test_count_beyond_the_slots_and_below_zero():
    import numpy as np

    from scripts.deploy.reader import first_slots

    slots = np.ones((1, 5, 4), np.float32), np.ones((1, 5), np.float32), np.ones((1, 5), np.float32)
    assert [len(first_slots(*slots, np.float32([count]))) for count in (-3, 0, 2.0, 5, 900)] == [
        0, 0, 2, 5, 5]


def test_metadata_is_read_back(tmp_path, model):
    from scripts.deploy.metadata import read_metadata
    from scripts.deploy.reader import TfliteDetector

    path = write(tmp_path, model)
    metadata = read_metadata(path)
    assert {key: metadata[key] for key in ABOUT} == ABOUT
    assert metadata["labels"] == list(LABELS) == TfliteDetector(path).labels
    assert metadata["normalization"] == {"mean": [0.0], "std": [1.0]}
    assert metadata["outputs"] == ["location", "category", "score", "number of detections"]
    assert metadata["provenance"] == PROVENANCE
    with zipfile.ZipFile(path) as inside:
        assert inside.namelist() == ["labels.txt", "provenance.json"]


def test_metadata_can_be_replaced_and_does_not_depend_on_the_hour(model):
    from scripts.deploy.metadata import with_metadata

    first = with_metadata(model, ["a", "b"], **ABOUT, provenance={})
    assert first == with_metadata(model, ["a", "b"], **ABOUT, provenance={})
    again = with_metadata(first, list(LABELS), **ABOUT, provenance=PROVENANCE)
    assert len(again) == len(model)
    with zipfile.ZipFile(io.BytesIO(again)) as inside:
        assert inside.read("labels.txt").decode().split("\n") == [*LABELS, ""]


def test_metadata_leaves_python_as_it_was(model):
    assert not [name for name in sys.modules if "_pywrap_metadata_version" in name]


def test_labels_beside_the_file_serve_when_there_are_none_inside(tmp_path):
    from scripts.deploy.reader import TfliteDetector

    detector = TfliteDetector(write(tmp_path, tiny_tflite("int8")))
    assert detector.labels == []
    (tmp_path / "labels.txt").write_bytes("red\r\nсиний\u2028x\r\n".encode())
    assert detector.labels == ["red", "синий\u2028x"]


def test_label_with_a_line_break_is_refused(model):
    from scripts.deploy.metadata import with_metadata

    with pytest.raises(ValueError, match="line break"):
        with_metadata(model, ["a\nb"], **ABOUT, provenance={})


@pytest.mark.parametrize(
    "height_px, width_px", [(333, 217), (31, 57), (1, 1), (256, 256), (2, 999), (900, 1201)])
@pytest.mark.parametrize("side_px", [33, 256])
def test_resize_is_that_of_training(height_px, width_px, side_px):
    import numpy as np
    import tensorflow as tf

    from scripts.deploy.reader import stretch

    rgb = np.random.default_rng(1).integers(0, 256, (height_px, width_px, 3), np.uint8)
    expected = tf.image.resize(rgb, [side_px, side_px], method="bilinear", antialias=False).numpy()
    ours = stretch(rgb, side_px)
    assert ours.dtype == np.float32 and ours.shape == (side_px, side_px, 3)
    assert np.abs(ours - expected).max() < 1e-3


def test_latency_is_of_twenty_runs_or_more(tmp_path, model):
    from scripts.deploy.reader import TfliteDetector, time_detector

    detector, runs = TfliteDetector(write(tmp_path, model), threads=1), []
    invoke = detector.invoke
    detector.invoke = lambda: (runs.append(1), invoke())
    latency = time_detector(detector, image(MIXED), runs=3)
    assert len(runs) >= 20 and latency["threads"] == 1
    assert 0 < latency["median"] <= latency["p90"]


def test_saved_model_gives_the_same_form(tmp_path):
    import numpy as np
    import tensorflow as tf

    from scripts.deploy.reader import open_detector

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="images")])
        def serve(self, images):
            one = tf.reduce_mean(tf.cast(images, tf.float32)) / 255.0
            boxes = tf.ones([1, 100, 4]) * one
            slots = tf.ones([1, 100])
            return {"detection_boxes": boxes, "detection_classes": 2 * slots,
                    "detection_scores": slots * one,
                    "num_detections": tf.constant([3.0])}  # fmt: skip

    model, folder = Model(), tmp_path / "inference" / "saved_model"
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    (tmp_path / "inference" / "labels.txt").write_text("a\nb\nc\n", "utf-8")
    for path in (folder, tmp_path / "inference"):
        detector = open_detector(path)
        found = detector.detect(np.full((30, 50, 3), 51, np.uint8))
        assert len(found) == 3
        assert found.class_ids.tolist() == [2, 2, 2]
        assert detector.labels == ["a", "b", "c"]
        assert found.scores.tolist() == pytest.approx([0.2] * 3)


def test_what_is_no_detector_is_refused_in_one_line(tmp_path):
    from scripts.deploy.metadata import read_metadata
    from scripts.deploy.reader import open_detector

    (tmp_path / "folder").mkdir()
    for name, data in (
        ("noise.tflite", b"noise"), ("photo.jpg", b"x"), ("zeros.tflite", bytes(4000))):
        (tmp_path / name).write_bytes(data)
    bad_model = tmp_path / "bad" / "saved_model.pb"
    bad_model.parent.mkdir()
    bad_model.write_bytes(b"noise")
    for name, advice in (
        ("noise.tflite", "invoke tflite"), ("zeros.tflite", "invoke tflite"),
        ("missing.tflite", "invoke tflite"),
        ("folder", "invoke export"), ("photo.jpg", "name a .tflite"), ("bad", "invoke export"),
    ):  # fmt: skip
        with pytest.raises(DetectorError, match=advice) as refusal:
            open_detector(tmp_path / name)
        assert "\n" not in str(refusal.value) and name in str(refusal.value)
    for model in (b"noise", tiny_tflite("int8")):
        with pytest.raises(DetectorError, match="invoke tflite"):
            read_metadata(write(tmp_path, model))


def test_the_tiny_model_has_the_size_that_the_reader_reports(tmp_path, model):
    from scripts.deploy.reader import TfliteDetector

    assert TfliteDetector(write(tmp_path, model)).input_px == SIDE_PX

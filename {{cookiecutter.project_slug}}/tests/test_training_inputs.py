"""What a training sees: the same batch for the same step, boxes that follow the image, nothing read
twice."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
tf = pytest.importorskip("tensorflow")

SIDE_PX = 64


def record(path: Path, images: list[tuple[np.ndarray, list, list]]) -> str:
    """A record file of (pixels, boxes xyxy in pixels, class ids); PNG, so that no pixel changes."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (pixels, boxes, classes) in enumerate(images):
            writer.write(example(pixels, boxes, classes, number))
    return str(path)


def example(pixels, boxes, classes, number):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    height, width = pixels.shape[:2]
    feature = {"image/encoded": [buffer.getvalue()], "image/source_id": [str(number).encode()],
               "image/height": [height], "image/width": [width],
               "image/object/class/label": classes,
               **{f"image/object/{flag}": [0] * len(boxes)
                  for flag in ("group_of", "is_crowd", "difficult")}}
    for side, index, length in (("xmin", 0, width), ("ymin", 1, height), ("xmax", 2, width),
                                ("ymax", 3, height)):
        feature[f"image/object/bbox/{side}"] = [box[index] / length for box in boxes]
    message = tf.train.Example()
    for key, values in feature.items():
        kind = "bytes_list" if values and isinstance(values[0], bytes) else \
            "float_list" if "bbox" in key else "int64_list"
        getattr(message.features.feature[key], kind).value.extend(values)
    return message.SerializeToString()


@pytest.fixture
def numbered(tmp_path):
    """Two files with 11 images; image i is of one gray 20 * i and has i boxes."""
    def one(i):
        boxes = [[5 * k, 5, 5 * k + 20, 30] for k in range(i)]
        return np.full((40, 80, 3), 20 * i, np.uint8), boxes, [1 + i % 3] * i

    record(tmp_path / "train.record-00000-of-00002", [one(i) for i in range(6)])
    record(tmp_path / "train.record-00001-of-00002", [one(i) for i in range(6, 11)])
    return str(tmp_path / "train.record-*")


def data(path: str, **parser):
    from scripts.training.task import DetectorData

    settings = {"input_path": path, "is_training": True, "global_batch_size": 4, "seed": 7,
                "cache": True,
                "dtype": "float32", "parser": {"skip_crowd_during_training": True} | parser}
    parser = settings.pop("parser")
    return DetectorData(**settings).replace(parser=parser)


WILD = {"aug_rand_hflip": True, "aug_scale_min": 0.5, "aug_scale_max": 2.0, "aug_aspect": 1.4,
        "aug_color": 0.8,
        "aug_mosaic": 0.5}


def batches(params, count, first_step=0, context=None):
    from scripts.training.inputs import training_dataset

    dataset = training_dataset(params, SIDE_PX, first_step, context)
    return list(dataset.take(count).as_numpy_iterator())


def same(one, other):
    parts = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(np.array_equal(a, b) for a, b in parts)


@pytest.mark.parametrize("cache", [True, False])
def test_a_training_that_goes_on_sees_what_it_would_have_seen(numbered, cache):
    params = data(numbered, **WILD).replace(cache=cache)
    whole = batches(params, 8)
    later = batches(params, 3, first_step=5)
    assert all(same(one, other) for one, other in zip(whole[5:], later, strict=True))
    assert not same(whole[:3], batches(params.replace(seed=8), 3))


def test_every_epoch_shows_each_image_once_in_another_order(numbered):
    seen = np.concatenate([labels["image"] for _, labels in batches(data(numbered), 11)])
    epochs = seen[:44].reshape(4, 11)
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_two_workers_see_together_what_one_sees(numbered):
    whole = batches(data(numbered, **WILD), 3)
    parts = [batches(data(numbered, **WILD), 3, context=tf.distribute.InputContext(2, worker, 2))
             for worker in (0, 1)]
    for step, (images, labels) in enumerate(whole):
        assert np.array_equal(images, np.concatenate([part[step][0] for part in parts]))
        assert np.array_equal(labels["image"],
                              np.concatenate([part[step][1]["image"] for part in parts]))


@pytest.mark.parametrize("cache", [True, False])
def test_images_and_boxes_belong_together(numbered, cache):
    for images, labels in batches(data(numbered).replace(cache=cache), 6):
        for image, number, classes in zip(images, labels["image"], labels["classes"], strict=True):
            assert np.allclose(image, 20 * number / 127.5 - 1, atol=0.01)
            assert list(classes[classes > 0]) == [1 + number % 3] * number


def test_boxes_follow_a_view_in_every_change(tmp_path):
    """A white block on black, mirrored, cut, stretched and tinted: its pixels say where its box
    must be."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[60:140, 90:150] = 255
    path = record(tmp_path / "train.record-00000-of-00001", [(pixels, [[90, 60, 150, 140]], [2])])
    looked_at = 0
    for images, labels in batches(data(path, **WILD | {"aug_mosaic": 0.0, "aug_color": 0.3}), 12):
        for image, boxes, classes in zip(images, labels["boxes_px"], labels["classes"],
                                         strict=True):
            if classes.size and classes[0]:
                ys, xs = np.where(image.min(-1) > 0.3)
                found = np.array([ys.min(), xs.min(), ys.max() + 1, xs.max() + 1])
                assert classes[0] == 2 and np.abs(found - boxes[0]).max() < 2.0
                looked_at += 1
    assert looked_at > 20


def test_a_view_without_changes_is_the_stretched_image():
    from scripts.evaluation.detector import stretch
    from scripts.training.augmentation import Strength, augment

    pixels = tf.constant(np.random.default_rng(7).integers(0, 256, (50, 90, 3)), tf.uint8)
    key = tf.constant([7, 0], tf.int64)
    view, boxes, _ = augment(pixels, tf.constant([[0.1, 0.2, 0.5, 1.0]]), tf.constant([1]), key,
                             SIDE_PX,
                             Strength(False, 1.0, 1.0, 1.0, 0.0))
    assert np.abs(view - stretch(pixels, SIDE_PX)).max() < 0.01
    assert np.allclose(boxes, np.array([[0.1, 0.2, 0.5, 1.0]]) * SIDE_PX)


def test_a_box_that_is_hardly_in_view_is_dropped_and_the_others_are_clipped():
    from scripts.training.augmentation import _see

    window = tf.constant([0.0, 0.5, 1.0, 1.5])
    boxes = tf.constant([[0.1, 0.1, 0.9, 0.6], [0.1, 0.3, 0.9, 0.9], [0.0, 0.0, 0.2, 0.2]])
    seen, kept = _see(boxes, window, tf.constant(False), 100)
    assert list(kept.numpy()) == [False, True, False]
    assert np.allclose(seen[1], [10, 0, 90, 40], atol=1e-3)


def test_groups_are_no_examples(tmp_path):
    message = tf.train.Example.FromString(
        example(np.zeros((40, 40, 3), np.uint8), [[0, 0, 20, 20], [10, 10, 30, 30]], [1, 2], 0))
    message.features.feature["image/object/group_of"].int64_list.value[:] = [1, 0]
    path = tmp_path / "train.record-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(message.SerializeToString())
    (_, labels), = batches(data(str(path)), 1)
    assert (labels["classes"] == 2).all() and labels["classes"].shape == (4, 1)


def test_images_that_do_not_fit_into_memory_are_read_again(numbered, monkeypatch):
    from scripts.training import inputs as store

    kept = batches(data(numbered), 3)
    monkeypatch.setattr(store, "free_memory_bytes", lambda: 1000)
    again = batches(data(numbered), 3)
    assert all(np.allclose(one[0], other[0], atol=0.01)
               for one, other in zip(kept, again, strict=True))


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2},
                                     {"quality": 40, "progressive": True}])
def test_a_jpeg_has_the_pixels_that_other_programs_see(options):
    from scripts.training.inputs import decode_image

    noise = np.random.default_rng(7).integers(0, 256, (37, 53, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((90, 70)).save(buffer, "JPEG", **options)
    expected = np.asarray(Image.open(buffer))
    assert np.array_equal(decode_image(tf.constant(buffer.getvalue())), expected)

"""What a training sees and what it minimizes: batches, views of images, matching and losses."""

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


# Matching and losses, against values worked out by hand and by other means.

def match(scores, boxes, anchors, truth, classes, candidates=2):
    from scripts.training.losses import task_aligned

    def tensor(values):
        return tf.constant(values, tf.float32)[tf.newaxis]

    found = task_aligned(tensor(scores), tensor(boxes), tf.constant(anchors, tf.float32),
                         tensor(truth),
                         tf.constant([classes], tf.int32), candidates, 1.0, 6.0)
    return [part.numpy()[0] for part in found]


GRID = [[y, x, y + 10, x + 10] for y in (0, 10, 20) for x in (0, 10, 20)]


def test_a_box_takes_the_anchors_inside_it_that_do_best():
    scores = [[0.1, 0.5]] * 9
    boxes = [list(anchor) for anchor in GRID]
    boxes[4] = [8, 8, 22, 22]  # already almost the box
    _, wanted, weights = match(scores, boxes, GRID, [[8, 8, 22, 22]], [2])
    assert list(np.flatnonzero(weights)) == [4]
    assert weights[4] == pytest.approx(1.0), "the best anchor is to say what its overlap is"
    assert wanted[4, 1] == pytest.approx(1.0) and wanted[4, 0] == 0


def test_the_better_of_two_equal_places_is_the_one_that_knows_the_class():
    boxes = [[0, 0, 20, 20], [0, 0, 20, 20], [0, 0, 1, 1]]
    anchors = [[0, 0, 10, 10], [5, 5, 15, 15], [40, 40, 50, 50]]
    _, _, weights = match([[0.2], [0.8], [0.9]], boxes, anchors, [[0, 0, 20, 20]], [1],
                          candidates=3)
    assert weights[1] == pytest.approx(1.0)
    assert weights[0] == pytest.approx(0.25)
    assert weights[2] == 0


def test_an_anchor_wanted_by_two_boxes_learns_the_one_it_overlaps_more():
    truth = [[0, 0, 20, 20], [0, 0, 12, 12]]
    boxes_px, wanted, weights = match([[0.5, 0.5]], [[0, 0, 12, 12]], [[0, 0, 10, 10]], truth,
                                      [1, 2])
    assert np.array_equal(boxes_px[0], truth[1])
    assert wanted[0, 1] > 0
    assert wanted[0, 0] == 0
    assert weights[0] > 0


def test_a_box_too_small_to_hold_a_center_takes_the_nearest_anchor():
    _, _, weights = match([[0.5]] * 9, GRID, GRID, [[1, 1, 3, 3]], [1])
    assert list(np.flatnonzero(weights)) == [0]


def test_padding_and_images_without_boxes_want_nothing():
    _, wanted, weights = match([[0.5]] * 9, GRID, GRID, [[0, 0, 0, 0], [0, 0, 30, 30]], [0, 0])
    assert not weights.any() and not wanted.any()
    _, wanted, weights = match([[0.5]] * 9, GRID, GRID, np.zeros((0, 4)), np.zeros(0, np.int32))
    assert not weights.any() and not wanted.any()


def test_boxes_are_coded_as_the_post_processing_operation_reads_them():
    from official.vision.ops import box_ops

    from scripts.training.losses import decode_boxes

    dice = np.random.default_rng(7)
    anchors = tf.constant([[10, 20, 40, 80], [0, 0, 32, 32]], tf.float32)
    encoded = tf.constant(dice.normal(0, 0.5, (3, 2, 4)), tf.float32)
    assert np.allclose(decode_boxes(encoded, anchors), box_ops.decode_boxes(encoded, anchors),
                       atol=1e-3)
    assert np.isfinite(decode_boxes(encoded * 1000.0, anchors)).all()


@pytest.mark.parametrize(("box", "truth", "loss"), [
    ([0, 0, 10, 10], [0, 0, 10, 10], 0.0),  # the same
    # side by side: IoU 0, centers 10 apart, hull 10 x 20: 100 / 500
    ([0, 0, 10, 10], [0, 10, 10, 20], 1.2),
    # one inside the other, of one shape and center: 1 - IoU
    ([0, 0, 10, 10], [2.5, 2.5, 7.5, 7.5], 0.75),
])
def test_complete_iou_by_hand(box, truth, loss):
    from scripts.training.losses import complete_iou_loss

    found = complete_iou_loss(tf.constant(box, tf.float32), tf.constant(truth, tf.float32))
    assert found.numpy() == pytest.approx(loss, abs=1e-4)


def test_complete_iou_draws_a_wrong_shape_towards_the_right_one():
    from scripts.training.losses import complete_iou_loss

    box, truth = tf.Variable([0.0, 0.0, 5.0, 20.0]), tf.constant([0.0, 0.0, 20.0, 5.0])
    with tf.GradientTape() as tape:
        loss = complete_iou_loss(box, truth)
    height, width = tape.gradient(loss, box)[2:].numpy()
    assert height < 0 < width, "it grows taller and narrower"


def test_quality_focal_loss_is_least_where_score_and_quality_agree():
    from scripts.training.losses import quality_focal_loss

    wanted = tf.constant([0.7])
    losses = {score: quality_focal_loss(tf.constant([np.log(score / (1 - score))], tf.float32),
                                        wanted, 2.0).numpy()
              for score in (0.3, 0.7, 0.95)}
    assert losses[0.7] == pytest.approx(0.0, abs=1e-6) and min(losses[0.3], losses[0.95]) > 0.01

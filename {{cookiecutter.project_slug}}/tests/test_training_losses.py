"""Matching and losses, against values worked out by hand and by other means."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf = pytest.importorskip("tensorflow")


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

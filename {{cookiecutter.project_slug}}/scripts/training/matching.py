"""Which anchor learns which ground-truth box.

Everything is computed in the training step, for the whole batch, from boxes padded with class 0.
"""

from typing import NamedTuple

import tensorflow as tf

TINY = 1e-9


class Matches(NamedTuple):
    """For each anchor: `boxes_px` [batch, anchors, 4] (yxyx), `scores` [batch, anchors, classes] that the anchor should
    give (0..1), `weights` [batch, anchors] of its box loss (0: background)."""

    boxes_px: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor


def task_aligned(scores, boxes_px, anchors_px, truth_px, classes, candidates: int, score_power: float,
                 iou_power: float) -> Matches:
    """Task-aligned matching: each box takes the anchors inside it that already do best at class and place together.

    `scores` [batch, anchors, classes] 0..1 and `boxes_px` [batch, anchors, 4] are predictions, `anchors_px`
    [anchors, 4]; `truth_px` [batch, boxes, 4]; `classes` int [batch, boxes] from 1, 0 is padding; all boxes yxyx in
    pixels of the input. An anchor wanted by two boxes goes to the one it overlaps more. Source: Feng et al. 2021, TOOD,
    https://arxiv.org/abs/2108.07755, section 3.2.
    """
    # One more box of padding: a batch may have no box at all.
    truth_px, classes = tf.pad(truth_px, [[0, 0], [0, 1], [0, 0]]), tf.pad(classes, [[0, 0], [0, 1]])
    truth_count = tf.shape(truth_px)[1]
    iou = pairwise_iou(truth_px, boxes_px)
    by_class = tf.gather(tf.transpose(scores, [0, 2, 1]), tf.maximum(classes - 1, 0), batch_dims=1)
    alignment = by_class ** score_power * tf.maximum(iou, 0.01) ** iou_power
    alignment *= tf.cast(allowed_anchors(anchors_px, truth_px, classes), tf.float32)
    best = tf.math.top_k(alignment, tf.minimum(candidates, tf.shape(anchors_px)[0])).values[..., -1:]
    chosen = (alignment >= best) & (alignment > 0.0)
    owner = tf.argmax(tf.where(chosen, iou + 1.0, 0.0), axis=1)
    owned = tf.transpose(tf.one_hot(owner, truth_count, dtype=tf.float32), [0, 2, 1]) * tf.cast(chosen, tf.float32)
    scale = _highest(iou * owned) / tf.maximum(_highest(alignment * owned), TINY)
    weights = tf.reduce_sum(alignment * owned * scale, axis=1)
    wanted = tf.one_hot(tf.gather(classes, owner, batch_dims=1) - 1, tf.shape(scores)[-1])
    return Matches(tf.gather(truth_px, owner, batch_dims=1), wanted * weights[..., tf.newaxis], weights)


def allowed_anchors(anchors_px, truth_px, classes):
    """Whether an anchor's centre lies in a box: bool [batch, boxes, anchors]; of a box without any, the nearest."""
    centres = (anchors_px[:, :2] + anchors_px[:, 2:]) / 2.0
    low, high = truth_px[:, :, tf.newaxis, :2], truth_px[:, :, tf.newaxis, 2:]
    inside = tf.reduce_all((centres > low) & (centres < high), -1)
    distance = tf.reduce_sum(tf.square(centres - (low + high) / 2.0), -1)
    nearest = distance <= tf.reduce_min(distance, -1, keepdims=True)
    some = tf.reduce_any(inside, -1, keepdims=True)
    return tf.where(some, inside, nearest) & (classes > 0)[..., tf.newaxis]


def pairwise_iou(one_px, other_px):
    """IoU of all pairs: [batch, n, 4] and [batch, m, 4] (yxyx) to [batch, n, m]."""
    one, other = one_px[:, :, tf.newaxis], other_px[:, tf.newaxis]
    sides = tf.maximum(tf.minimum(one[..., 2:], other[..., 2:]) - tf.maximum(one[..., :2], other[..., :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / tf.maximum(_area(one) + _area(other) - shared, TINY)


def _area(yxyx):
    return (yxyx[..., 2] - yxyx[..., 0]) * (yxyx[..., 3] - yxyx[..., 1])


def _highest(values):
    return tf.reduce_max(values, axis=-1, keepdims=True)

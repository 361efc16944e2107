"""Which anchor learns which box, and what a training step minimizes.

All boxes are yxyx in pixels of the input, float32. Every function works inside a `tf.function`.
"""

import math
from typing import NamedTuple

import tensorflow as tf

TINY = 1e-9

# Largest exponent of a decoded side: a box of 64 times the side of its anchor.
MAX_LOG_SIZE = math.log(64.0)

# A loss of a training that works starts near 2: this only means that it has run away.
EXPLODED = 1e4
EXPLODED_MARK = "the loss explodes on images"


class Matches(NamedTuple):
    """What each anchor is to learn.

    Attributes:
        boxes_px: [batch, anchors, 4], the box of the anchor.
        scores: [batch, anchors, classes], the score 0..1 that the anchor should give.
        weights: [batch, anchors], weight 0..1 of its box loss (0: background).
    """

    boxes_px: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor


def task_aligned(scores, boxes_px, anchors_px, truth_px, classes, candidates: int,
                 score_power: float, iou_power: float) -> Matches:
    """Match each box to the anchors inside it that already do best at class and place together.

    An anchor that two boxes choose goes to the one that it overlaps more. Source: Feng et al. 2021,
    TOOD, https://arxiv.org/abs/2108.07755, section 3.2.

    Args:
        scores: Predicted scores 0..1, [batch, anchors, classes].
        boxes_px: Predicted boxes, [batch, anchors, 4].
        anchors_px: Anchors, [anchors, 4].
        truth_px: Ground truth boxes, [batch, boxes, 4].
        classes: Their classes, int [batch, boxes], from 1; 0 is padding.
        candidates: Most anchors that one box takes.
        score_power: Exponent of the score in the rank of an anchor.
        iou_power: Exponent of the IoU in the rank.
    """
    # One more box of padding: a batch may have no box at all.
    truth_px = tf.pad(truth_px, [[0, 0], [0, 1], [0, 0]])
    classes = tf.pad(classes, [[0, 0], [0, 1]])
    truth_count = tf.shape(truth_px)[1]

    # Rank the anchors of each box: [batch, boxes, anchors].
    iou = pairwise_iou(truth_px, boxes_px)
    by_class = tf.gather(tf.transpose(scores, [0, 2, 1]), tf.maximum(classes - 1, 0), batch_dims=1)
    alignment = by_class ** score_power * tf.maximum(iou, 0.01) ** iou_power
    alignment *= tf.cast(allowed_anchors(anchors_px, truth_px, classes), tf.float32)
    most = tf.minimum(candidates, tf.shape(anchors_px)[0])
    best = tf.math.top_k(alignment, most).values[..., -1:]
    chosen = (alignment >= best) & (alignment > 0.0)

    # Give each anchor to one box.
    owner = tf.argmax(tf.where(chosen, iou + 1.0, 0.0), axis=1)
    owned = (tf.transpose(tf.one_hot(owner, truth_count, dtype=tf.float32), [0, 2, 1])
             * tf.cast(chosen, tf.float32))

    # Scale the ranks of a box so that its best anchor is to score its largest IoU.
    scale = _highest(iou * owned) / tf.maximum(_highest(alignment * owned), TINY)
    weights = tf.reduce_sum(alignment * owned * scale, axis=1)
    wanted = tf.one_hot(tf.gather(classes, owner, batch_dims=1) - 1, tf.shape(scores)[-1])
    return Matches(tf.gather(truth_px, owner, batch_dims=1), wanted * weights[..., tf.newaxis],
                   weights)


def allowed_anchors(anchors_px, truth_px, classes):
    """Return whether the center of an anchor lies in a box: bool [batch, boxes, anchors].

    A box without any center inside takes the anchor with the nearest one. Shapes as in
    `task_aligned`.
    """
    centers = (anchors_px[:, :2] + anchors_px[:, 2:]) / 2.0
    low, high = truth_px[:, :, tf.newaxis, :2], truth_px[:, :, tf.newaxis, 2:]
    inside = tf.reduce_all((centers > low) & (centers < high), -1)
    distance = tf.reduce_sum(tf.square(centers - (low + high) / 2.0), -1)
    nearest = distance <= tf.reduce_min(distance, -1, keepdims=True)
    some = tf.reduce_any(inside, -1, keepdims=True)
    return tf.where(some, inside, nearest) & (classes > 0)[..., tf.newaxis]


def pairwise_iou(first_px, second_px):
    """Return the IoU of all pairs: [batch, n, 4] and [batch, m, 4] to [batch, n, m]."""
    first, second = first_px[:, :, tf.newaxis], second_px[:, tf.newaxis]
    sides = tf.maximum(tf.minimum(first[..., 2:], second[..., 2:])
                       - tf.maximum(first[..., :2], second[..., :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / tf.maximum(_area(first) + _area(second) - shared, TINY)


def _area(yxyx):
    return (yxyx[..., 2] - yxyx[..., 0]) * (yxyx[..., 3] - yxyx[..., 1])


def _highest(values):
    return tf.reduce_max(values, axis=-1, keepdims=True)


def decode_boxes(encoded, anchors_px):
    """Return the boxes [.., anchors, 4] of encoded ones [.., anchors, 4] (ty, tx, th, tw).

    The code of `TFLite_Detection_PostProcess` with all scales 1: centers in sides of the anchor,
    sides as logarithm of their ratio to it.
    """
    sizes = anchors_px[:, 2:] - anchors_px[:, :2]
    centers = anchors_px[:, :2] + sizes / 2.0 + encoded[..., :2] * sizes
    halves = tf.exp(tf.minimum(encoded[..., 2:], MAX_LOG_SIZE)) * sizes / 2.0
    return tf.concat([centers - halves, centers + halves], -1)


def quality_focal_loss(logits, wanted, gamma: float):
    """Return the sum of cross entropies, each weighted by |target - score| ** `gamma`.

    `logits` and `wanted` (targets 0..1) have one shape. Source: Li et al. 2020, Generalized Focal
    Loss, https://arxiv.org/abs/2006.04388, equation 2.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
    return tf.reduce_sum(entropy * tf.abs(wanted - tf.sigmoid(logits)) ** gamma)


def complete_iou_loss(boxes_px, truth_px):
    """Return 1 - CIoU [..] of pairs of boxes [.., 4]: overlap, distance of the centers and shape.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equations 9 to 12.
    """
    sides = boxes_px[..., 2:] - boxes_px[..., :2]
    truth_sides = truth_px[..., 2:] - truth_px[..., :2]

    # Overlap.
    shared = tf.reduce_prod(tf.maximum(tf.minimum(boxes_px[..., 2:], truth_px[..., 2:])
                                       - tf.maximum(boxes_px[..., :2], truth_px[..., :2]), 0.0), -1)
    union = tf.reduce_prod(sides, -1) + tf.reduce_prod(truth_sides, -1) - shared
    iou = shared / tf.maximum(union, TINY)

    # Distance of the centers, as a share of the diagonal of the box around both.
    hull = (tf.maximum(boxes_px[..., 2:], truth_px[..., 2:])
            - tf.minimum(boxes_px[..., :2], truth_px[..., :2]))
    between = (boxes_px[..., 2:] + boxes_px[..., :2] - truth_px[..., 2:] - truth_px[..., :2]) / 2.0
    distance = _squares(between) / tf.maximum(_squares(hull), TINY)

    # Ratio of width to height.
    angle = (tf.atan2(truth_sides[..., 1], truth_sides[..., 0] + TINY)
             - tf.atan2(sides[..., 1], sides[..., 0] + TINY))
    shape = 4.0 / math.pi**2 * tf.square(angle)
    share = tf.stop_gradient(shape / (1.0 - iou + shape + TINY))
    return 1.0 - iou + distance + share * shape


def _squares(yx):
    return tf.reduce_sum(tf.square(yx), -1)


def check_loss(loss, image_numbers) -> None:
    """End training inside a step if `loss` is not a number or beyond reason.

    `image_numbers` int64 [batch] are those of the images in the records; the error holds them.
    """
    tf.debugging.Assert(loss < EXPLODED, [EXPLODED_MARK, image_numbers, "loss", loss], summarize=-1)

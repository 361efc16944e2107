"""What a training step minimises: quality of class scores and overlap of boxes."""

import math

import tensorflow as tf

from scripts.training.matching import TINY

# Largest exponent of a decoded side: a box 64 times its anchor.
MAX_LOG_SIZE = math.log(64.0)


def decode_boxes(encoded, anchors_px):
    """Boxes yxyx in pixels of [.., anchors, 4] (ty, tx, th, tw): the code of TFLite_Detection_PostProcess, scale 1."""
    sizes = anchors_px[:, 2:] - anchors_px[:, :2]
    centres = anchors_px[:, :2] + sizes / 2.0 + encoded[..., :2] * sizes
    halves = tf.exp(tf.minimum(encoded[..., 2:], MAX_LOG_SIZE)) * sizes / 2.0
    return tf.concat([centres - halves, centres + halves], -1)


def quality_focal_loss(logits, wanted, gamma: float):
    """Sum of the cross entropy with targets 0..1, each weighted by its distance to the target to the power of `gamma`.

    Source: Li et al. 2020, Generalized Focal Loss, https://arxiv.org/abs/2006.04388, equation 2.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
    return tf.reduce_sum(entropy * tf.abs(wanted - tf.sigmoid(logits)) ** gamma)


def complete_iou_loss(boxes_px, truth_px):
    """1 - CIoU of pairs of boxes yxyx [.., 4]: overlap, distance of the centres and shape.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equations 9 to 12.
    """
    sides = boxes_px[..., 2:] - boxes_px[..., :2]
    truth_sides = truth_px[..., 2:] - truth_px[..., :2]
    shared = tf.reduce_prod(tf.maximum(
        tf.minimum(boxes_px[..., 2:], truth_px[..., 2:]) - tf.maximum(boxes_px[..., :2], truth_px[..., :2]), 0.0), -1)
    union = tf.reduce_prod(sides, -1) + tf.reduce_prod(truth_sides, -1) - shared
    iou = shared / tf.maximum(union, TINY)
    hull = tf.maximum(boxes_px[..., 2:], truth_px[..., 2:]) - tf.minimum(boxes_px[..., :2], truth_px[..., :2])
    between = (boxes_px[..., 2:] + boxes_px[..., :2] - truth_px[..., 2:] - truth_px[..., :2]) / 2.0
    distance = _squares(between) / tf.maximum(_squares(hull), TINY)
    angle = tf.atan2(truth_sides[..., 1], truth_sides[..., 0] + TINY) - tf.atan2(sides[..., 1], sides[..., 0] + TINY)
    shape = 4.0 / math.pi**2 * tf.square(angle)
    share = tf.stop_gradient(shape / (1.0 - iou + shape + TINY))
    return 1.0 - iou + distance + share * shape


def _squares(yx):
    return tf.reduce_sum(tf.square(yx), -1)

"""Random changes to a training image: a mirrored, moved and resized view of it, in other light.

Everything works inside a tf.data function, and is a pure function of the image and a key: a
training that continues sees what it would have seen.
"""

from typing import NamedTuple

import tensorflow as tf

# A box of which less than this share is left in view is no longer an example of its class.
LEAST_VISIBLE = 0.25
LEAST_SIDE_PX = 2.0
GRAY = 127.5


class Strength(NamedTuple):
    """How far an image may change.

    Attributes:
        flip: Half of the images are mirrored.
        scale_min, scale_max: Size of what is shown; 1.0 is the whole image.
        aspect: Largest ratio of widening; 1.0 is none.
        color: 0 none .. 1 strong.
    """

    flip: bool
    scale_min: float
    scale_max: float
    aspect: float
    color: float


def augment(image, boxes, classes, key, side_px: int, strength: Strength):
    """Return a random view of an image.

    Args:
        image: uint8 [height, width, 3], RGB.
        boxes: float32 [boxes, 4], yxyx in 0..1.
        classes: int32 [boxes].
        key: int64 [2], the key of TensorFlow's stateless random functions.
        side_px: Side of the view.
        strength: How far it may change.

    Returns:
        RGB float32 [side, side, 3] in 0..255, boxes yxyx in its pixels, and the classes of the
        boxes left.
    """
    # One draw for all changes: 0 and 1 scale and aspect, 2 and 3 place, 4 mirror, 5 to 8 color.
    chance = tf.random.stateless_uniform([9], key)
    window = _window(chance, strength)
    mirrored = strength.flip & (chance[4] < 0.5)
    view = _cut(image, window, mirrored, side_px)
    if strength.color:
        view = _recolor(view, chance[5:9], strength.color)
    boxes, kept = _see(boxes, window, mirrored, side_px)
    return view, tf.boolean_mask(boxes, kept), tf.boolean_mask(classes, kept)


def mosaic(views):
    """Join four views, as `augment` returns them, to one of twice the side.

    Source: Bochkovskiy et al. 2020, YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3.
    """
    images, boxes, classes = zip(*views, strict=True)
    side_px = images[0].shape[0]
    joined = tf.concat([tf.concat(images[:2], 1), tf.concat(images[2:], 1)], 0)
    corners = [(0, 0), (0, side_px), (side_px, 0), (side_px, side_px)]
    moved = [part + tf.constant([*corner, *corner], tf.float32)
             for part, corner in zip(boxes, corners, strict=True)]
    return joined, tf.concat(moved, 0), tf.concat(classes, 0)


def _window(chance, strength: Strength):
    """Return the part of the image that is shown: yxyx [4].

    0..1 are the edges of the image; beyond them lies gray.
    """
    scale = strength.scale_min * (strength.scale_max / strength.scale_min) ** chance[0]
    widening = strength.aspect ** (chance[1] - 0.5)
    sides = tf.stack([1.0 / (scale * widening), widening / scale])
    start = chance[2:4] * (1.0 - sides)
    return tf.concat([start, start + sides], 0)


def _cut(image, window, mirrored, side_px: int):
    """Sample the pixel centers of the view: one operation cuts, resizes and mirrors (bilinear)."""
    # With its edge doubled an image can be sampled half a pixel outside, as resizing it does.
    # tf.pad's "SYMMETRIC" takes longer than all that follows.
    image = tf.concat([image[:1], image, image[-1:]], 0)
    image = tf.concat([image[:, :1], image, image[:, -1:]], 1)
    padded = tf.cast(tf.shape(image)[:2], tf.float32)
    start, sides = window[:2], window[2:] - window[:2]
    # crop_and_resize puts its first and last sample on the corners it is given, in units of
    # (size - 1).
    first = ((start + sides * 0.5 / side_px) * (padded - 2.0) + 0.5) / (padded - 1.0)
    last = ((start + sides * (1.0 - 0.5 / side_px)) * (padded - 2.0) + 0.5) / (padded - 1.0)
    left = tf.where(mirrored, last[1], first[1])
    right = tf.where(mirrored, first[1], last[1])
    corners = tf.stack([first[0], left, last[0], right])
    view = tf.image.crop_and_resize(image[tf.newaxis], corners[tf.newaxis], [0],
                                    [side_px, side_px], extrapolation_value=GRAY)
    return tf.ensure_shape(view[0], [side_px, side_px, 3])


def _recolor(view, chance, strength: float):
    """Change saturation, contrast and brightness by up to 0.5 strength each, and tint the view."""
    factors = 1.0 + strength * (chance - 0.5)
    gray = tf.reduce_mean(view, -1, keepdims=True)
    view = gray + (view - gray) * factors[0]
    middle = tf.reduce_mean(view)
    view = (middle + (view - middle) * factors[1]) * factors[2]
    warmth = 1.0 + 0.3 * (factors[3] - 1.0) * tf.constant([1.0, 0.0, -1.0])
    return tf.clip_by_value(view * warmth, 0.0, 255.0)


def _see(boxes, window, mirrored, side_px: int):
    """Return boxes in pixels of the view, clipped to it, and which of them still show enough."""
    start, sides = tf.tile(window[:2], [2]), tf.tile(window[2:] - window[:2], [2])
    boxes = (boxes - start) / sides * side_px
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
    flipped = tf.stack([ymin, side_px - xmax, ymax, side_px - xmin], axis=1)
    boxes = tf.where(mirrored, flipped, boxes)
    clipped = tf.clip_by_value(boxes, 0.0, float(side_px))
    shown, full = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    enough = tf.reduce_prod(shown, 1) > LEAST_VISIBLE * tf.reduce_prod(full, 1)
    return clipped, enough & tf.reduce_all(shown >= LEAST_SIDE_PX, 1)

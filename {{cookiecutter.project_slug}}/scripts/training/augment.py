"""Random changes to a training picture: a mirrored, moved and resized view of it, in other light.

Every number comes from a key, so that the same key gives the same picture.
"""

from typing import NamedTuple

import tensorflow as tf

# A box of which less than this share is left in view is no longer an example of its class.
LEAST_VISIBLE = 0.25
LEAST_SIDE_PX = 2.0
GREY = 127.5


class Strength(NamedTuple):
    """How far a picture may change. `scale_min`, `scale_max`: size of what is shown, 1.0 is the whole picture;
    `aspect`: largest ratio of widening, 1.0 is none; `colour`: 0 none .. 1 strong; `flip`: half are mirrored."""

    flip: bool
    scale_min: float
    scale_max: float
    aspect: float
    colour: float


def augment(image, boxes, classes, key, side_px: int, strength: Strength):
    """A random view: RGB float32 [side, side, 3] in 0..255, boxes yxyx in its pixels, classes of the boxes left.

    `image` uint8 [height, width, 3], `boxes` [boxes, 4] yxyx 0..1, `key` int64 [2].
    """
    chance = tf.random.stateless_uniform([9], key)
    window = _window(chance, strength)
    mirrored = strength.flip & (chance[4] < 0.5)
    view = _cut(image, window, mirrored, side_px)
    if strength.colour:
        view = _recolour(view, chance[5:9], strength.colour)
    boxes, kept = _see(boxes, window, mirrored, side_px)
    return view, tf.boolean_mask(boxes, kept), tf.boolean_mask(classes, kept)


def mosaic(views):
    """Four views (RGB [side, side, 3], boxes in pixels, classes) as the quarters of one of twice the side.

    Source: Bochkovskiy et al. 2020, YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3.
    """
    images, boxes, classes = zip(*views, strict=True)
    side_px = images[0].shape[0]
    whole = tf.concat([tf.concat(images[:2], 1), tf.concat(images[2:], 1)], 0)
    corners = [(0, 0), (0, side_px), (side_px, 0), (side_px, side_px)]
    moved = [part + tf.constant([*corner, *corner], tf.float32) for part, corner in zip(boxes, corners, strict=True)]
    return whole, tf.concat(moved, 0), tf.concat(classes, 0)


def _window(chance, strength: Strength):
    """The part of the picture that is shown: yxyx, 0..1 are its edges; beyond them lies grey."""
    scale = strength.scale_min * (strength.scale_max / strength.scale_min) ** chance[0]
    widening = strength.aspect ** (chance[1] - 0.5)
    sides = tf.stack([1.0 / (scale * widening), widening / scale])
    start = chance[2:4] * (1.0 - sides)
    return tf.concat([start, start + sides], 0)


def _cut(image, window, mirrored, side_px: int):
    """Bilinear samples at the pixel centres of the view; one operation cuts, resizes and mirrors."""
    # With its edge doubled a picture can be sampled half a pixel outside, as resizing it does.
    image = tf.concat([image[:1], image, image[-1:]], 0)  # tf.pad's "SYMMETRIC" takes longer than all that follows.
    image = tf.concat([image[:, :1], image, image[:, -1:]], 1)
    padded = tf.cast(tf.shape(image)[:2], tf.float32)
    start, sides = window[:2], window[2:] - window[:2]
    # crop_and_resize puts its first and last sample on the corners it is given, in units of (size - 1).
    first = ((start + sides * 0.5 / side_px) * (padded - 2.0) + 0.5) / (padded - 1.0)
    last = ((start + sides * (1.0 - 0.5 / side_px)) * (padded - 2.0) + 0.5) / (padded - 1.0)
    left, right = tf.where(mirrored, last[1], first[1]), tf.where(mirrored, first[1], last[1])
    corners = tf.stack([first[0], left, last[0], right])
    view = tf.image.crop_and_resize(image[tf.newaxis], corners[tf.newaxis], [0], [side_px, side_px],
                                    extrapolation_value=GREY)
    return tf.ensure_shape(view[0], [side_px, side_px, 3])


def _recolour(view, chance, strength: float):
    """Saturation, contrast and brightness times 1 +- 0.5 strength, one tint."""
    factors = 1.0 + strength * (chance - 0.5)
    grey = tf.reduce_mean(view, -1, keepdims=True)
    view = grey + (view - grey) * factors[0]
    middle = tf.reduce_mean(view)
    view = (middle + (view - middle) * factors[1]) * factors[2]
    warmth = 1.0 + 0.3 * (factors[3] - 1.0) * tf.constant([1.0, 0.0, -1.0])
    return tf.clip_by_value(view * warmth, 0.0, 255.0)


def _see(boxes, window, mirrored, side_px: int):
    """Boxes in pixels of the view, clipped to it, and which of them still show enough."""
    start, sides = tf.tile(window[:2], [2]), tf.tile(window[2:] - window[:2], [2])
    boxes = (boxes - start) / sides * side_px
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
    flipped = tf.stack([ymin, side_px - xmax, ymax, side_px - xmin], axis=1)
    boxes = tf.where(mirrored, flipped, boxes)
    clipped = tf.clip_by_value(boxes, 0.0, float(side_px))
    shown, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    enough = tf.reduce_prod(shown, 1) > LEAST_VISIBLE * tf.reduce_prod(whole, 1)
    return clipped, enough & tf.reduce_all(shown >= LEAST_SIDE_PX, 1)

"""What the pre-trained backbone makes of the inside of boxes: a witness that has never seen these labels.

The trained network has learned wrong training labels by heart, the weights that it started from have not.
"""

import zlib
from pathlib import Path

import numpy as np

from scripts.evaluation.overlap import ious

LEVELS = 2
"""Of the backbone's outputs: the coarsest ones know most about classes."""
MARGIN = 0.08
"""Of a side, added on each side: the surroundings tell what a thing is."""
GROUNDS, TRIES = 3, 60
GROUND_SIDE = (0.1, 0.5)
GROUND_IOU = 0.15


def load_describe(root: Path):
    """A function of (pixels [height, width, 3], boxes xyxy in pixels [n, 4]) that gives features float32 [n, d].

    DetectorError without an experiment or the pre-trained weights that it names.
    """
    import tensorflow as tf

    from scripts.evaluation.model import pretrained_network
    from scripts.training.inputs import normalize_pixels

    network, side_px = pretrained_network(root)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4], tf.float32)])
    def features(pixels, yxyx_norm):
        owners = tf.zeros(tf.shape(yxyx_norm)[:1], tf.int32)
        inside = tf.image.crop_and_resize(tf.cast(pixels, tf.float32)[tf.newaxis], yxyx_norm, owners, [side_px] * 2,
                                          extrapolation_value=127.0)  # fmt: skip
        levels = network.backbone(normalize_pixels(inside), training=False)
        return tf.concat([tf.reduce_mean(levels[name], [1, 2]) for name in sorted(levels, key=int)[-LEVELS:]], -1)

    def describe(pixels, xyxy_px):
        boxes = np.asarray(xyxy_px, np.float64).reshape(-1, 4)
        around = MARGIN * (boxes[:, 2:] - boxes[:, :2])
        edges = np.hstack([boxes[:, :2] - around, boxes[:, 2:] + around])[:, [1, 0, 3, 2]]
        height_px, width_px = pixels.shape[:2]
        return features(pixels, (edges / [height_px, width_px, height_px, width_px]).astype(np.float32)).numpy()

    return describe


def grounds(name: str, size_px: tuple[int, int], labelled, found) -> np.ndarray:
    """Up to `GROUNDS` boxes xyxy in pixels [n, 4] where neither a label nor a detection is; the same for one name."""
    dice, boxes = np.random.default_rng(zlib.crc32(name.encode())), []
    taken = np.concatenate([np.asarray(each, np.float64).reshape(-1, 4) for each in (labelled, found)])
    for _ in range(TRIES):
        sides = dice.uniform(*GROUND_SIDE, 2) * size_px
        corner = dice.uniform(0, np.asarray(size_px) - sides)
        box = np.concatenate([corner, corner + sides])
        if ious([box], taken).max(initial=0.0) < GROUND_IOU:
            boxes.append(box)
        if len(boxes) == GROUNDS:
            break
    return np.asarray(boxes).reshape(-1, 4)

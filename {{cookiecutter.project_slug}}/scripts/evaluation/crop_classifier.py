"""A classifier of what is inside boxes that judges each label as if it had not been fitted to it.

It is linear, on features of the pre-trained backbone, which has never seen these labels.
"""

import zlib
from collections.abc import Callable

import numpy as np

from scripts.data.dataset import ious

# The inside of boxes as features of the pre-trained backbone.

# Of the backbone's outputs: the coarsest ones know most about classes.
LEVELS = 2
# Of a side, added on each side: the surroundings tell what a thing is.
MARGIN = 0.08
BACKGROUNDS, TRIES = 3, 60
BACKGROUND_SIDE = (0.1, 0.5)
BACKGROUND_IOU = 0.15


def crop_describer(model) -> Callable:
    """Return a function that describes the inside of boxes by the backbone of a `TrainedModel`.

    It takes pixels uint8 [height, width, 3] and boxes xmin, ymin, xmax, ymax in pixels [n, 4], and
    gives features float32 [n, d].
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8),
                                  tf.TensorSpec([None, 4], tf.float32)])
    def features(pixels, yxyx_norm):
        image_of_box = tf.zeros(tf.shape(yxyx_norm)[:1], tf.int32)
        crops = tf.image.crop_and_resize(
            tf.cast(pixels, tf.float32)[tf.newaxis], yxyx_norm, image_of_box, [model.input_px] * 2,
            extrapolation_value=127.0)
        levels = model.backbone_levels(crops)
        coarsest = sorted(levels, key=int)[-LEVELS:]
        return tf.concat([tf.reduce_mean(levels[name], [1, 2]) for name in coarsest], -1)

    def describe(pixels, xyxy_px):
        boxes = np.asarray(xyxy_px, np.float64).reshape(-1, 4)
        around = MARGIN * (boxes[:, 2:] - boxes[:, :2])
        edges = np.hstack([boxes[:, :2] - around, boxes[:, 2:] + around])[:, [1, 0, 3, 2]]
        height_px, width_px = pixels.shape[:2]
        yxyx_norm = edges / [height_px, width_px, height_px, width_px]
        return features(pixels, yxyx_norm.astype(np.float32)).numpy()

    return describe


def background_boxes(name: str, size_px: tuple[int, int], labeled, detected) -> np.ndarray:
    """Return up to `BACKGROUNDS` boxes xyxy in pixels [n, 4] where no label and no detection is.

    The boxes are random, but the same for an image of the same `name`.
    """
    random, boxes = np.random.default_rng(zlib.crc32(name.encode())), []
    taken = np.concatenate([np.asarray(part, np.float64).reshape(-1, 4)
                            for part in (labeled, detected)])
    for _ in range(TRIES):
        sides = random.uniform(*BACKGROUND_SIDE, 2) * size_px
        corner = random.uniform(0, np.asarray(size_px) - sides)
        box = np.concatenate([corner, corner + sides])
        if ious([box], taken).max(initial=0.0) < BACKGROUND_IOU:
            boxes.append(box)
        if len(boxes) == BACKGROUNDS:
            break
    return np.asarray(boxes).reshape(-1, 4)


# The crop classifier.

# Strength of the penalty: with it 432 features of 60 boxes do not overfit.
RIDGE_PER_FEATURE = 3.0


def leave_one_out_scores(features, classes) -> np.ndarray:
    """Return how well each class fits each example, as if it had not been fitted to the example.

    Ridge regression, exact and in one go by the hat matrix (Hastie, Tibshirani and Friedman 2009,
    "The Elements of Statistical Learning", section 7.10): with h the leverage of an example y, its
    leave-one-out prediction is (p - h y) / (1 - h).

    Args:
        features: [n, d].
        classes: int [n], from 0.

    Returns:
        float64 [n, classes], about 0..1.
    """
    x = np.asarray(features, np.float64)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    x = np.hstack([x, np.ones((len(x), 1))])
    wanted = np.eye(int(np.max(classes)) + 1)[classes]
    penalty = RIDGE_PER_FEATURE * x.shape[1] * np.eye(x.shape[1])
    inverse = np.linalg.inv(x.T @ x + penalty)
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)[:, None]
    return (x @ (inverse @ (x.T @ wanted)) - leverage * wanted) / (1.0 - leverage)


def reliability(scores: np.ndarray, classes) -> float:
    """Return the classifier's balanced accuracy, rescaled so that chance is 0 and perfect is 1."""
    classes, best = np.asarray(classes), scores.argmax(1)
    recalls = [float((best[classes == number] == number).mean()) for number in np.unique(classes)]
    if len(recalls) < 2:
        return 0.0
    chance = 1.0 / len(recalls)
    return max(0.0, (float(np.mean(recalls)) - chance) / (1.0 - chance))

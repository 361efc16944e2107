"""Which picture a training sees when: a pure function of seed and position, so that a training resumes exactly."""

import tensorflow as tf


def picture_index(position, pictures: int, seed: int):
    """Index 0..pictures-1 of the picture at `position` (int64 scalar, counted over all epochs).

    Each epoch holds every picture once, in an order of its own.
    """
    epoch, rank = position // pictures, position % pictures
    return tf.random.experimental.index_shuffle(rank, random_key(epoch, seed), pictures - 1)


def random_key(position, seed: int):
    """The key [2] of TensorFlow's stateless random functions for the picture at `position`."""
    return tf.stack([tf.constant(seed, tf.int64), position])

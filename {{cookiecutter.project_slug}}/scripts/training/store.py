"""The training pictures by number: all of them small and decoded in memory, or one by one from the records.

Decoding a photograph and making it small takes longer than a training step spends on it. Where all small pictures
fit into memory they are therefore made once, at the start.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from scripts.training.memory import free_memory_bytes

# Share of the free memory that small pictures may take.
MEMORY_SHARE = 0.25
HEADER_BYTES, FOOTER_BYTES = 12, 4


@dataclass(frozen=True)
class Store:
    """`pictures` is their number; `picture(index)` gives RGB uint8 [height, width, 3], boxes float32 [boxes, 4] (yxyx,
    0..1) and classes int32 [boxes] from 1, inside a tf.data function too."""

    pictures: int
    picture: Callable


def open_store(files: list[str], decode: Callable, side_px: int, in_memory: bool) -> Store:
    """The pictures of TFRecord files, in their order.

    `decode(serialized)` gives what `Store.picture` gives at the stored size. With `in_memory` every picture is kept
    stretched to `side_px`, if that fits.
    """
    places = record_places(files)
    if in_memory and len(places) * side_px * side_px * 3 < MEMORY_SHARE * free_memory_bytes():
        return _memory_store(files, decode, side_px, len(places))
    return _record_store(files, places, decode)


def record_places(files: list[str]) -> np.ndarray:
    """File number, first byte and length of each record: int64 [records, 3].

    A record is its length (uint64), a checksum (uint32), the data and another checksum:
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    places = []
    for number, name in enumerate(files):
        size = os.path.getsize(name)
        with open(name, "rb") as file:
            start = 0
            while start < size:
                length = int.from_bytes(file.read(8), "little")
                places.append((number, start + HEADER_BYTES, length))
                start += HEADER_BYTES + length + FOOTER_BYTES
                file.seek(start)
    return np.asarray(places, np.int64).reshape(-1, 3)


def _memory_store(files, decode, side_px, count) -> Store:
    def small(serialized):
        image, boxes, classes = decode(serialized)
        image = tf.image.resize(image, [side_px, side_px], method="bilinear", antialias=False)
        return tf.cast(tf.round(image), tf.uint8), boxes, classes

    images, boxes, classes = np.empty([count, side_px, side_px, 3], np.uint8), [], []
    dataset = tf.data.TFRecordDataset(files).map(small, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    for index, (image, one_boxes, one_classes) in enumerate(dataset.as_numpy_iterator()):
        images[index] = image
        boxes.append(one_boxes)
        classes.append(one_classes)
    with tf.device("CPU:0"):
        images = tf.convert_to_tensor(images)
        boxes = tf.ragged.constant(boxes, ragged_rank=1, inner_shape=(4,), dtype=tf.float32)
        classes = tf.ragged.constant(classes, dtype=tf.int32)
    return Store(count, lambda index: (images[index], boxes[index], classes[index]))


def _record_store(files, places, decode) -> Store:
    handles = [os.open(name, os.O_RDONLY) for name in files]

    def read(index):
        number, start, length = places[index]
        return os.pread(handles[number], length, start)

    def picture(index):
        return decode(tf.ensure_shape(tf.numpy_function(read, [index], tf.string), []))

    return Store(len(places), picture)

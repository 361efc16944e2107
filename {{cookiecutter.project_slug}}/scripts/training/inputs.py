"""What a training sees when: batches from TFRecord files, a pure function of seed and position.

A training that continues sees the batches that it would have seen without the break.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from official.vision.dataloaders import retinanet_input, tf_example_decoder
from official.vision.ops import preprocess_ops

from scripts.training.augmentation import Strength, augment, mosaic
from scripts.training.devices import free_memory_bytes

# Pixels, the same in training, evaluation and programs of other people.

# Every model takes RGB scaled as (x - 127.5) / 127.5: what the Lite weights expect, and what makes
# the uint8 input of the shipped file the raw pixel.
PIXEL_CENTER = 127.5


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a JPEG or PNG file as stored: uint8 [height, width, 3].

    EXIF is not applied. JPEG is decoded as Pillow, browsers and phones do it: TensorFlow's default
    is a faster transform that is off by one of 255 on the mean, which moved AP by up to 1.4 points
    on the same file.
    """
    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False))
    return tf.ensure_shape(pixels, [None, None, 3])


def normalize_pixels(pixels):
    """Scale RGB 0..255 of any shape to float32 -1..1."""
    return (tf.cast(pixels, tf.float32) - PIXEL_CENTER) / PIXEL_CENTER


# The training images by number: all of them small and decoded in memory, or read one by one from
# the records.

# Share of the free memory that small images may take.
MEMORY_SHARE = 0.25
# A small image is up to this much larger than the input: the view that is enlarged most then still
# has a pixel for each of its own.
MOST_ENLARGED = 1.25
# A record is its length (uint64), a checksum (uint32), the data and another checksum:
# https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
HEADER_BYTES, FOOTER_BYTES = 12, 4


@dataclass(frozen=True)
class Store:
    """The training images.

    Attributes:
        images: How many there are.
        image: A function of an index that returns RGB uint8 [height, width, 3], boxes float32
            [boxes, 4] (yxyx, 0..1) and classes int32 [boxes] from 1; inside tf.data too.
    """

    images: int
    image: Callable


def open_store(files: list[str], decode: Callable, side_px: int, in_memory: bool) -> Store:
    """Return the images of TFRecord files, in their order.

    Args:
        files: Paths of the files.
        decode: Returns what `Store.image` returns, at the stored size, of a serialized example.
        side_px: Side to which images are stretched when they are kept in memory.
        in_memory: Keep every image in memory, if that fits.
    """
    places = record_places(files)
    if in_memory and len(places) * side_px * side_px * 3 < MEMORY_SHARE * free_memory_bytes():
        return _memory_store(files, decode, side_px, len(places))
    return _record_store(files, places, decode)


def record_places(files: list[str]) -> np.ndarray:
    """Return file number, first byte and length of each record: int64 [records, 3]."""
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
    dataset = tf.data.TFRecordDataset(files).map(
        small, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    for index, (image, image_boxes, image_classes) in enumerate(dataset.as_numpy_iterator()):
        images[index] = image
        boxes.append(image_boxes)
        classes.append(image_classes)
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

    def image(index):
        return decode(tf.ensure_shape(tf.numpy_function(read, [index], tf.string), []))

    return Store(len(places), image)


class DetectorDecoder(tf_example_decoder.TfExampleDecoder):
    """Model Garden's decoder that also knows which boxes stand for a group or are not scored."""

    def __init__(self, difficult_is_crowd: bool, **kwargs):
        super().__init__(**kwargs)
        self._crowd_keys = ["image/object/group_of"]
        if difficult_is_crowd:
            self._crowd_keys.append("image/object/difficult")

    def _decode_image(self, parsed_tensors):
        return decode_image(parsed_tensors["image/encoded"])

    def decode(self, serialized_example):
        """Return a dict of one image.

        `groundtruth_is_crowd` marks crowds, groups and, in evaluation, difficult boxes.
        """
        data = super().decode(serialized_example)
        flags = tf.io.parse_single_example(
            serialized_example, {key: tf.io.VarLenFeature(tf.int64) for key in self._crowd_keys})
        for key in self._crowd_keys:
            flag = tf.cast(tf.sparse.to_dense(flags[key]), tf.bool)
            data["groundtruth_is_crowd"] = tf.logical_or(data["groundtruth_is_crowd"], flag)
        return data


# Batches of training.

def training_store(params, side_px: int) -> Store:
    """Return the training images of `task.train_data`.

    Boxes of groups and crowds are no examples and are not in it.
    """
    decoder = DetectorDecoder(difficult_is_crowd=False)

    def decode(serialized):
        data = decoder.decode(serialized)
        boxes, classes = data["groundtruth_boxes"], tf.cast(data["groundtruth_classes"], tf.int32)
        if params.parser.skip_crowd_during_training:
            kept = tf.logical_not(data["groundtruth_is_crowd"])
            boxes, classes = tf.boolean_mask(boxes, kept), tf.boolean_mask(classes, kept)
        return data["image"], boxes, classes

    files = sorted(tf.io.gfile.glob(params.input_path))
    enlarged = max(1.0, min(params.parser.aug_scale_max, MOST_ENLARGED))
    return open_store(files, decode, round(side_px * enlarged), params.cache)


def image_index(position, images: int, seed: int):
    """Return the index 0..images-1 of the image at a position.

    Each epoch holds every image once, in an order of its own. `position` is an int64 scalar,
    counted over all epochs.
    """
    epoch, rank = position // images, position % images
    return tf.random.experimental.index_shuffle(rank, random_key(epoch, seed), images - 1)


def random_key(position, seed: int):
    """Return the key [2] of TensorFlow's stateless random functions for a position."""
    return tf.stack([tf.constant(seed, tf.int64), position])


def training_dataset(params, side_px: int, first_step: int, input_context=None):
    """Return batches from a step on, without end. Step, seed and batch size decide what one holds.

    Args:
        params: `task.train_data` of an experiment.
        side_px: Side of the input.
        first_step: The step of the first batch.
        input_context: Of several devices. The batches then are the shares of a machine's devices,
            one after another.

    Returns:
        A dataset of (float32 [batch, side, side, 3] in -1..1, labels). Labels: `boxes_px` [batch,
        boxes, 4] (yxyx in pixels of the input), `classes` int32 [batch, boxes] (0: padding) and
        `image` int64 [batch] (its number in the records).
    """
    store, parser = training_store(params, side_px), params.parser
    strength = Strength(parser.aug_rand_hflip, parser.aug_scale_min, parser.aug_scale_max,
                        parser.aug_aspect, parser.aug_color)
    workers = input_context.num_input_pipelines if input_context else 1
    worker = input_context.input_pipeline_id if input_context else 0
    replicas = input_context.num_replicas_in_sync if input_context else 1
    share = params.global_batch_size // workers

    def example(count):
        position = count // share * params.global_batch_size + worker * share + count % share
        index = image_index(position, store.images, params.seed)
        key = random_key(position, params.seed)
        chance = tf.random.stateless_uniform([4], key + 1)

        def single():
            return augment(*store.image(index), key, side_px, strength)

        def joined():
            others = tf.cast(chance[1:] * float(store.images), tf.int64)
            return mosaic([augment(*store.image(number), key + [extra, 0], side_px // 2, strength)
                           for extra, number in enumerate([index, *tf.unstack(others)])])

        if parser.aug_mosaic:
            view, boxes_px, classes = tf.cond(chance[0] < parser.aug_mosaic, joined, single)
        else:
            view, boxes_px, classes = single()
        return normalize_pixels(view), {"boxes_px": boxes_px, "classes": classes, "image": index}

    shapes = ([side_px, side_px, 3], {"boxes_px": [None, 4], "classes": [None], "image": []})
    dataset = tf.data.Dataset.range(first_step * share, tf.int64.max)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batch = params.global_batch_size // replicas
    return dataset.padded_batch(batch, shapes, drop_remainder=True).prefetch(2)


# Validation.

class DetectorParser(retinanet_input.Parser):
    """Model Garden's parser for validation, with -1..1 pixels and the boxes that the loss needs."""

    def _parse_eval_data(self, data, anchor_labeler=None, input_anchor=None):
        image, labels = super()._parse_eval_data(data, anchor_labeler, input_anchor)
        scored = tf.logical_not(data["groundtruth_is_crowd"])
        boxes = tf.boolean_mask(data["groundtruth_boxes"], scored)[:self._max_num_instances]
        classes = tf.boolean_mask(data["groundtruth_classes"], scored)[:self._max_num_instances]
        free = self._max_num_instances - tf.shape(boxes)[0]
        labels["boxes_px"] = tf.pad(boxes, [[0, free], [0, 0]]) * float(self._output_size[0])
        labels["classes"] = tf.pad(tf.cast(classes, tf.int32), [[0, free]])
        return _from_imagenet_normalization(image), labels


def _from_imagenet_normalization(image):
    """Turn (x / 255 - mean) / deviation, which Model Garden hard-codes, into x / 127.5 - 1."""
    mean = tf.constant(preprocess_ops.MEAN_RGB, image.dtype) / 255.0
    deviation = tf.constant(preprocess_ops.STDDEV_RGB, image.dtype) / 255.0
    return (image * deviation + mean) * 2.0 - 1.0

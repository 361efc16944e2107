"""Which image a training sees when: a pure function of seed and position, so that a training
resumes exactly."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from official.vision.dataloaders import retinanet_input, tf_example_decoder
from official.vision.ops import preprocess_ops

from scripts.training.devices import free_memory_bytes


def image_index(position, images: int, seed: int):
    """Index 0..images-1 of the image at `position` (int64 scalar, counted over all epochs).

    Each epoch holds every image once, in an order of its own.
    """
    epoch, rank = position // images, position % images
    return tf.random.experimental.index_shuffle(rank, random_key(epoch, seed), images - 1)


def random_key(position, seed: int):
    """The key [2] of TensorFlow's stateless random functions for the image at `position`."""
    return tf.stack([tf.constant(seed, tf.int64), position])


# From the bytes of an image file to pixels, the same in training, evaluation and other people's
# programs.

def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """The pixels of a JPEG or PNG file as stored (EXIF is not applied): uint8 [height, width, 3].

    JPEG as Pillow, browsers and phones decode it: TensorFlow's default is a faster transform that
    is off by one of 255 on the mean, which moved AP by up to 1.4 points on the same file.
    """
    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False))
    return tf.ensure_shape(pixels, [None, None, 3])


# The training images by number: all of them small and decoded in memory, or one by one from the
# records.

# Share of the free memory that small images may take.
MEMORY_SHARE = 0.25
HEADER_BYTES, FOOTER_BYTES = 12, 4


@dataclass(frozen=True)
class Store:
    """`images` is their number; `image(index)` gives RGB uint8 [height, width, 3], boxes float32
    [boxes, 4] (yxyx, 0..1) and classes int32 [boxes] from 1, inside a tf.data function too."""

    images: int
    image: Callable


def open_store(files: list[str], decode: Callable, side_px: int, in_memory: bool) -> Store:
    """The images of TFRecord files, in their order.

    `decode(serialized)` gives what `Store.image` gives at the stored size. With `in_memory` every
    image is kept stretched to `side_px`, if that fits.
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

    def image(index):
        return decode(tf.ensure_shape(tf.numpy_function(read, [index], tf.string), []))

    return Store(len(places), image)


# Random changes to a training image: a mirrored, moved and resized view of it, in other light.

# A box of which less than this share is left in view is no longer an example of its class.
LEAST_VISIBLE = 0.25
LEAST_SIDE_PX = 2.0
GREY = 127.5


class Strength(NamedTuple):
    """How far an image may change. `scale_min`, `scale_max`: size of what is shown, 1.0 is the
    whole image; `aspect`: largest ratio of widening, 1.0 is none; `color`: 0 none .. 1 strong;
    `flip`: half are mirrored."""

    flip: bool
    scale_min: float
    scale_max: float
    aspect: float
    color: float


def augment(image, boxes, classes, key, side_px: int, strength: Strength):
    """A random view: RGB float32 [side, side, 3] in 0..255, boxes yxyx in its pixels, classes of
    the boxes left.

    `image` uint8 [height, width, 3], `boxes` [boxes, 4] yxyx 0..1, `key` int64 [2].
    """
    chance = tf.random.stateless_uniform([9], key)
    window = _window(chance, strength)
    mirrored = strength.flip & (chance[4] < 0.5)
    view = _cut(image, window, mirrored, side_px)
    if strength.color:
        view = _recolor(view, chance[5:9], strength.color)
    boxes, kept = _see(boxes, window, mirrored, side_px)
    return view, tf.boolean_mask(boxes, kept), tf.boolean_mask(classes, kept)


def mosaic(views):
    """Four views (RGB [side, side, 3], boxes in pixels, classes) as the quarters of one of twice
    the side.

    Source: Bochkovskiy et al. 2020, YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3.
    """
    images, boxes, classes = zip(*views, strict=True)
    side_px = images[0].shape[0]
    whole = tf.concat([tf.concat(images[:2], 1), tf.concat(images[2:], 1)], 0)
    corners = [(0, 0), (0, side_px), (side_px, 0), (side_px, side_px)]
    moved = [part + tf.constant([*corner, *corner], tf.float32) for part, corner in zip(boxes, corners, strict=True)]
    return whole, tf.concat(moved, 0), tf.concat(classes, 0)


def _window(chance, strength: Strength):
    """The part of the image that is shown: yxyx, 0..1 are its edges; beyond them lies gray."""
    scale = strength.scale_min * (strength.scale_max / strength.scale_min) ** chance[0]
    widening = strength.aspect ** (chance[1] - 0.5)
    sides = tf.stack([1.0 / (scale * widening), widening / scale])
    start = chance[2:4] * (1.0 - sides)
    return tf.concat([start, start + sides], 0)


def _cut(image, window, mirrored, side_px: int):
    """Bilinear samples at the pixel centers of the view; one operation cuts, resizes and mirrors.
    """
    # With its edge doubled an image can be sampled half a pixel outside, as resizing it does.
    image = tf.concat([image[:1], image, image[-1:]], 0)  # tf.pad's "SYMMETRIC" takes longer than all that follows.
    image = tf.concat([image[:, :1], image, image[:, -1:]], 1)
    padded = tf.cast(tf.shape(image)[:2], tf.float32)
    start, sides = window[:2], window[2:] - window[:2]
    # crop_and_resize puts its first and last sample on the corners it is given, in units of (size -
    # 1).
    first = ((start + sides * 0.5 / side_px) * (padded - 2.0) + 0.5) / (padded - 1.0)
    last = ((start + sides * (1.0 - 0.5 / side_px)) * (padded - 2.0) + 0.5) / (padded - 1.0)
    left, right = tf.where(mirrored, last[1], first[1]), tf.where(mirrored, first[1], last[1])
    corners = tf.stack([first[0], left, last[0], right])
    view = tf.image.crop_and_resize(image[tf.newaxis], corners[tf.newaxis], [0], [side_px, side_px],
                                    extrapolation_value=GREY)
    return tf.ensure_shape(view[0], [side_px, side_px, 3])


def _recolor(view, chance, strength: float):
    """Saturation, contrast and brightness times 1 +- 0.5 strength, one tint."""
    factors = 1.0 + strength * (chance - 0.5)
    gray = tf.reduce_mean(view, -1, keepdims=True)
    view = gray + (view - gray) * factors[0]
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


# From TFRecords to what the network trains and is validated on.

# Every model takes RGB scaled as (x - 127.5) / 127.5: what the Lite weights expect, and what makes
# the uint8 input of the shipped file the raw pixel.
PIXEL_CENTRE = 127.5


def normalize_pixels(pixels):
    """RGB 0..255 of any shape to float32 -1..1."""
    return (tf.cast(pixels, tf.float32) - PIXEL_CENTRE) / PIXEL_CENTRE


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
        """Dict of one image; `groundtruth_is_crowd` marks crowds, groups and, in evaluation,
        difficult boxes."""
        data = super().decode(serialized_example)
        flags = tf.io.parse_single_example(
            serialized_example, {key: tf.io.VarLenFeature(tf.int64) for key in self._crowd_keys}
        )
        for key in self._crowd_keys:
            flag = tf.cast(tf.sparse.to_dense(flags[key]), tf.bool)
            data["groundtruth_is_crowd"] = tf.logical_or(data["groundtruth_is_crowd"], flag)
        return data


def training_store(params, side_px: int) -> Store:
    """The training images of `task.train_data`; groups and crowds are no examples and are left out.
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
    # Made large enough that the view which is enlarged most still has a pixel for each of its own.
    return open_store(files, decode, round(side_px * max(1.0, min(params.parser.aug_scale_max, 1.25))), params.cache)


def training_dataset(params, side_px: int, first_step: int, input_context=None):
    """Batches from step `first_step` on, without end: (float32 [batch, side, side, 3] in -1..1,
    labels).

    With several devices these are the shares of a machine's devices, one after another.

    Labels: `boxes_px` [batch, boxes, 4] (yxyx in pixels of the input), `classes` int32 [batch,
    boxes] (0: padding) and `image` int64 [batch] (its number in the records). Step, seed and batch
    size alone decide what a batch holds.
    """
    store, parser = training_store(params, side_px), params.parser
    strength = Strength(parser.aug_rand_hflip, parser.aug_scale_min, parser.aug_scale_max, parser.aug_aspect,
                        parser.aug_color)
    workers = input_context.num_input_pipelines if input_context else 1
    worker = input_context.input_pipeline_id if input_context else 0
    share = params.global_batch_size // workers
    replica_share = params.global_batch_size // (input_context.num_replicas_in_sync if input_context else 1)

    def example(count):
        position = count // share * params.global_batch_size + worker * share + count % share
        index = image_index(position, store.images, params.seed)
        key = random_key(position, params.seed)
        chance = tf.random.stateless_uniform([4], key + 1)

        def one():
            return augment(*store.image(index), key, side_px, strength)

        def four():
            others = tf.cast(chance[1:] * float(store.images), tf.int64)
            return mosaic([augment(*store.image(number), key + [extra, 0], side_px // 2, strength)
                           for extra, number in enumerate([index, *tf.unstack(others)])])

        view, boxes_px, classes = tf.cond(chance[0] < parser.aug_mosaic, four, one) if parser.aug_mosaic else one()
        return normalize_pixels(view), {"boxes_px": boxes_px, "classes": classes, "image": index}

    shapes = ([side_px, side_px, 3], {"boxes_px": [None, 4], "classes": [None], "image": []})
    dataset = tf.data.Dataset.range(first_step * share, tf.int64.max)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(replica_share, shapes, drop_remainder=True).prefetch(2)


class DetectorParser(retinanet_input.Parser):
    """Model Garden's parser for validation, with our normalization and the boxes that our loss
    needs."""

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
    """((x / 255 - mean) / deviation) to x / 127.5 - 1; the library's evaluation half hard-codes the
    former."""
    mean = tf.constant(preprocess_ops.MEAN_RGB, image.dtype) / 255.0
    deviation = tf.constant(preprocess_ops.STDDEV_RGB, image.dtype) / 255.0
    return (image * deviation + mean) * 2.0 - 1.0

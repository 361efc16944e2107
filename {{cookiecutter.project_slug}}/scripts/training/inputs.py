"""From TFRecords to what the network trains and is validated on."""

import tensorflow as tf
from official.vision.dataloaders import retinanet_input, tf_example_decoder
from official.vision.ops import preprocess_ops

from scripts.training.augment import Strength, augment, mosaic
from scripts.training.order import picture_index, random_key
from scripts.training.pixels import decode_picture
from scripts.training.store import Store, open_store

# Every model takes RGB scaled as (x - 127.5) / 127.5: what the Lite weights expect, and what makes the uint8 input of
# the shipped file the raw pixel.
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
        return decode_picture(parsed_tensors["image/encoded"])

    def decode(self, serialized_example):
        """Dict of one picture; `groundtruth_is_crowd` marks crowds, groups and, in evaluation, difficult boxes."""
        data = super().decode(serialized_example)
        flags = tf.io.parse_single_example(
            serialized_example, {key: tf.io.VarLenFeature(tf.int64) for key in self._crowd_keys}
        )
        for key in self._crowd_keys:
            flag = tf.cast(tf.sparse.to_dense(flags[key]), tf.bool)
            data["groundtruth_is_crowd"] = tf.logical_or(data["groundtruth_is_crowd"], flag)
        return data


def training_store(params, side_px: int) -> Store:
    """The training pictures of `task.train_data`; groups and crowds are no examples and are left out."""
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
    """Batches from step `first_step` on, without end: (float32 [batch, side, side, 3] in -1..1, labels).

    With several devices these are the shares of a machine's devices, one after another.

    Labels: `boxes_px` [batch, boxes, 4] (yxyx in pixels of the input), `classes` int32 [batch, boxes] (0: padding) and
    `picture` int64 [batch] (its number in the records). Step, seed and batch size alone decide what a batch holds.
    """
    store, parser = training_store(params, side_px), params.parser
    strength = Strength(parser.aug_rand_hflip, parser.aug_scale_min, parser.aug_scale_max, parser.aug_aspect,
                        parser.aug_colour)
    workers = input_context.num_input_pipelines if input_context else 1
    worker = input_context.input_pipeline_id if input_context else 0
    share = params.global_batch_size // workers
    replica_share = params.global_batch_size // (input_context.num_replicas_in_sync if input_context else 1)

    def example(count):
        position = count // share * params.global_batch_size + worker * share + count % share
        index = picture_index(position, store.pictures, params.seed)
        key = random_key(position, params.seed)
        chance = tf.random.stateless_uniform([4], key + 1)

        def one():
            return augment(*store.picture(index), key, side_px, strength)

        def four():
            others = tf.cast(chance[1:] * float(store.pictures), tf.int64)
            return mosaic([augment(*store.picture(number), key + [extra, 0], side_px // 2, strength)
                           for extra, number in enumerate([index, *tf.unstack(others)])])

        view, boxes_px, classes = tf.cond(chance[0] < parser.aug_mosaic, four, one) if parser.aug_mosaic else one()
        return normalize_pixels(view), {"boxes_px": boxes_px, "classes": classes, "picture": index}

    shapes = ([side_px, side_px, 3], {"boxes_px": [None, 4], "classes": [None], "picture": []})
    dataset = tf.data.Dataset.range(first_step * share, tf.int64.max)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.padded_batch(replica_share, shapes, drop_remainder=True).prefetch(2)


class DetectorParser(retinanet_input.Parser):
    """Model Garden's parser for validation, with our normalisation and the boxes that our loss needs."""

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
    """((x / 255 - mean) / deviation) to x / 127.5 - 1; the library's evaluation half hard-codes the former."""
    mean = tf.constant(preprocess_ops.MEAN_RGB, image.dtype) / 255.0
    deviation = tf.constant(preprocess_ops.STDDEV_RGB, image.dtype) / 255.0
    return (image * deviation + mean) * 2.0 - 1.0

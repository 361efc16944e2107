"""From a TFRecord to what the network trains on: decoding, augmentation, normalisation and anchor targets."""

import tensorflow as tf
from official.vision.dataloaders import retinanet_input, tf_example_decoder
from official.vision.ops import anchor, box_ops, preprocess_ops

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


class DetectorParser(retinanet_input.Parser):
    """Model Garden's parser with our normalisation and a training half that works on the small picture only.

    The library normalises and flips the picture at its stored size before it resizes; all three commute, so resizing
    first gives the same numbers for a fraction of the time.
    """

    def __init__(self, output_size, *args, **kwargs):
        super().__init__(output_size, *args, **kwargs)
        self._anchors = anchor.build_anchor_generator(
            self._min_level, self._max_level, self._num_scales, self._aspect_ratios, self._anchor_size
        )(tuple(output_size))
        self._labeler = anchor.AnchorLabeler(self._match_threshold, self._unmatched_threshold,
                                             self._box_coder_weights)

    def _parse_train_data(self, data, anchor_labeler=None, input_anchor=None):
        boxes, classes = data["groundtruth_boxes"], data["groundtruth_classes"]
        if self._skip_crowd_during_training:
            kept = tf.logical_not(data["groundtruth_is_crowd"])
            boxes, classes = tf.boolean_mask(boxes, kept), tf.boolean_mask(classes, kept)
        image, boxes = self._resize_and_crop(data["image"], boxes)
        if self._aug_rand_hflip:
            image, boxes = _flip_at_random(image, boxes, self._output_size[1])
        indices = box_ops.get_non_empty_box_indices(boxes)
        boxes, classes = tf.gather(boxes, indices), tf.gather(classes, indices)
        return tf.cast(image, self._dtype), self._targets(boxes, classes)

    def _resize_and_crop(self, image, boxes):
        """The picture stretched to a random scale of the input, cut or filled up with grey; boxes in its pixels."""
        height, width = self._output_size
        scale = tf.random.uniform([], self._aug_scale_min, self._aug_scale_max)
        scaled = tf.round(scale * tf.constant([height, width], tf.float32))
        room = tf.maximum(scaled - [height, width], 0.0)
        offset = tf.floor(room * tf.random.uniform([2]))
        top, left = tf.cast(offset[0], tf.int32), tf.cast(offset[1], tf.int32)
        image = tf.image.resize(image, tf.cast(scaled, tf.int32), method="bilinear", antialias=False)
        image = normalize_pixels(image[top:top + height, left:left + width])
        image = tf.image.pad_to_bounding_box(image, 0, 0, height, width)
        boxes = boxes * tf.tile(scaled, [2]) - tf.tile(offset, [2])
        limit = tf.constant([height, width, height, width], tf.float32)
        return tf.ensure_shape(image, [height, width, 3]), tf.clip_by_value(boxes, 0.0, limit)

    def _targets(self, boxes, classes):
        """Labels of one picture: per level, class and box targets and weights of each anchor."""
        cls_targets, box_targets, _, cls_weights, box_weights = self._labeler.label_anchors(
            self._anchors, boxes, tf.expand_dims(classes, axis=1), {})
        return {"cls_targets": cls_targets, "box_targets": box_targets,
                "cls_weights": cls_weights, "box_weights": box_weights}

    def _parse_eval_data(self, data, anchor_labeler=None, input_anchor=None):
        image, labels = super()._parse_eval_data(data, anchor_labeler, input_anchor)
        return _from_imagenet_normalization(image), labels


def _flip_at_random(image, boxes, width_px: int):
    """Mirrors half of the pictures; `boxes` are yxyx in pixels of the picture."""
    flip = tf.random.uniform([]) < 0.5
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
    mirrored = tf.stack([ymin, width_px - xmax, ymax, width_px - xmin], axis=1)
    return tf.where(flip, image[:, ::-1], image), tf.where(flip, mirrored, boxes)


def _from_imagenet_normalization(image):
    """((x / 255 - mean) / deviation) to x / 127.5 - 1; the library's evaluation half hard-codes the former."""
    mean = tf.constant(preprocess_ops.MEAN_RGB, image.dtype) / 255.0
    deviation = tf.constant(preprocess_ops.STDDEV_RGB, image.dtype) / 255.0
    return (image * deviation + mean) * 2.0 - 1.0

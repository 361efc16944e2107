"""The task that Model Garden trains: its RetinaNet with our backbone, input and crowd rule.

Importing this module registers the experiment type `detector`.
"""

import dataclasses

import tensorflow as tf
from official.common import dataset_fn
from official.core import config_definitions, exp_factory, task_factory
from official.vision.configs import retinanet as retinanet_cfg
from official.vision.dataloaders import input_reader, input_reader_factory, retinanet_input, tf_example_decoder
from official.vision.ops import preprocess_ops
from official.vision.tasks import retinanet

from scripts.training import backbone as backbone_module

# Every model takes RGB scaled as (x - 127.5) / 127.5: what the Lite weights expect, and what makes the uint8 input of
# the shipped file the raw pixel.
PIXEL_CENTRE = 127.5


@dataclasses.dataclass
class DetectorModel(retinanet_cfg.RetinaNet):
    """Model Garden's RetinaNet whose backbone may be ours."""

    backbone: backbone_module.Backbone = dataclasses.field(default_factory=backbone_module.Backbone)


@dataclasses.dataclass
class DetectorTaskConfig(retinanet_cfg.RetinaNetTask):
    """`task` of `training/experiment.yaml`."""

    model: DetectorModel = dataclasses.field(default_factory=DetectorModel)


@exp_factory.register_config_factory("detector")
def detector_experiment() -> config_definitions.ExperimentConfig:
    """The empty experiment that `configure` fills."""
    return config_definitions.ExperimentConfig(task=DetectorTaskConfig())


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
    """Model Garden's parser with our normalisation; resizing is linear, so it may follow the library's own."""

    def _parse_train_data(self, data, anchor_labeler=None, input_anchor=None):
        image, labels = super()._parse_train_data(data, anchor_labeler, input_anchor)
        return _from_imagenet_normalization(image), labels

    def _parse_eval_data(self, data, anchor_labeler=None, input_anchor=None):
        image, labels = super()._parse_eval_data(data, anchor_labeler, input_anchor)
        return _from_imagenet_normalization(image), labels


def _from_imagenet_normalization(image):
    """((x / 255 - mean) / deviation) to x / 127.5 - 1; the parser hard-codes the former."""
    mean = tf.constant(preprocess_ops.MEAN_RGB, image.dtype) / 255.0
    deviation = tf.constant(preprocess_ops.STDDEV_RGB, image.dtype) / 255.0
    return (image * deviation + mean) * 2.0 - 1.0


@task_factory.register_task_cls(DetectorTaskConfig)
class DetectorTask(retinanet.RetinaNetTask):
    """Training and validation steps of a detector; losses and metrics are Model Garden's."""

    def build_inputs(self, params, input_context=None):
        """Batches of (float32 [batch, size, size, 3] in -1..1, labels); pictures are stretched to the input size."""
        decoder = DetectorDecoder(difficult_is_crowd=not params.is_training)
        parser = self._parser(params)
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=dataset_fn.pick_dataset_fn(params.file_type),
            decoder_fn=decoder.decode,
            combine_fn=input_reader.create_combine_fn(params),
            parser_fn=parser.parse_fn(params.is_training),
        )
        return reader.read(input_context=input_context)

    def _parser(self, params):
        model, parser = self.task_config.model, params.parser
        return DetectorParser(
            output_size=model.input_size[:2],
            min_level=model.min_level,
            max_level=model.max_level,
            num_scales=model.anchor.num_scales,
            aspect_ratios=model.anchor.aspect_ratios,
            anchor_size=model.anchor.anchor_size,
            dtype=params.dtype,
            match_threshold=parser.match_threshold,
            unmatched_threshold=parser.unmatched_threshold,
            box_coder_weights=model.detection_generator.box_coder_weights,
            aug_type=parser.aug_type,
            aug_rand_hflip=parser.aug_rand_hflip,
            aug_rand_jpeg=parser.aug_rand_jpeg,
            aug_scale_min=parser.aug_scale_min,
            aug_scale_max=parser.aug_scale_max,
            skip_crowd_during_training=parser.skip_crowd_during_training,
            max_num_instances=parser.max_num_instances,
            pad=parser.pad,
            keep_aspect_ratio=parser.keep_aspect_ratio,
        )

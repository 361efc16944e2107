"""The task that Model Garden trains: its RetinaNet with another backbone, input, matching and loss.

Importing this module registers the task and the experiment `detector` with Model Garden.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tf_keras
from official.common import dataset_fn
from official.core import config_definitions, exp_factory, task_factory
from official.vision.configs import retinanet as retinanet_cfg
from official.vision.dataloaders import input_reader, input_reader_factory
from official.vision.ops import anchor
from official.vision.tasks import retinanet

from scripts.modeling import backbone as backbone_module
from scripts.modeling.hooks import KeptEvaluator, NormNoting, exact_averages, quick_gradients
from scripts.modeling.weights import restore
from scripts.training.inputs import DetectorDecoder, DetectorParser, training_dataset
from scripts.training.losses import (
    check_loss,
    complete_iou_loss,
    decode_boxes,
    quality_focal_loss,
    task_aligned,
)

GRADIENT_NORM = "training/gradient_norm"


@dataclasses.dataclass
class DetectorModel(retinanet_cfg.RetinaNet):
    """Model Garden's RetinaNet with one more kind of backbone."""

    backbone: backbone_module.Backbone = dataclasses.field(default_factory=backbone_module.Backbone)


@dataclasses.dataclass
class DetectorLosses(retinanet_cfg.Losses):
    """`task.losses`: task-aligned matching (`match_*`), quality focal loss and complete IoU loss.

    Attributes:
        match_candidates: Most anchors that learn one box. They are ranked by score **
            match_score_power * IoU ** match_iou_power.
        box_loss_weight: Weight of the box loss; that of the class loss is 1.
    """

    match_candidates: int = 10
    match_score_power: float = 1.0
    match_iou_power: float = 6.0
    quality_focal_gamma: float = 2.0
    box_loss_weight: float = 2.0


@dataclasses.dataclass
class DetectorAugmentation(retinanet_cfg.Parser):
    """`task.train_data.parser`; `scripts/training/augmentation.py` says what the values mean."""

    aug_aspect: float = 1.0
    aug_color: float = 0.0
    aug_mosaic: float = 0.0


@dataclasses.dataclass
class DetectorData(retinanet_cfg.DataConfig):
    """`task.train_data` and `task.validation_data`."""

    parser: DetectorAugmentation = dataclasses.field(default_factory=DetectorAugmentation)


@dataclasses.dataclass
class DetectorTaskConfig(retinanet_cfg.RetinaNetTask):
    """`task` of `training/experiment.yaml`."""

    model: DetectorModel = dataclasses.field(default_factory=DetectorModel)
    losses: DetectorLosses = dataclasses.field(default_factory=DetectorLosses)
    train_data: DetectorData = dataclasses.field(
        default_factory=lambda: DetectorData(is_training=True))
    validation_data: DetectorData = dataclasses.field(default_factory=DetectorData)


@exp_factory.register_config_factory("detector")
def detector_experiment() -> config_definitions.ExperimentConfig:
    """Return the empty experiment, which `invoke configure` fills."""
    return config_definitions.ExperimentConfig(task=DetectorTaskConfig())


def anchors_yxyx_px(model: DetectorModel):
    """Return the anchors of all levels in the order of the head's outputs.

    float32 [anchors, 4], yxyx in pixels of the input.
    """
    anchors = model.anchor
    generator = anchor.build_anchor_generator(
        model.min_level, model.max_level, anchors.num_scales, anchors.aspect_ratios,
        anchors.anchor_size)
    levels = generator(tuple(model.input_size[:2]))
    return tf.concat([tf.reshape(levels[level], [-1, 4]) for level in sorted(levels)], 0)


@task_factory.register_task_cls(DetectorTaskConfig)
class DetectorTask(retinanet.RetinaNetTask):
    """Training and validation steps of a detector; the metrics are Model Garden's.

    `coco_metric.evaluation` is pycocotools' `COCOeval` after a validation.

    Args:
        first_step: The step from which training continues. Its batches are the same whenever
            training starts there.
        agreed: Gives the figures of the first machine to all of them.
    """

    def __init__(self, params, logging_dir=None, name=None, first_step: int = 0,
                 agreed: Callable[[list[float]], list[float]] = list):
        super().__init__(params, logging_dir=logging_dir, name=name)
        self.first_step, self.agreed = first_step, agreed

    @classmethod
    def create_optimizer(cls, *configs, **options):
        """Return Model Garden's optimizer with exact moving averages."""
        return exact_averages(super().create_optimizer(*configs, **options))

    def initialize(self, model):
        """Set the parts of the network that the pre-trained weights hold.

        That is the backbone; of COCO weights also the decoder and most of the head.
        """
        config = self.task_config
        if config.init_checkpoint:
            restore(model, config.init_checkpoint, config.init_checkpoint_modules)

    def build_inputs(self, params, input_context=None):
        """Return batches of (float32 [batch, side, side, 3] in -1..1, labels).

        Images are stretched to the input size.
        """
        if params.is_training:
            side_px = self.task_config.model.input_size[0]
            return training_dataset(params, side_px, self.first_step, input_context)
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=dataset_fn.pick_dataset_fn(params.file_type),
            decoder_fn=DetectorDecoder(difficult_is_crowd=True).decode,
            combine_fn=input_reader.create_combine_fn(params),
            parser_fn=self._validation_parser(params).parse_fn(False),
        )
        # Every machine validates on all images: with a share each, every one had another AP.
        return reader.read(input_context=None)

    def build_metrics(self, training=True):
        """Return Model Garden's metrics; in training also the gradient's norm before clipping."""
        metrics = super().build_metrics(training)
        if training:
            return [*metrics, tf_keras.metrics.Mean(GRADIENT_NORM)]
        config = self.task_config
        self.coco_metric = KeptEvaluator(config.annotation_file, config.max_num_eval_detections)
        return metrics

    def train_step(self, inputs, model, optimizer, metrics=None):
        """Make one step; fail when its loss is not a number or beyond reason."""
        losses = [metric for metric in metrics or [] if metric.name != GRADIENT_NORM]
        for norm in (metric for metric in metrics or [] if metric.name == GRADIENT_NORM):
            optimizer = NormNoting(optimizer, norm)
        with quick_gradients(model):
            logs = super().train_step(inputs, model, optimizer, losses)
        check_loss(logs[self.loss], inputs[1]["image"])
        return logs

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        """Return the metrics of a validation; all machines take those of the first one."""
        logs = super().reduce_aggregated_logs(aggregated_logs, global_step)
        return dict(zip(logs, self.agreed([float(value) for value in logs.values()]), strict=True))

    def build_losses(self, outputs, labels, aux_losses=None):
        """Return the (total, class, box, model) loss of a batch, scalars.

        Each is divided by how much the anchors of the batch are to learn.
        """
        params, model = self.task_config.losses, self.task_config.model
        # Column 0 is Model Garden's background, which this loss does not use.
        logits = self._flat(outputs["cls_outputs"], model.num_classes)[..., 1:]
        anchors = anchors_yxyx_px(model)
        boxes = decode_boxes(self._flat(outputs["box_outputs"], 4), anchors)
        matches = tf.nest.map_structure(tf.stop_gradient, task_aligned(
            tf.sigmoid(logits), boxes, anchors, labels["boxes_px"], labels["classes"],
            params.match_candidates, params.match_score_power, params.match_iou_power))
        learned = tf.maximum(self._mean_over_replicas(tf.reduce_sum(matches.weights)), 1.0)
        class_loss = quality_focal_loss(logits, matches.scores, params.quality_focal_gamma)
        class_loss /= learned
        box_losses = complete_iou_loss(boxes, matches.boxes_px) * matches.weights
        box_loss = tf.reduce_sum(box_losses) / learned
        model_loss = class_loss + params.box_loss_weight * box_loss
        added = tf.add_n(aux_losses) if aux_losses else 0.0
        return params.loss_weight * (model_loss + added), class_loss, box_loss, model_loss

    @staticmethod
    def _flat(levels, depth: int):
        """Join the maps of all levels to [batch, anchors, depth]."""
        return tf.concat([tf.reshape(levels[level], [tf.shape(levels[level])[0], -1, depth])
                          for level in sorted(levels)], 1)

    @staticmethod
    def _mean_over_replicas(value):
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return value
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)

    def _validation_parser(self, params):
        model, parser = self.task_config.model, params.parser
        return DetectorParser(
            output_size=model.input_size[:2],
            min_level=model.min_level,
            max_level=model.max_level,
            num_scales=model.anchor.num_scales,
            aspect_ratios=model.anchor.aspect_ratios,
            anchor_size=model.anchor.anchor_size,
            dtype=params.dtype,
            max_num_instances=parser.max_num_instances,
            pad=parser.pad,
            keep_aspect_ratio=parser.keep_aspect_ratio,
        )

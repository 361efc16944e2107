"""The task that Model Garden trains: its RetinaNet with our backbone, input, matching and losses.

Importing this module registers the experiment type `detector`.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tf_keras
from official.common import dataset_fn
from official.core import config_definitions, exp_factory, task_factory
from official.modeling import optimization
from official.vision.configs import retinanet as retinanet_cfg
from official.vision.dataloaders import input_reader, input_reader_factory
from official.vision.ops import anchor
from official.vision.tasks import retinanet

from scripts.training import backbone as backbone_module
from scripts.training.averages import ExactAverages
from scripts.training.checkpoint_file import restore
from scripts.training.depthwise import quick_gradients
from scripts.training.evaluator import KeptEvaluator
from scripts.training.gradient import NormNoting
from scripts.training.inputs import DetectorDecoder, DetectorParser, training_dataset
from scripts.training.losses import complete_iou_loss, decode_boxes, quality_focal_loss
from scripts.training.matching import task_aligned
from scripts.training.trouble import refuse_explosion

GRADIENT_NORM = "training/gradient_norm"


@dataclasses.dataclass
class DetectorModel(retinanet_cfg.RetinaNet):
    """Model Garden's RetinaNet whose backbone may be ours."""

    backbone: backbone_module.Backbone = dataclasses.field(default_factory=backbone_module.Backbone)


@dataclasses.dataclass
class DetectorLosses(retinanet_cfg.Losses):
    """`task.losses`: task-aligned matching (`match_*`), quality focal loss and complete IoU loss.

    `match_candidates`: most anchors that learn one box; a candidate's rank is score ** match_score_power * IoU **
    match_iou_power. `box_loss_weight` stands against a class loss of weight 1.
    """

    match_candidates: int = 10
    match_score_power: float = 1.0
    match_iou_power: float = 6.0
    quality_focal_gamma: float = 2.0
    box_loss_weight: float = 2.0


@dataclasses.dataclass
class DetectorAugmentation(retinanet_cfg.Parser):
    """`task.train_data.parser`: see `scripts/training/augment.py` for those that are ours."""

    aug_aspect: float = 1.0
    aug_colour: float = 0.0
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
    train_data: DetectorData = dataclasses.field(default_factory=lambda: DetectorData(is_training=True))
    validation_data: DetectorData = dataclasses.field(default_factory=DetectorData)


@exp_factory.register_config_factory("detector")
def detector_experiment() -> config_definitions.ExperimentConfig:
    """The empty experiment that `configure` fills."""
    return config_definitions.ExperimentConfig(task=DetectorTaskConfig())


def anchors_yxyx_px(model: DetectorModel):
    """Anchors of all levels, float32 [anchors, 4], yxyx in pixels of the input, in the order of the head's outputs."""
    generator = anchor.build_anchor_generator(model.min_level, model.max_level, model.anchor.num_scales,
                                              model.anchor.aspect_ratios, model.anchor.anchor_size)
    levels = generator(tuple(model.input_size[:2]))
    return tf.concat([tf.reshape(levels[level], [-1, 4]) for level in sorted(levels)], 0)


@task_factory.register_task_cls(DetectorTaskConfig)
class DetectorTask(retinanet.RetinaNetTask):
    """Training and validation steps of a detector; metrics are Model Garden's.

    `first_step` is the step from which training goes on: its batches are the same whenever it starts there. `agreed`
    gives the first machine's figures to all. `coco_metric.evaluation` is, after a validation, pycocotools' `COCOeval`.
    """

    def __init__(self, params, logging_dir=None, name=None, first_step: int = 0,
                 agreed: Callable[[list[float]], list[float]] = list):
        super().__init__(params, logging_dir=logging_dir, name=name)
        self.first_step, self.agreed = first_step, agreed

    @classmethod
    def create_optimizer(cls, *configs, **options):
        """Model Garden's optimizer; see `ExactAverages`."""
        optimizer = super().create_optimizer(*configs, **options)
        if isinstance(optimizer, optimization.ExponentialMovingAverage):
            optimizer.__class__ = ExactAverages  # Its factory knows no other class.
        return optimizer

    def initialize(self, model):
        """Sets what the pre-trained weights hold: the backbone, of COCO weights also decoder and most of the head."""
        if self.task_config.init_checkpoint:
            restore(model, self.task_config.init_checkpoint, self.task_config.init_checkpoint_modules)

    def build_inputs(self, params, input_context=None):
        """Batches of (float32 [batch, side, side, 3] in -1..1, labels); pictures are stretched to the input size."""
        if params.is_training:
            return training_dataset(params, self.task_config.model.input_size[0], self.first_step, input_context)
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=dataset_fn.pick_dataset_fn(params.file_type),
            decoder_fn=DetectorDecoder(difficult_is_crowd=True).decode,
            combine_fn=input_reader.create_combine_fn(params),
            parser_fn=self._validation_parser(params).parse_fn(False),
        )
        # Every machine validates on the whole split: a share each would give each another AP.
        return reader.read(input_context=None)

    def build_metrics(self, training=True):
        """Model Garden's metrics; of training also the norm of the gradient, as it is before it is clipped."""
        metrics = super().build_metrics(training)
        if training:
            return [*metrics, tf_keras.metrics.Mean(GRADIENT_NORM)]
        self.coco_metric = KeptEvaluator(self.task_config.annotation_file, self.task_config.max_num_eval_detections)
        return metrics

    def train_step(self, inputs, model, optimizer, metrics=None):
        """One step; fails, naming the pictures, when the loss is not a number or beyond reason."""
        losses = [metric for metric in metrics or [] if metric.name != GRADIENT_NORM]
        for norm in (metric for metric in metrics or [] if metric.name == GRADIENT_NORM):
            optimizer = NormNoting(optimizer, norm)
        with quick_gradients(model):
            logs = super().train_step(inputs, model, optimizer, losses)
        refuse_explosion(logs[self.loss], inputs[1]["picture"])
        return logs

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        """The metrics of a validation; all machines go by those of the first one."""
        logs = super().reduce_aggregated_logs(aggregated_logs, global_step)
        return dict(zip(logs, self.agreed([float(value) for value in logs.values()]), strict=True))

    def build_losses(self, outputs, labels, aux_losses=None):
        """(total, class, box, model) loss of a batch, each divided by how much its anchors are to learn."""
        params = self.task_config.losses
        logits = self._flat(outputs["cls_outputs"], self.task_config.model.num_classes)[..., 1:]
        anchors = anchors_yxyx_px(self.task_config.model)
        boxes = decode_boxes(self._flat(outputs["box_outputs"], 4), anchors)
        matches = tf.nest.map_structure(tf.stop_gradient, task_aligned(
            tf.sigmoid(logits), boxes, anchors, labels["boxes_px"], labels["classes"], params.match_candidates,
            params.match_score_power, params.match_iou_power))
        learned = tf.maximum(self._mean_over_replicas(tf.reduce_sum(matches.weights)), 1.0)
        class_loss = quality_focal_loss(logits, matches.scores, params.quality_focal_gamma) / learned
        box_loss = tf.reduce_sum(complete_iou_loss(boxes, matches.boxes_px) * matches.weights) / learned
        model_loss = class_loss + params.box_loss_weight * box_loss
        total_loss = params.loss_weight * (model_loss + (tf.add_n(aux_losses) if aux_losses else 0.0))
        return total_loss, class_loss, box_loss, model_loss

    @staticmethod
    def _flat(levels, depth: int):
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

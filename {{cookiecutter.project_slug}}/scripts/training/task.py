"""Which anchor learns which ground-truth box.

Everything is computed in the training step, for the whole batch, from boxes padded with class 0.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.common import dataset_fn
from official.core import config_definitions, exp_factory, task_factory
from official.modeling import optimization
from official.vision.configs import retinanet as retinanet_cfg
from official.vision.dataloaders import input_reader, input_reader_factory
from official.vision.ops import anchor
from official.vision.tasks import retinanet

from scripts.modeling import backbone as backbone_module
from scripts.modeling.hooks import ExactAverages, KeptEvaluator, NormNoting, quick_gradients
from scripts.modeling.weight_files import restore
from scripts.training.failures import check_loss
from scripts.training.inputs import DetectorDecoder, DetectorParser, training_dataset

TINY = 1e-9


class Matches(NamedTuple):
    """For each anchor: `boxes_px` [batch, anchors, 4] (yxyx), `scores` [batch, anchors, classes]
    that the anchor should give (0..1), `weights` [batch, anchors] of its box loss (0: background).
    """

    boxes_px: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor


def task_aligned(scores, boxes_px, anchors_px, truth_px, classes, candidates: int, score_power: float,
                 iou_power: float) -> Matches:
    """Task-aligned matching: each box takes the anchors inside it that already do best at class and
    place together.

    `scores` [batch, anchors, classes] 0..1 and `boxes_px` [batch, anchors, 4] are predictions,
    `anchors_px` [anchors, 4]; `truth_px` [batch, boxes, 4]; `classes` int [batch, boxes] from 1, 0
    is padding; all boxes yxyx in pixels of the input. An anchor wanted by two boxes goes to the one
    it overlaps more. Source: Feng et al. 2021, TOOD, https://arxiv.org/abs/2108.07755, section 3.2.
    """
    # One more box of padding: a batch may have no box at all.
    truth_px, classes = tf.pad(truth_px, [[0, 0], [0, 1], [0, 0]]), tf.pad(classes, [[0, 0], [0, 1]])
    truth_count = tf.shape(truth_px)[1]
    iou = pairwise_iou(truth_px, boxes_px)
    by_class = tf.gather(tf.transpose(scores, [0, 2, 1]), tf.maximum(classes - 1, 0), batch_dims=1)
    alignment = by_class ** score_power * tf.maximum(iou, 0.01) ** iou_power
    alignment *= tf.cast(allowed_anchors(anchors_px, truth_px, classes), tf.float32)
    best = tf.math.top_k(alignment, tf.minimum(candidates, tf.shape(anchors_px)[0])).values[..., -1:]
    chosen = (alignment >= best) & (alignment > 0.0)
    owner = tf.argmax(tf.where(chosen, iou + 1.0, 0.0), axis=1)
    owned = tf.transpose(tf.one_hot(owner, truth_count, dtype=tf.float32), [0, 2, 1]) * tf.cast(chosen, tf.float32)
    scale = _highest(iou * owned) / tf.maximum(_highest(alignment * owned), TINY)
    weights = tf.reduce_sum(alignment * owned * scale, axis=1)
    wanted = tf.one_hot(tf.gather(classes, owner, batch_dims=1) - 1, tf.shape(scores)[-1])
    return Matches(tf.gather(truth_px, owner, batch_dims=1), wanted * weights[..., tf.newaxis], weights)


def allowed_anchors(anchors_px, truth_px, classes):
    """Whether an anchor's center lies in a box: bool [batch, boxes, anchors]; of a box without any,
    the nearest."""
    centers = (anchors_px[:, :2] + anchors_px[:, 2:]) / 2.0
    low, high = truth_px[:, :, tf.newaxis, :2], truth_px[:, :, tf.newaxis, 2:]
    inside = tf.reduce_all((centers > low) & (centers < high), -1)
    distance = tf.reduce_sum(tf.square(centers - (low + high) / 2.0), -1)
    nearest = distance <= tf.reduce_min(distance, -1, keepdims=True)
    some = tf.reduce_any(inside, -1, keepdims=True)
    return tf.where(some, inside, nearest) & (classes > 0)[..., tf.newaxis]


def pairwise_iou(one_px, other_px):
    """IoU of all pairs: [batch, n, 4] and [batch, m, 4] (yxyx) to [batch, n, m]."""
    one, other = one_px[:, :, tf.newaxis], other_px[:, tf.newaxis]
    sides = tf.maximum(tf.minimum(one[..., 2:], other[..., 2:]) - tf.maximum(one[..., :2], other[..., :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / tf.maximum(_area(one) + _area(other) - shared, TINY)


def _area(yxyx):
    return (yxyx[..., 2] - yxyx[..., 0]) * (yxyx[..., 3] - yxyx[..., 1])


def _highest(values):
    return tf.reduce_max(values, axis=-1, keepdims=True)


# What a training step minimizes: quality of class scores and overlap of boxes.

# Largest exponent of a decoded side: a box 64 times its anchor.
MAX_LOG_SIZE = math.log(64.0)


def decode_boxes(encoded, anchors_px):
    """Boxes yxyx in pixels of [.., anchors, 4] (ty, tx, th, tw): the code of
    TFLite_Detection_PostProcess, scale 1."""
    sizes = anchors_px[:, 2:] - anchors_px[:, :2]
    centers = anchors_px[:, :2] + sizes / 2.0 + encoded[..., :2] * sizes
    halves = tf.exp(tf.minimum(encoded[..., 2:], MAX_LOG_SIZE)) * sizes / 2.0
    return tf.concat([centers - halves, centers + halves], -1)


def quality_focal_loss(logits, wanted, gamma: float):
    """Sum of the cross entropy with targets 0..1, each weighted by its distance to the target to
    the power of `gamma`.

    Source: Li et al. 2020, Generalized Focal Loss, https://arxiv.org/abs/2006.04388, equation 2.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits)
    return tf.reduce_sum(entropy * tf.abs(wanted - tf.sigmoid(logits)) ** gamma)


def complete_iou_loss(boxes_px, truth_px):
    """1 - CIoU of pairs of boxes yxyx [.., 4]: overlap, distance of the centers and shape.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equations 9 to 12.
    """
    sides = boxes_px[..., 2:] - boxes_px[..., :2]
    truth_sides = truth_px[..., 2:] - truth_px[..., :2]
    shared = tf.reduce_prod(tf.maximum(
        tf.minimum(boxes_px[..., 2:], truth_px[..., 2:]) - tf.maximum(boxes_px[..., :2], truth_px[..., :2]), 0.0), -1)
    union = tf.reduce_prod(sides, -1) + tf.reduce_prod(truth_sides, -1) - shared
    iou = shared / tf.maximum(union, TINY)
    hull = tf.maximum(boxes_px[..., 2:], truth_px[..., 2:]) - tf.minimum(boxes_px[..., :2], truth_px[..., :2])
    between = (boxes_px[..., 2:] + boxes_px[..., :2] - truth_px[..., 2:] - truth_px[..., :2]) / 2.0
    distance = _squares(between) / tf.maximum(_squares(hull), TINY)
    angle = tf.atan2(truth_sides[..., 1], truth_sides[..., 0] + TINY) - tf.atan2(sides[..., 1], sides[..., 0] + TINY)
    shape = 4.0 / math.pi**2 * tf.square(angle)
    share = tf.stop_gradient(shape / (1.0 - iou + shape + TINY))
    return 1.0 - iou + distance + share * shape


def _squares(yx):
    return tf.reduce_sum(tf.square(yx), -1)


# The task that Model Garden trains: its RetinaNet with our backbone, input, matching and losses.

GRADIENT_NORM = "training/gradient_norm"


@dataclasses.dataclass
class DetectorModel(retinanet_cfg.RetinaNet):
    """Model Garden's RetinaNet whose backbone may be ours."""

    backbone: backbone_module.Backbone = dataclasses.field(default_factory=backbone_module.Backbone)


@dataclasses.dataclass
class DetectorLosses(retinanet_cfg.Losses):
    """`task.losses`: task-aligned matching (`match_*`), quality focal loss and complete IoU loss.

    `match_candidates`: most anchors that learn one box; a candidate's rank is score **
    match_score_power * IoU ** match_iou_power. `box_loss_weight` stands against a class loss of
    weight 1.
    """

    match_candidates: int = 10
    match_score_power: float = 1.0
    match_iou_power: float = 6.0
    quality_focal_gamma: float = 2.0
    box_loss_weight: float = 2.0


@dataclasses.dataclass
class DetectorAugmentation(retinanet_cfg.Parser):
    """`task.train_data.parser`: see `scripts/training/inputs.py` for those that are ours."""

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
    train_data: DetectorData = dataclasses.field(default_factory=lambda: DetectorData(is_training=True))
    validation_data: DetectorData = dataclasses.field(default_factory=DetectorData)


@exp_factory.register_config_factory("detector")
def detector_experiment() -> config_definitions.ExperimentConfig:
    """The empty experiment that `configure` fills."""
    return config_definitions.ExperimentConfig(task=DetectorTaskConfig())


def anchors_yxyx_px(model: DetectorModel):
    """Anchors of all levels, float32 [anchors, 4], yxyx in pixels of the input, in the order of the
    head's outputs."""
    generator = anchor.build_anchor_generator(model.min_level, model.max_level, model.anchor.num_scales,
                                              model.anchor.aspect_ratios, model.anchor.anchor_size)
    levels = generator(tuple(model.input_size[:2]))
    return tf.concat([tf.reshape(levels[level], [-1, 4]) for level in sorted(levels)], 0)


@task_factory.register_task_cls(DetectorTaskConfig)
class DetectorTask(retinanet.RetinaNetTask):
    """Training and validation steps of a detector; metrics are Model Garden's.

    `first_step` is the step from which training goes on: its batches are the same whenever it
    starts there. `agreed` gives the first machine's figures to all. `coco_metric.evaluation` is,
    after a validation, pycocotools' `COCOeval`.
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
        """Sets what the pre-trained weights hold: the backbone, of COCO weights also decoder and
        most of the head."""
        if self.task_config.init_checkpoint:
            restore(model, self.task_config.init_checkpoint, self.task_config.init_checkpoint_modules)

    def build_inputs(self, params, input_context=None):
        """Batches of (float32 [batch, side, side, 3] in -1..1, labels); images are stretched to the
        input size."""
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
        """Model Garden's metrics; of training also the norm of the gradient, as it is before it is
        clipped."""
        metrics = super().build_metrics(training)
        if training:
            return [*metrics, tf_keras.metrics.Mean(GRADIENT_NORM)]
        self.coco_metric = KeptEvaluator(self.task_config.annotation_file, self.task_config.max_num_eval_detections)
        return metrics

    def train_step(self, inputs, model, optimizer, metrics=None):
        """One step; fails, naming the images, when the loss is not a number or beyond reason."""
        losses = [metric for metric in metrics or [] if metric.name != GRADIENT_NORM]
        for norm in (metric for metric in metrics or [] if metric.name == GRADIENT_NORM):
            optimizer = NormNoting(optimizer, norm)
        with quick_gradients(model):
            logs = super().train_step(inputs, model, optimizer, losses)
        check_loss(logs[self.loss], inputs[1]["image"])
        return logs

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        """The metrics of a validation; all machines go by those of the first one."""
        logs = super().reduce_aggregated_logs(aggregated_logs, global_step)
        return dict(zip(logs, self.agreed([float(value) for value in logs.values()]), strict=True))

    def build_losses(self, outputs, labels, aux_losses=None):
        """(total, class, box, model) loss of a batch, each divided by how much its anchors are to
        learn."""
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

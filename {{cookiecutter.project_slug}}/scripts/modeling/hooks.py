"""Hooks into TensorFlow and Model Garden: what their public interfaces do not offer.

Each hook replaces a part of a library or reads a private attribute, so a new version may break it.
`PINNED` names the versions that all of them were written for. Who raises one looks at each hook and
runs `tests/test_hooks.py`.

Subclasses that override a method of Model Garden stand where they are used: `BestExporter`,
`Runner`, `DetectorDecoder`, `DetectorParser`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import tensorflow as tf
import tf_keras
from official.modeling import optimization
from official.modeling.optimization import ema_optimizer
from official.vision.evaluation import coco_evaluator

PINNED = {
    "tensorflow": "2.20.0",
    "tf-keras": "2.20.1",
    "tf-models-official": "2.20.0",
    "tensorflow-model-optimization": "0.8.1",
    "pycocotools": "2.0.11",
}

# Depthwise convolutions of 5 x 5 that learn at twice the speed on a CPU (patched layers).
#
# oneDNN, which computes TensorFlow's convolutions on CPUs, has a fast kernel for the gradient of a
# depthwise filter that is at most three wide. The gradient of a 5 x 5 filter is that of its left
# and of its right part, two fast ones.

WIDTH = 5
# Columns of the filter whose gradients are computed together. Both parts have the middle one, which
# is taken once.
PART_WIDTH = 3


@contextmanager
def quick_gradients(model) -> Iterator[None]:
    """Compute gradients of 5 x 5 depthwise filters in two parts in what is traced meanwhile.

    Results are those of TensorFlow, summed in another order. Nothing changes on a GPU, or in what
    is traced elsewhere, such as validation and export.
    """
    layers = [] if tf.config.list_logical_devices("GPU") else _wide_layers(model)
    for layer in layers:
        layer.call = partial(_convolve, layer)
    try:
        yield
    finally:
        for layer in layers:
            # Replicas of one machine are traced in turns: another one may have removed it.
            vars(layer).pop("call", None)


def _wide_layers(model) -> list:
    return [layer for layer in model.submodules
            if isinstance(layer, tf_keras.layers.DepthwiseConv2D)
            and layer.kernel_size[1] == WIDTH and layer.depth_multiplier == 1
            and layer.padding == "same" and layer.trainable and not layer.use_bias
            and layer.activation is tf_keras.activations.linear]


def _convolve(layer, inputs):
    """Do what `DepthwiseConv2D.call` does, for a layer without bias and activation."""
    @tf.custom_gradient
    def convolution(x, kernel):
        stride = layer.strides[0]
        strides = [1, stride, stride, 1]

        def gradients(upstream):
            x_gradient = tf.nn.depthwise_conv2d_backprop_input(
                tf.shape(x), kernel, upstream, strides, "SAME")
            return x_gradient, filter_gradient(x, upstream, kernel.shape[0], stride)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradients

    return convolution(inputs, layer.depthwise_kernel)


def filter_gradient(x, upstream, height: int, stride: int):
    """Return the gradient of a depthwise filter whose convolution pads "SAME".

    Args:
        x: The input of the convolution, [batch, rows, columns, channels].
        upstream: The gradient of its output.
        height: Rows of the filter, whose width is 5.
        stride: Stride of the convolution in both directions.

    Returns:
        [height, 5, channels, 1].
    """
    channels = x.shape[-1]
    rows, columns = (_padding(x.shape[axis], upstream.shape[axis], size, stride)
                     for axis, size in ((1, height), (2, WIDTH)))
    padded = tf.pad(x, [[0, 0], rows, columns, [0, 0]])
    seen = (upstream.shape[2] - 1) * stride + PART_WIDTH

    def part(first: int):
        return tf.nn.depthwise_conv2d_backprop_filter(
            padded[:, :, first:first + seen], [height, PART_WIDTH, channels, 1], upstream,
            [1, stride, stride, 1], "VALID")

    return tf.concat([part(0), part(WIDTH - PART_WIDTH)[:, 1:]], 1)


def _padding(size: int, output_size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return what "SAME" adds before and after.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2.
    """
    total = max((output_size - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


# Moving averages of the weights that are exact (class exchange).

class ExactAverages(ema_optimizer.ExponentialMovingAverage):
    """Model Garden's optimizer with moving averages, exchanged without rounding.

    It computes the same, and a training starts sooner with it.
    """

    def shadow_copy(self, model) -> None:
        """Create the averages and what the optimizer keeps of each weight.

        Variables that are created in a first step make TensorFlow trace that step twice.
        """
        super().shadow_copy(model)
        self._optimizer._create_all_weights(model.trainable_variables)

    def swap_weights(self) -> None:
        """Exchange the weights and their averages.

        Model Garden adds and subtracts, which rounds, in a graph that takes as long to build as
        some training steps. A training that evaluated would continue from other weights than one
        that had done so before it was stopped.
        """
        for average, weight in zip(self._average_weights, self._model_weights, strict=True):
            value = weight.numpy()
            weight.assign(average.numpy())
            average.assign(value)


def exact_averages(optimizer):
    """Return `optimizer`; if it keeps moving averages, it does so as `ExactAverages`.

    The class is exchanged because Model Garden's factory of optimizers knows no other.
    """
    if isinstance(optimizer, optimization.ExponentialMovingAverage):
        optimizer.__class__ = ExactAverages
    return optimizer


# The norm of the gradient, noted on its way to the optimizer (an object that looks like another).

class NormNoting:
    """An optimizer that also tells the metric `norm` the norm of every gradient before clipping."""

    def __init__(self, optimizer, norm):
        self._optimizer, self._norm = optimizer, norm

    @property
    def __class__(self):
        return type(self._optimizer)  # Model Garden asks what kind of optimizer it has.

    def __getattr__(self, name: str):
        return getattr(self._optimizer, name)

    def apply_gradients(self, gradients_and_weights: list) -> None:
        """Note the norm, then do what the optimizer does."""
        gradients = [gradient for gradient, _ in gradients_and_weights]
        self._norm.update_state(tf.linalg.global_norm(gradients))
        self._optimizer.apply_gradients(gradients_and_weights)


# The evaluation of pycocotools, which Model Garden reduces to twelve figures (a private method).

class KeptEvaluator(coco_evaluator.COCOEvaluator):
    """Model Garden's evaluator, which keeps pycocotools' `COCOeval` of the split.

    `evaluation` is None until the split was evaluated.
    """

    def __init__(self, annotation_file: str | None, max_num_eval_detections: int):
        super().__init__(annotation_file, include_mask=False, per_category_metrics=True,
                         max_num_eval_detections=max_num_eval_detections)
        self.evaluation = None

    def _retrieve_per_category_metrics(self, coco_eval, prefix=""):
        # Model Garden's own figures by class need a pycocotools that is not the published one.
        self.evaluation = coco_eval
        return {}


# Layers that Model Garden's networks keep in private attributes.

# The head without `_classifier`, whose pointwise kernel and bias belong to the classes of the old
# data.
HEAD_PARTS = ("_cls_convs", "_cls_norms", "_box_regressor", "_box_convs", "_box_norms")


def bottleneck_pairs(block) -> list[tuple]:
    """Return pairs (convolution, batch norm) of an `InvertedBottleneckBlock`, in forward order."""
    pairs = [(block._conv1, block._norm1), (block._conv2, block._norm2)]
    if block.get_config()["expand_ratio"] > 1:
        pairs.insert(0, (block._conv0, block._norm0))
    return pairs


def first_pair(backbone) -> tuple:
    """Return the first convolution of a backbone and its batch norm."""
    if hasattr(backbone, "convolution_layers"):
        return backbone.convolution_layers()[0]
    # Model Garden's `mobilenet`.
    block = next(layer for layer in backbone.layers if hasattr(layer, "_conv0"))
    return block._conv0, block._norm0


def head_parts(head) -> dict:
    """Return the trackable parts of a `RetinaNetHead` that do not depend on the classes."""
    classifier = tf.train.Checkpoint(depthwise_kernel=head._classifier.depthwise_kernel)
    return {"_classifier": classifier, **{name: getattr(head, name) for name in HEAD_PARTS}}


# Model Garden's quantization-aware training (tf-models-official 2.20.0 on
# tensorflow-model-optimization 0.8.1): parts that it keeps in private attributes, and its ranges.

@contextmanager
def quantizer_ranges(widen: bool) -> Iterator[None]:
    """Let quantizers that are traced meanwhile keep their ranges of activations, or widen them.

    By themselves they follow a moving average of what they see in training. `int8_qat` measures
    them once, over all calibration images (`widen` True), and keeps them while it trains on.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def quantize(inputs, min_var, max_var, is_training, **options):
        if widen and is_training:
            min_var.assign(tf.minimum(min_var, tf.reduce_min(inputs)))
            max_var.assign(tf.maximum(max_var, tf.reduce_max(inputs)))
        return original(inputs, min_var, max_var, is_training=False, **options)

    quant_ops.MovingAvgQuantize = quantize
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = original


def made_by(tensor):
    """Return the layer whose output a symbolic tensor is."""
    return tensor._keras_history.layer


def inner_variable(layer, name: str):
    """Return a variable of the layer inside a quantization wrapper, None if it has none.

    The attribute of that name holds the value after rounding, not the variable.
    """
    return next((weight for weight in layer.weights
                 if weight.name.rsplit("/", 1)[-1] == f"{name}:0"), None)

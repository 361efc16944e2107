"""Depthwise convolutions of 5 x 5 that learn at twice the speed on a CPU.

oneDNN, which computes TensorFlow's convolutions on CPUs, has a fast kernel for the gradient of a
depthwise filter that is at most three wide. The gradient of a 5 x 5 filter is that of its left and
of its right part, two fast ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import tensorflow as tf
import tf_keras
from official.modeling.optimization import ema_optimizer
from official.vision.evaluation import coco_evaluator

WIDTH = 5
# Columns of the filter whose gradients are computed together; the middle one, in both, is taken
# once.
PART_WIDTH = 3


@contextmanager
def quick_gradients(model) -> Iterator[None]:
    """What is traced of `model` meanwhile computes the gradients of its 5 x 5 depthwise filters in
    two parts.

    Results are those of TensorFlow, summed in another order. Nothing changes on a GPU, or in what
    is traced elsewhere such as validation and export.
    """
    layers = [] if tf.config.list_logical_devices("GPU") else _wide_layers(model)
    for layer in layers:
        layer.call = partial(_convolve, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)  # Replicas of one machine are traced in turns: another may have been here.


def _wide_layers(model) -> list:
    return [layer for layer in model.submodules if isinstance(layer, tf_keras.layers.DepthwiseConv2D)
            and layer.kernel_size[1] == WIDTH and layer.depth_multiplier == 1 and layer.padding == "same"
            and layer.trainable and not layer.use_bias and layer.activation is tf_keras.activations.linear]


def _convolve(layer, inputs):
    """`DepthwiseConv2D.call` of a layer without bias and activation."""
    @tf.custom_gradient
    def convolution(x, kernel):
        stride = layer.strides[0]
        strides = [1, stride, stride, 1]

        def gradients(upstream):
            x_gradient = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, upstream, strides, "SAME")
            return x_gradient, filter_gradient(x, upstream, kernel.shape[0], stride)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradients

    return convolution(inputs, layer.depthwise_kernel)


def filter_gradient(x, upstream, height: int, stride: int):
    """The gradient of a depthwise filter, [height, 5, channels, 1], of a convolution with padding
    "SAME".

    `x` [batch, rows, columns, channels] is its input, `upstream` the gradient of its output.
    """
    channels = x.shape[-1]
    rows, columns = (_padding(x.shape[axis], upstream.shape[axis], size, stride)
                     for axis, size in ((1, height), (2, WIDTH)))
    padded = tf.pad(x, [[0, 0], rows, columns, [0, 0]])
    seen = (upstream.shape[2] - 1) * stride + PART_WIDTH

    def part(first: int):
        return tf.nn.depthwise_conv2d_backprop_filter(padded[:, :, first:first + seen],
                                                      [height, PART_WIDTH, channels, 1], upstream,
                                                      [1, stride, stride, 1], "VALID")

    return tf.concat([part(0), part(WIDTH - PART_WIDTH)[:, 1:]], 1)


def _padding(size: int, output_size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """What "SAME" adds before and after:
    https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2."""
    total = max((output_size - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


# Moving averages of the weights that are put into the network, and taken out again, to the bit.

class ExactAverages(ema_optimizer.ExponentialMovingAverage):
    """Model Garden's optimizer with moving averages; it computes the same, and a training starts
    sooner with it."""

    def shadow_copy(self, model) -> None:
        """Creates the averages, and with them what the optimizer keeps of each weight.

        Variables that come to be in a first step have TensorFlow trace that step twice.
        """
        super().shadow_copy(model)
        self._optimizer._create_all_weights(model.trainable_variables)

    def swap_weights(self) -> None:
        """Exchanges the weights and their averages.

        Model Garden adds and subtracts, which rounds, in a graph that takes as long to build as
        some training steps: a training that evaluated would go on from other weights than one that
        had done so before it was stopped.
        """
        for average, weight in zip(self._average_weights, self._model_weights, strict=True):
            value = weight.numpy()
            weight.assign(average.numpy())
            average.assign(value)


# The size of the gradient, noted on its way to the optimizer.

class NormNoting:
    """An optimizer that tells a metric the norm of every gradient before it is clipped, and
    computes as before."""

    def __init__(self, optimizer, norm):
        self._optimizer, self._norm = optimizer, norm

    @property
    def __class__(self):
        return type(self._optimizer)  # Model Garden asks what kind of optimizer it has.

    def __getattr__(self, name: str):
        return getattr(self._optimizer, name)

    def apply_gradients(self, gradients_and_weights: list) -> None:
        """As the optimizer does."""
        self._norm.update_state(tf.linalg.global_norm([gradient for gradient, _ in gradients_and_weights]))
        self._optimizer.apply_gradients(gradients_and_weights)


# The scorer of validation: what pycocotools matched and counted stays there for more than twelve
# figures.

class KeptEvaluator(coco_evaluator.COCOEvaluator):
    """Model Garden's scorer, which keeps pycocotools' `evaluation` of the whole split until it is
    taken."""

    def __init__(self, annotation_file: str | None, max_num_eval_detections: int):
        super().__init__(annotation_file, include_mask=False, per_category_metrics=True,
                         max_num_eval_detections=max_num_eval_detections)
        self.evaluation = None

    def _retrieve_per_category_metrics(self, coco_eval, prefix=""):
        # Model Garden's own figures by class need a pycocotools that is not the published one.
        self.evaluation = coco_eval
        return {}

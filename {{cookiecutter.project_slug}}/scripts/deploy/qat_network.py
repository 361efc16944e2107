"""Model Garden's quantisation-aware RetinaNet, so built that it starts where the trained network stands.

Its `build_qat_retinanet` alone (tf-models-official 2.20) starts elsewhere: the pyramid has fresh weights, weights of
frozen layers are taken in another order than they are given, one scale for a whole depthwise kernel leaves some
channels no bits, and ranges begin at -6..6 and move by a thousandth of the way a step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from scripts.deploy.equalize import residual_groups

CALIBRATION_BATCH = 8


def quantised_network(model, pictures: Sequence):
    """A RetinaNet that computes what a `TrainedModel`'s does, rounded as int8; the model's weights are rescaled.

    `pictures`: float32 [side, side, 3], RGB 0..255, on which the ranges of activations are measured.
    """
    import tf_keras
    from official.projects.qat.vision.configs import common
    from official.projects.qat.vision.modeling import factory

    for layer in (model.network, *model.network.submodules):
        if hasattr(layer, "trainable"):
            layer.trainable = True
    normalize_depthwise(model.network.backbone)
    what = common.Quantization(quantize_detection_decoder=True, quantize_detection_head=True)
    network = factory.build_qat_retinanet(model.network, what, model.config)
    _copy_decoder(model.network.decoder, network.decoder)
    for layer in network.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.trainable = False  # It computes as in the file; statistics of a few batches more would be noisier.
    _measure_ranges(network, pictures)
    return network


def normalize_depthwise(backbone) -> None:
    """Gives each channel of a depthwise kernel a largest weight of 1; the batch norm behind it takes the rest.

    The function stays the same, and one int8 scale for the kernel serves all channels alike.
    """
    for block in (block for group in residual_groups(backbone) for block in group):
        convolution, norm = block._conv1, block._norm1
        largest = np.abs(convolution.depthwise_kernel.numpy()).max(axis=(0, 1, 3))
        scale = np.where(largest > 0, largest, 1.0)
        variance = norm.moving_variance.numpy()
        deviations = np.sqrt(variance / scale**2 + norm.epsilon) / np.sqrt(variance + norm.epsilon)
        convolution.depthwise_kernel.assign(convolution.depthwise_kernel / scale[None, None, :, None])
        norm.gamma.assign(norm.gamma * scale * deviations)
        norm.moving_mean.assign(norm.moving_mean / scale)
        norm.moving_variance.assign(variance / scale**2)


@contextmanager
def ranges(measure: bool) -> Iterator[None]:
    """What is traced meanwhile keeps its ranges of activations, or widens them to all that it sees in training."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def quantise(inputs, min_var, max_var, is_training, **options):
        if measure and is_training:
            min_var.assign(tf.minimum(min_var, tf.reduce_min(inputs)))
            max_var.assign(tf.maximum(max_var, tf.reduce_max(inputs)))
        return original(inputs, min_var, max_var, is_training=False, **options)

    quant_ops.MovingAvgQuantize = quantise
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = original


def _measure_ranges(network, pictures: Sequence) -> None:
    """Smallest and largest value of each activation."""
    import tensorflow as tf

    from scripts.training.inputs import normalize_pixels

    for weight in network.weights:
        name = weight.name.rsplit("/", 1)[-1]
        if name.endswith(("_min:0", "_max:0")) and "kernel" not in name:
            weight.assign(tf.zeros_like(weight))
    with ranges(measure=True):
        see = tf.function(lambda pixels: network(normalize_pixels(pixels), training=True))
        for start in range(0, len(pictures), CALIBRATION_BATCH):  # The last batch is filled from the beginning.
            places = range(start, start + CALIBRATION_BATCH)
            see(np.stack([pictures[place % len(pictures)] for place in places]))


def _copy_decoder(source, target) -> None:
    """Weights of a feature pyramid into its quantised clone, in which each separable convolution has become two."""
    layers = {layer.name: layer for layer in source.layers}
    for level, output in target.output.items():
        norm = output._keras_history.layer
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            _variable(norm, name).assign(getattr(layers[f"norm_{level}"], name))
        _copy_separable(layers.get(f"post_hoc_{level}") or layers[f"coarser_{level}"], _before(norm))
    laterals = {layer.pointwise_kernel.shape[2]: layer for name, layer in layers.items() if name.startswith("lateral_")}
    for pointwise in target.layers:
        kernel = _variable(pointwise, "kernel")
        if kernel is not None and kernel.shape[2] in laterals:
            _copy_separable(laterals[kernel.shape[2]], pointwise)


def _copy_separable(source, pointwise) -> None:
    _variable(_before(pointwise), "depthwise_kernel").assign(source.depthwise_kernel)
    _variable(pointwise, "kernel").assign(source.pointwise_kernel)
    _variable(pointwise, "bias").assign(source.bias)


def _before(layer):
    """The layer whose output this one takes."""
    return layer.input._keras_history.layer


def _variable(layer, name: str):
    """The variable of a wrapped layer, None without: the attribute itself holds the rounded value."""
    return next((weight for weight in layer.weights if weight.name.rsplit("/", 1)[-1] == f"{name}:0"), None)

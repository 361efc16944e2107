"""Weights rewritten so that int8 fits them better, with the same function in float.

One int8 scale serves all channels of an activation, and in the residual streams of
EfficientNet-Lite a few channels reach ten times as far as the others. Between two linear layers a
channel may be divided by any number if the layers that read it are multiplied by the same number.
Method: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.1, with measured activation ranges.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.core.runtime import silence_libraries
from scripts.evaluation.detector import TrainedModel
from scripts.modeling.experiment import EXPERIMENT, read_experiment, with_absolute_paths
from scripts.training.inputs import PIXEL_CENTRE, normalize_pixels
from scripts.training.runner import make_repeatable
from scripts.training.task import DetectorTask


def equalize(model, images: Sequence) -> None:
    """Rescales the residual streams and the separable convolutions of a `TrainedModel` in place.

    `images`: float32 [side, side, 3], RGB 0..255, on which the reach of each channel is measured.
    """
    backbone, decoder = model.network.backbone, model.network.decoder
    groups = residual_groups(backbone)
    for index, (group, reach) in enumerate(zip(groups, stream_reach(backbone, images), strict=True)):
        readers = [block._conv0.kernel for block in group[1:]]
        if index + 1 < len(groups):
            readers.append(groups[index + 1][0]._conv0.kernel)
        readers += _lateral_kernels(backbone, decoder, group)
        if readers:
            _rescale([block._norm2 for block in group], readers, reach)
    for part in (decoder, model.network.head):
        _equalize_separable(part)


def _equalize_separable(part) -> None:
    """Between the depthwise and the pointwise half of a separable convolution stands nothing: the
    same rule holds.

    The reach of a channel is taken as the sum of its depthwise weights, since what comes in is of
    one range.
    """
    import tf_keras

    for layer in part.submodules:
        if isinstance(layer, tf_keras.layers.SeparableConv2D):
            depthwise = layer.depthwise_kernel.numpy()
            scale = _scale(np.abs(depthwise).sum(axis=(0, 1, 3)), [layer.pointwise_kernel])
            layer.depthwise_kernel.assign(depthwise / scale[None, None, :, None])
            layer.pointwise_kernel.assign(layer.pointwise_kernel * scale[None, None, :, None])


def residual_groups(backbone) -> list[list]:
    """Inverted bottlenecks whose outputs are added to each other and so share their channels, in
    order.

    Works for our backbone and for Model Garden's `mobilenet`; one without such blocks gives [].
    """
    from official.vision.modeling.layers.nn_blocks import InvertedBottleneckBlock

    groups: list[list] = []
    for block in (layer for layer in backbone.layers if isinstance(layer, InvertedBottleneckBlock)):
        config = block.get_config()
        adds = config["in_filters"] == config["out_filters"] and config["strides"] == 1
        if adds and groups:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def stream_reach(backbone, images: Sequence) -> list[np.ndarray]:
    """Largest absolute value of each channel of each group's stream over the images: a list of
    [channels]."""
    import tensorflow as tf
    import tf_keras

    streams = [[block.output for block in group] for group in residual_groups(backbone)]
    probe = tf_keras.Model(backbone.inputs, streams)
    measure = tf.function(lambda pixels: [
        tf.reduce_max([tf.reduce_max(tf.abs(block), [0, 1, 2]) for block in group], 0)
        for group in probe(normalize_pixels(pixels), training=False)])
    reaches = [[part.numpy() for part in measure(image[None])] for image in images]
    return [np.max(group, axis=0) for group in zip(*reaches, strict=True)]


def _lateral_kernels(backbone, decoder, group) -> list:
    """Kernels of the pyramid that read the output of this group: pointwise [1, 1, channels,
    filters]."""
    filters = group[-1].get_config()["out_filters"]
    levels = [level for level, shape in backbone.output_specs.items() if shape[-1] == filters]
    layers = {layer.name: layer for layer in decoder.layers}
    laterals = [layers[f"lateral_{level}"] for level in levels if f"lateral_{level}" in layers]
    return [layer.pointwise_kernel if hasattr(layer, "pointwise_kernel") else layer.kernel for layer in laterals]


def _rescale(norms: list, readers: list, reach: np.ndarray) -> None:
    """Divides the channels that the batch norms write, multiplies them where they are read."""
    scale = _scale(reach, readers)
    for norm in norms:
        norm.gamma.assign(norm.gamma / scale)
        norm.beta.assign(norm.beta / scale)
    for kernel in readers:
        kernel.assign(kernel * scale[None, None, :, None])


def _scale(reach: np.ndarray, readers: list) -> np.ndarray:
    """By what to divide each channel so that its reach and the weights that read it share the
    spread evenly."""
    weight = np.max([np.abs(kernel.numpy()).max(axis=(0, 1, 3)) for kernel in readers], axis=0)
    usable = (reach > 0) & (weight > 0)
    return np.where(usable, np.sqrt(reach / np.where(usable, weight, 1.0)), 1.0).astype(np.float32)


# Model Garden's quantization-aware RetinaNet, so built that it starts where the trained network
# stands.

CALIBRATION_BATCH = 8


def quantized_network(model, images: Sequence):
    """A RetinaNet that computes what a `TrainedModel`'s does, rounded as int8; the model's weights
    are rescaled.

    `images`: float32 [side, side, 3], RGB 0..255, on which the ranges of activations are measured.
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
    _measure_ranges(network, images)
    return network


def normalize_depthwise(backbone) -> None:
    """Gives each channel of a depthwise kernel a largest weight of 1; the batch norm behind it
    takes the rest.

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
    """What is traced meanwhile keeps its ranges of activations, or widens them to all that it sees
    in training."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def quantize(inputs, min_var, max_var, is_training, **options):
        if measure and is_training:
            min_var.assign(tf.minimum(min_var, tf.reduce_min(inputs)))
            max_var.assign(tf.maximum(max_var, tf.reduce_max(inputs)))
        return original(inputs, min_var, max_var, is_training=False, **options)

    quant_ops.MovingAvgQuantize = quantize
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = original


def _measure_ranges(network, images: Sequence) -> None:
    """Smallest and largest value of each activation."""
    import tensorflow as tf

    for weight in network.weights:
        name = weight.name.rsplit("/", 1)[-1]
        if name.endswith(("_min:0", "_max:0")) and "kernel" not in name:
            weight.assign(tf.zeros_like(weight))
    with ranges(measure=True):
        see = tf.function(lambda pixels: network(normalize_pixels(pixels), training=True))
        for start in range(0, len(images), CALIBRATION_BATCH):  # The last batch is filled from the beginning.
            places = range(start, start + CALIBRATION_BATCH)
            see(np.stack([images[place % len(images)] for place in places]))


def _copy_decoder(source, target) -> None:
    """Weights of a feature pyramid into its quantized clone, in which each separable convolution
    has become two."""
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
    """The variable of a wrapped layer, None without: the attribute itself holds the rounded value.
    """
    return next((weight for weight in layer.weights if weight.name.rsplit("/", 1)[-1] == f"{name}:0"), None)


# `int8_qat`: a trained detector trained on with the rounding of int8 in it.

RATE_SHARE = 0.1
"""Learning rate at the start, as a share of that of the training; it falls to a hundredth of it."""


@dataclasses.dataclass(frozen=True)
class QuantizationAware(TrainedModel):
    """A `TrainedModel` whose network rounds as an int8 file does, from the pixels on."""

    def predict_logits(self, pixels) -> tuple[Any, Any]:
        """As a `TrainedModel`'s; the steps of the normalization are rounded too."""
        return self._heads(rounded_normalization(pixels))


def rounded_normalization(pixels):
    """RGB 0..255 to -1..1 with the rounding of int8 after each step, so that a uint8 input is the
    raw pixel."""
    import tensorflow as tf

    rounded = tf.quantization.fake_quant_with_min_max_args
    centerd = rounded(rounded(pixels, 0.0, 255.0) - PIXEL_CENTRE, -128.0, 127.0)
    return rounded(centerd / PIXEL_CENTRE, -1.0, 1.0)


def quantization_aware(root: Path, model: TrainedModel, share: float, images: Sequence) -> QuantizationAware:
    """Trains `model` on for `share` of the steps of its training; the same again for the same seed,
    on a CPU.

    `images`: float32 [side, side, 3], RGB 0..255, for the ranges of activations. Weights of `model`
    are changed.
    """
    experiment = with_absolute_paths(read_experiment(root / EXPERIMENT), root)
    make_repeatable(experiment.task.train_data.seed)
    with silence_libraries():
        network = quantized_network(model, images)
        _train(network, experiment, round(share * experiment.trainer.train_steps))
    return QuantizationAware(network, model.config, model.checkpoint)


def _train(network, experiment, steps: int) -> None:
    """Trains with the ranges as they are: they were measured, and the weights move little."""
    import tensorflow as tf

    task = DetectorTask(experiment.task)
    optimizer = task.create_optimizer(_shorter(experiment.trainer.optimizer_config, max(1, steps)))
    step = tf.function(lambda inputs: task.train_step(inputs, model=network, optimizer=optimizer)["loss"])
    batches = task.build_inputs(experiment.task.train_data).take(steps)
    with ranges(measure=False):
        for inputs in tqdm(batches, desc="int8_qat", total=steps, unit="step", disable=None, leave=False):
            step(inputs)


def _shorter(optimizer_config, steps: int):
    """The optimizer of the training for a few more steps at a lower rate, without averages of
    weights."""
    rate = optimizer_config.learning_rate.get().initial_learning_rate * RATE_SHARE
    return optimizer_config.replace(
        ema=None, learning_rate={"type": "cosine", "cosine": {"initial_learning_rate": rate, "decay_steps": steps,
                                                              "alpha": 0.01}},
        warmup={"type": "linear", "linear": {"warmup_steps": max(1, steps // 10), "warmup_learning_rate": rate / 100}})

"""int8 that loses little: weights that fit it better, and training with its rounding.

Equalization changes the weights of a trained network so that int8 fits them better, while its
function in float stays the same. One int8 scale serves all channels of an activation, and in the
residual streams of EfficientNet-Lite a few channels reach ten times as far as the others. Between
two linear layers a channel may be divided by any number if the layers that read it are multiplied
by the same number. Method: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
and Bias Correction", https://arxiv.org/abs/1906.04721, section 4.1, here with measured ranges.

`int8_qat` trains on with Model Garden's quantization-aware RetinaNet, built so that it starts where
the trained network stands.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from official.vision.modeling.layers.nn_blocks import InvertedBottleneckBlock
from tqdm import tqdm

from scripts.core.runtime import silence_libraries
from scripts.evaluation.detector import TrainedModel
from scripts.modeling.hooks import bottleneck_pairs, inner_variable, made_by, quantizer_ranges
from scripts.training.inputs import PIXEL_CENTER, normalize_pixels
from scripts.training.runner import make_repeatable
from scripts.training.task import DetectorTask

CALIBRATION_BATCH = 8

# Learning rate of `int8_qat` at its start, as a share of that of the training.
RATE_SHARE = 0.1


# Equalization.

def equalize(model: TrainedModel, images: Sequence) -> None:
    """Rescale the residual streams and the separable convolutions of a model in place.

    `images`: float32 [side, side, 3], RGB 0..255, on which the reach of each channel is measured.
    """
    backbone, decoder = model.network.backbone, model.network.decoder
    groups = residual_groups(backbone)
    reaches = stream_reach(backbone, images)
    for index, (group, reach) in enumerate(zip(groups, reaches, strict=True)):
        # Every layer that reads the stream: blocks that add to it, the next group, the pyramid.
        blocks = [*group[1:], *(groups[index + 1][:1] if index + 1 < len(groups) else [])]
        readers = [bottleneck_pairs(block)[0][0].kernel for block in blocks]
        readers += _lateral_kernels(backbone, decoder, group)
        if readers:
            _rescale([bottleneck_pairs(block)[-1][1] for block in group], readers, reach)
    for part in (decoder, model.network.head):
        _equalize_separable(part)


def _equalize_separable(part) -> None:
    """Rescale between the depthwise and the pointwise half, with nothing between them.

    The reach of a channel is taken as the sum of its depthwise weights, since all inputs have one
    range.
    """
    for layer in part.submodules:
        if isinstance(layer, tf_keras.layers.SeparableConv2D):
            depthwise = layer.depthwise_kernel.numpy()
            scale = _scale(np.abs(depthwise).sum(axis=(0, 1, 3)), [layer.pointwise_kernel])
            layer.depthwise_kernel.assign(depthwise / scale[None, None, :, None])
            layer.pointwise_kernel.assign(layer.pointwise_kernel * scale[None, None, :, None])


def residual_groups(backbone) -> list[list]:
    """Return, in order, inverted bottlenecks whose outputs are added and so share their channels.

    For the backbone of `modeling/backbone.py` and Model Garden's `mobilenet`; [] for others.
    """
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
    """Return the largest absolute value of each channel over the images: [channels] a group."""
    streams = [[block.output for block in group] for group in residual_groups(backbone)]
    probe = tf_keras.Model(backbone.inputs, streams)
    measure = tf.function(lambda pixels: [
        tf.reduce_max([tf.reduce_max(tf.abs(block), [0, 1, 2]) for block in group], 0)
        for group in probe(normalize_pixels(pixels), training=False)])
    reaches = [[part.numpy() for part in measure(image[None])] for image in images]
    return [np.max(group, axis=0) for group in zip(*reaches, strict=True)]


def _lateral_kernels(backbone, decoder, group) -> list:
    """Return the kernels [1, 1, channels, filters] of the pyramid that read this group's output."""
    filters = group[-1].get_config()["out_filters"]
    levels = [level for level, shape in backbone.output_specs.items() if shape[-1] == filters]
    layers = {layer.name: layer for layer in decoder.layers}
    laterals = [layers[f"lateral_{level}"] for level in levels if f"lateral_{level}" in layers]
    return [layer.pointwise_kernel if hasattr(layer, "pointwise_kernel") else layer.kernel
            for layer in laterals]


def _rescale(norms: list, readers: list, reach: np.ndarray) -> None:
    """Divide the channels that the batch norms write, multiply them where they are read."""
    scale = _scale(reach, readers)
    for norm in norms:
        norm.gamma.assign(norm.gamma / scale)
        norm.beta.assign(norm.beta / scale)
    for kernel in readers:
        kernel.assign(kernel * scale[None, None, :, None])


def _scale(reach: np.ndarray, readers: list) -> np.ndarray:
    """Return the divisor of each channel after which its reach equals that of its readers' weights.
    """
    weight = np.max([np.abs(kernel.numpy()).max(axis=(0, 1, 3)) for kernel in readers], axis=0)
    usable = (reach > 0) & (weight > 0)
    return np.where(usable, np.sqrt(reach / np.where(usable, weight, 1.0)), 1.0).astype(np.float32)


# The quantization-aware network.

def quantized_network(model: TrainedModel, images: Sequence):
    """Return a RetinaNet that computes what the model's does, rounded as int8 rounds.

    The weights of `model` are rescaled. `images`: float32 [side, side, 3], RGB 0..255, on which the
    ranges of activations are measured.
    """
    from official.projects.qat.vision.configs import common
    from official.projects.qat.vision.modeling import factory

    for layer in (model.network, *model.network.submodules):
        if hasattr(layer, "trainable"):
            layer.trainable = True
    normalize_depthwise(model.network.backbone)
    options = common.Quantization(quantize_detection_decoder=True, quantize_detection_head=True)
    network = factory.build_qat_retinanet(model.network, options, model.config)
    # Model Garden copies the weights of backbone and head only.
    _copy_decoder(model.network.decoder, network.decoder)
    for layer in network.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # It computes as in the file; statistics of a few more batches would be noisier.
            layer.trainable = False
    _measure_ranges(network, images)
    return network


def normalize_depthwise(backbone) -> None:
    """Give each channel of a depthwise kernel a largest weight of 1; its batch norm takes the rest.

    The function stays the same, and one int8 scale for the kernel serves all channels alike.
    """
    for block in (block for group in residual_groups(backbone) for block in group):
        depthwise, norm = bottleneck_pairs(block)[-2]
        kernel = depthwise.depthwise_kernel
        largest = np.abs(kernel.numpy()).max(axis=(0, 1, 3))
        scale = np.where(largest > 0, largest, 1.0)
        variance = norm.moving_variance.numpy()
        deviations = np.sqrt(variance / scale**2 + norm.epsilon) / np.sqrt(variance + norm.epsilon)
        kernel.assign(kernel / scale[None, None, :, None])
        norm.gamma.assign(norm.gamma * scale * deviations)
        norm.moving_mean.assign(norm.moving_mean / scale)
        norm.moving_variance.assign(variance / scale**2)


def _measure_ranges(network, images: Sequence) -> None:
    """Set the range of each activation to its smallest and largest value over the images."""
    for weight in network.weights:
        name = weight.name.rsplit("/", 1)[-1]
        if name.endswith(("_min:0", "_max:0")) and "kernel" not in name:
            weight.assign(tf.zeros_like(weight))
    with quantizer_ranges(widen=True):
        run = tf.function(lambda pixels: network(normalize_pixels(pixels), training=True))
        # Batches of one size, so that the network is traced once: the last begins again.
        for start in range(0, len(images), CALIBRATION_BATCH):
            places = range(start, start + CALIBRATION_BATCH)
            run(np.stack([images[place % len(images)] for place in places]))


def _copy_decoder(source, target) -> None:
    """Copy the weights of a feature pyramid into its quantized clone.

    In the clone each separable convolution has become two layers, with names of their own: they
    are found by the pyramid level that they give, lateral ones by the channels that they read.
    """
    layers = {layer.name: layer for layer in source.layers}
    for level, output in target.output.items():
        norm = made_by(output)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            inner_variable(norm, name).assign(getattr(layers[f"norm_{level}"], name))
        convolution = layers.get(f"post_hoc_{level}") or layers[f"coarser_{level}"]
        _copy_separable(convolution, made_by(norm.input))
    laterals = {layer.pointwise_kernel.shape[2]: layer for name, layer in layers.items()
                if name.startswith("lateral_")}
    for pointwise in target.layers:
        kernel = inner_variable(pointwise, "kernel")
        if kernel is not None and kernel.shape[2] in laterals:
            _copy_separable(laterals[kernel.shape[2]], pointwise)


def _copy_separable(source, pointwise) -> None:
    depthwise = made_by(pointwise.input)
    inner_variable(depthwise, "depthwise_kernel").assign(source.depthwise_kernel)
    inner_variable(pointwise, "kernel").assign(source.pointwise_kernel)
    inner_variable(pointwise, "bias").assign(source.bias)


# Training on with rounding: `int8_qat`.

@dataclasses.dataclass(frozen=True)
class QuantizationAware(TrainedModel):
    """A `TrainedModel` whose network rounds as an int8 file does, from the pixels on."""

    def predict_logits(self, pixels) -> tuple[Any, Any]:
        """As a `TrainedModel`'s; the steps of the normalization are rounded too."""
        return self._heads(rounded_normalization(pixels))


def rounded_normalization(pixels):
    """Return RGB 0..255 as -1..1, rounded as int8 after each step.

    A uint8 input is then the raw pixel.
    """
    rounded = tf.quantization.fake_quant_with_min_max_args
    centered = rounded(rounded(pixels, 0.0, 255.0) - PIXEL_CENTER, -128.0, 127.0)
    return rounded(centered / PIXEL_CENTER, -1.0, 1.0)


def quantization_aware(model: TrainedModel, experiment, share: float,
                       images: Sequence) -> QuantizationAware:
    """Train a model on with int8 rounding; on a CPU a seed gives the same weights again.

    Args:
        model: its weights are changed.
        experiment: that of its training, with paths that are found from here.
        share: training steps, as a share of those of the experiment.
        images: float32 [side, side, 3], RGB 0..255, for the ranges of activations.
    """
    make_repeatable(experiment.task.train_data.seed)
    with silence_libraries():
        network = quantized_network(model, images)
        _train(network, experiment, round(share * experiment.trainer.train_steps))
    return QuantizationAware(network, model.config, model.checkpoint)


def _train(network, experiment, steps: int) -> None:
    """Train with the ranges as they were measured: the weights move little."""
    task = DetectorTask(experiment.task)
    optimizer = task.create_optimizer(_shorter(experiment.trainer.optimizer_config, max(1, steps)))
    step = tf.function(lambda inputs: task.train_step(inputs, network, optimizer)["loss"])
    batches = task.build_inputs(experiment.task.train_data).take(steps)
    with quantizer_ranges(widen=False):
        for inputs in tqdm(batches, desc="int8_qat", total=steps, unit="step", disable=None,
                           leave=False):
            step(inputs)


def _shorter(optimizer_config, steps: int):
    """Return the optimizer of the training for fewer steps, a lower rate, without averages."""
    rate = optimizer_config.learning_rate.get().initial_learning_rate * RATE_SHARE
    cosine = {"initial_learning_rate": rate, "decay_steps": steps, "alpha": 0.01}
    linear = {"warmup_steps": max(1, steps // 10), "warmup_learning_rate": rate / 100}
    return optimizer_config.replace(ema=None, learning_rate={"type": "cosine", "cosine": cosine},
                                    warmup={"type": "linear", "linear": linear})

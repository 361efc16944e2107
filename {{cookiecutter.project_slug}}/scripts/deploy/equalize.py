"""Weights rewritten so that int8 fits them better, with the same function in float.

One int8 scale serves all channels of an activation, and in the residual streams of EfficientNet-Lite a few channels
reach ten times as far as the others. Between two linear layers a channel may be divided by any number if the layers
that read it are multiplied by the same number. Method: Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", https://arxiv.org/abs/1906.04721, section 4.1, with measured activation ranges.
"""

from collections.abc import Sequence

import numpy as np


def equalize(model, pictures: Sequence) -> None:
    """Rescales the residual streams and the separable convolutions of a `TrainedModel` in place.

    `pictures`: float32 [side, side, 3], RGB 0..255, on which the reach of each channel is measured.
    """
    backbone, decoder = model.network.backbone, model.network.decoder
    groups = residual_groups(backbone)
    for index, (group, reach) in enumerate(zip(groups, stream_reach(backbone, pictures), strict=True)):
        readers = [block._conv0.kernel for block in group[1:]]
        if index + 1 < len(groups):
            readers.append(groups[index + 1][0]._conv0.kernel)
        readers += _lateral_kernels(backbone, decoder, group)
        if readers:
            _rescale([block._norm2 for block in group], readers, reach)
    for part in (decoder, model.network.head):
        _equalize_separable(part)


def _equalize_separable(part) -> None:
    """Between the depthwise and the pointwise half of a separable convolution stands nothing: the same rule holds.

    The reach of a channel is taken as the sum of its depthwise weights, since what comes in is of one range.
    """
    import tf_keras

    for layer in part.submodules:
        if isinstance(layer, tf_keras.layers.SeparableConv2D):
            depthwise = layer.depthwise_kernel.numpy()
            scale = _scale(np.abs(depthwise).sum(axis=(0, 1, 3)), [layer.pointwise_kernel])
            layer.depthwise_kernel.assign(depthwise / scale[None, None, :, None])
            layer.pointwise_kernel.assign(layer.pointwise_kernel * scale[None, None, :, None])


def residual_groups(backbone) -> list[list]:
    """Inverted bottlenecks whose outputs are added to each other and so share their channels, in order.

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


def stream_reach(backbone, pictures: Sequence) -> list[np.ndarray]:
    """Largest absolute value of each channel of each group's stream over the pictures: a list of [channels]."""
    import tensorflow as tf
    import tf_keras

    from scripts.training.inputs import normalize_pixels

    streams = [[block.output for block in group] for group in residual_groups(backbone)]
    probe = tf_keras.Model(backbone.inputs, streams)
    measure = tf.function(lambda pixels: [
        tf.reduce_max([tf.reduce_max(tf.abs(block), [0, 1, 2]) for block in group], 0)
        for group in probe(normalize_pixels(pixels), training=False)])
    reaches = [[part.numpy() for part in measure(picture[None])] for picture in pictures]
    return [np.max(group, axis=0) for group in zip(*reaches, strict=True)]


def _lateral_kernels(backbone, decoder, group) -> list:
    """Kernels of the pyramid that read the output of this group: pointwise [1, 1, channels, filters]."""
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
    """By what to divide each channel so that its reach and the weights that read it share the spread evenly."""
    weight = np.max([np.abs(kernel.numpy()).max(axis=(0, 1, 3)) for kernel in readers], axis=0)
    usable = (reach > 0) & (weight > 0)
    return np.where(usable, np.sqrt(reach / np.where(usable, weight, 1.0)), 1.0).astype(np.float32)

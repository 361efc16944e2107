"""EfficientNet-Lite and MobileNetV2 for Model Garden: one class, as both are inverted bottlenecks.

Model Garden's own `efficientnet` scales the first and last block group, which the Lite family does
not; it and `mobilenet` carry a 1280-wide classification convolution that a detector never uses,
cannot freeze early groups, and have plain functions where quantization-aware training needs layers.
Architectures: https://arxiv.org/abs/1905.11946 without squeeze and excitation, with relu6, and
https://arxiv.org/abs/1801.04381; block repeats and widths are those of the published weights.
Importing this module registers the backbone, so that an experiment may say `backbone: {type:
inverted_bottleneck}`.
"""

import dataclasses

import numpy as np
import tensorflow as tf  # noqa: F401  (tf_keras needs it loaded first)
import tf_keras
from official.modeling import hyperparams, tf_utils
from official.vision.configs import backbones as backbones_cfg
from official.vision.modeling.backbones import factory
from official.vision.modeling.layers import nn_blocks

from scripts.modeling.hooks import bottleneck_pairs

STEM_FILTERS = 32

# (repeats, kernel size, stride, expansion, filters, feature level that the group ends or None)
GROUPS = {
    "lite0": (
        (1, 3, 1, 1, 16, None),
        (2, 3, 2, 6, 24, 2),
        (2, 5, 2, 6, 40, 3),
        (3, 3, 2, 6, 80, None),
        (3, 5, 1, 6, 112, 4),
        (4, 5, 2, 6, 192, None),
        (1, 3, 1, 6, 320, 5),
    ),
    "lite1": (
        (1, 3, 1, 1, 16, None),
        (3, 3, 2, 6, 24, 2),
        (3, 5, 2, 6, 40, 3),
        (4, 3, 2, 6, 80, None),
        (4, 5, 1, 6, 112, 4),
        (5, 5, 2, 6, 192, None),
        (1, 3, 1, 6, 320, 5),
    ),
    "lite2": (
        (1, 3, 1, 1, 16, None),
        (3, 3, 2, 6, 24, 2),
        (3, 5, 2, 6, 48, 3),
        (4, 3, 2, 6, 88, None),
        (4, 5, 1, 6, 120, 4),
        (5, 5, 2, 6, 208, None),
        (1, 3, 1, 6, 352, 5),
    ),
    "mobilenet_v2": (
        (1, 3, 1, 1, 16, None),
        (2, 3, 2, 6, 24, 2),
        (3, 3, 2, 6, 32, 3),
        (4, 3, 2, 6, 64, None),
        (3, 3, 1, 6, 96, 4),
        (3, 3, 2, 6, 160, None),
        (1, 3, 1, 6, 320, 5),
    ),
}


@tf_keras.utils.register_keras_serializable(package="Detector")
class InvertedBottleneckNet(tf_keras.Model):
    """Features of a network of GROUPS.

    Input: float32 [batch, height, width, 3], RGB scaled to -1..1. Output: dict of level
    `"2"`..`"5"` to float32 [batch, height / 2**level, width / 2**level, filters].

    `frozen_groups` freezes the stem and that many block groups (0: nothing is frozen); their batch
    norms then use the stored statistics. The early groups work on the largest maps and hold the
    most general features, so freezing them saves much of the time of a training step on a CPU.
    """

    def __init__(self, model_id="lite0", input_specs=None, kernel_regularizer=None,
                 activation="relu6", use_sync_bn=False, norm_momentum=0.99, norm_epsilon=0.001,
                 frozen_groups=0, **kwargs):
        self._arguments = dict(
            model_id=model_id, input_specs=input_specs, kernel_regularizer=kernel_regularizer,
            activation=activation, use_sync_bn=use_sync_bn, norm_momentum=norm_momentum,
            norm_epsilon=norm_epsilon, frozen_groups=frozen_groups)
        input_specs = input_specs or tf_keras.layers.InputSpec(shape=[None, None, None, 3])
        inputs = tf_keras.Input(shape=input_specs.shape[1:])
        stem = [
            tf_keras.layers.Conv2D(
                STEM_FILTERS, 3, strides=2, padding="same", use_bias=False,
                kernel_initializer="VarianceScaling", kernel_regularizer=kernel_regularizer),
            tf_keras.layers.BatchNormalization(momentum=norm_momentum, epsilon=norm_epsilon,
                                               synchronized=use_sync_bn),
        ]
        # This layer, not an Activation: quantization-aware training joins it with the batch norm
        # before it.
        if activation == "relu6":
            act = tf_keras.layers.ReLU(6.0)
        else:
            act = tf_utils.get_activation(activation, True)
        x = act(stem[1](stem[0](inputs)))
        block_groups, endpoints = self._block_groups(x)
        super().__init__(inputs=inputs, outputs=endpoints, **kwargs)
        self._stem, self._block_group_layers = stem, block_groups
        self._output_specs = {level: features.get_shape() for level, features in endpoints.items()}
        self._freeze(frozen_groups)

    def _block_groups(self, x):
        """Return (blocks of each group, features of the groups that end a level by level)."""
        a = self._arguments
        filters_in, groups, endpoints = STEM_FILTERS, [], {}
        for index, group in enumerate(GROUPS[a["model_id"]]):
            repeats, kernel, stride, expand, filters, level = group
            blocks = []
            for repeat in range(repeats):
                block = nn_blocks.InvertedBottleneckBlock(
                    in_filters=filters_in, out_filters=filters, expand_ratio=expand,
                    strides=stride if repeat == 0 else 1, kernel_size=kernel, se_ratio=0.0,
                    kernel_initializer="VarianceScaling",
                    kernel_regularizer=a["kernel_regularizer"],
                    activation=a["activation"], use_sync_bn=a["use_sync_bn"],
                    norm_momentum=a["norm_momentum"], norm_epsilon=a["norm_epsilon"])
                x = block(x)
                filters_in = filters
                blocks.append(block)
            # A layer, not tf.identity: quantization-aware training clones layers only.
            x = tf_keras.layers.Activation("linear", name=f"block_group_{index}")(x)
            groups.append(blocks)
            if level:
                endpoints[str(level)] = x
        return groups, endpoints

    def _freeze(self, frozen_groups):
        if frozen_groups:
            blocks = [b for group in self._block_group_layers[:frozen_groups] for b in group]
            for layer in [*self._stem, *blocks]:
                layer.trainable = False

    def convolution_layers(self):
        """Return pairs (convolution, its batch norm) in the order of the forward pass."""
        pairs = [tuple(self._stem)]
        for block in (b for group in self._block_group_layers for b in group):
            pairs += bottleneck_pairs(block)
        return pairs

    def get_config(self):
        """Return the arguments of the constructor."""
        return dict(self._arguments)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Return the model that `get_config` described."""
        return cls(**config)

    @property
    def output_specs(self):
        """Dict of level to the shape of its features; Model Garden's decoders read it."""
        return self._output_specs


@dataclasses.dataclass
class InvertedBottleneckConfig(hyperparams.Config):
    """`backbone.inverted_bottleneck` of an experiment; `frozen_groups` is 0..7."""

    model_id: str = "lite0"
    frozen_groups: int = 0


@dataclasses.dataclass
class Backbone(backbones_cfg.Backbone):
    """Model Garden's choice of backbones with one more."""

    type: str | None = "inverted_bottleneck"
    inverted_bottleneck: InvertedBottleneckConfig = dataclasses.field(
        default_factory=InvertedBottleneckConfig)


@factory.register_backbone_builder("inverted_bottleneck")
def build_inverted_bottleneck(input_specs, backbone_config, norm_activation_config,
                              l2_regularizer=None):
    """Build the backbone of an experiment; Model Garden's model factory calls this."""
    config = backbone_config.get()
    norm = norm_activation_config
    return InvertedBottleneckNet(
        model_id=config.model_id, input_specs=input_specs, kernel_regularizer=l2_regularizer,
        activation=norm.activation, use_sync_bn=norm.use_sync_bn, norm_momentum=norm.norm_momentum,
        norm_epsilon=norm.norm_epsilon, frozen_groups=config.frozen_groups)


# Weights that were trained on other pixel values, or with another batch norm, made to fit.

# Of RGB as fractions 0..1: what torchvision and Model Garden subtract and divide by.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


def fold_imagenet_normalization(convolution, norm) -> None:
    """Make a first convolution and its batch norm take pixels -1..1, not ImageNet-normalized ones.

    With u in -1..1 the normalized value is u * 0.5 / deviation + (0.5 - mean) / deviation. The
    factor goes into the kernel (HWIO), the constant into the mean that the batch norm subtracts.
    Exact but for the border: there the padding of zeros stood for the mean color, and now stands
    for gray.
    """
    kernel = convolution.kernel.numpy().astype(np.float64)
    constant = ((0.5 - IMAGENET_MEAN) / IMAGENET_DEVIATION)[None, None, :, None]
    norm.moving_mean.assign(norm.moving_mean.numpy() - (kernel * constant).sum(axis=(0, 1, 2)))
    convolution.kernel.assign(kernel * (0.5 / IMAGENET_DEVIATION)[None, None, :, None])


def fold_epsilon(norms, epsilon: float) -> None:
    """Make batch norms that were trained with `epsilon` compute the same with their own.

    Exact in inference.
    """
    for norm in norms:
        variance = norm.moving_variance.numpy().astype(np.float64)
        factor = np.sqrt((variance + norm.epsilon) / (variance + epsilon))
        norm.gamma.assign(norm.gamma.numpy() * factor)

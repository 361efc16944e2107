"""Rewrites the first layers of a network, so that weights trained on other pixel values and another batch norm fit.

Ours: pixels scaled as (x - 127.5) / 127.5, batch norms with epsilon 0.001.
"""

import numpy as np

# Of RGB as fractions 0..1: what torchvision and Model Garden subtract and divide by.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


def fold_imagenet_normalization(convolution, norm) -> None:
    """Makes a first convolution (kernel HWIO) and its batch norm take pixels -1..1 instead of ImageNet-normalised ones.

    With u in -1..1 the normalised value is u * 0.5 / deviation + (0.5 - mean) / deviation. The factor goes into the
    kernel, the constant into the mean that the batch norm subtracts. Exact but for the border: there the padding of
    zeros means the mean colour to the one and grey to the other.
    """
    kernel = convolution.kernel.numpy().astype(np.float64)
    constant = ((0.5 - IMAGENET_MEAN) / IMAGENET_DEVIATION)[None, None, :, None]
    norm.moving_mean.assign(norm.moving_mean.numpy() - (kernel * constant).sum(axis=(0, 1, 2)))
    convolution.kernel.assign(kernel * (0.5 / IMAGENET_DEVIATION)[None, None, :, None])


def fold_epsilon(norms, epsilon: float) -> None:
    """Makes batch norms that were trained with another epsilon compute the same with their own: exact in inference."""
    for norm in norms:
        variance = norm.moving_variance.numpy().astype(np.float64)
        norm.gamma.assign(norm.gamma.numpy() * np.sqrt((variance + norm.epsilon) / (variance + epsilon)))

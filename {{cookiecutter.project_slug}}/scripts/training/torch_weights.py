"""Sets our backbone from a torch state dict, layer by layer in the order of the forward pass."""

from scripts.training.matched import Matched


def load_state_dict(backbone, tensors: dict) -> Matched:
    """Sets every variable of the backbone that has a tensor of its shape in its place.

    Layers are paired by their order, as names differ between publishers; what stands behind the last one is the
    classifier, which a detector does not use.
    """
    names = iter([name.removesuffix(".weight") for name in tensors if name.endswith(".weight")])
    matched = Matched(("backbone",))
    for convolution, norm in backbone.convolution_layers():
        _set(convolution, [_kernel(convolution, tensors, next(names, None))], matched)
        _set(norm, _statistics(tensors, next(names, None)), matched)
    return matched


def _kernel(layer, tensors: dict, name: str | None):
    """torch keeps kernels as OIHW, TensorFlow as HWIO, of depthwise convolutions as HWIM; None if there is none."""
    import tf_keras

    kernel = tensors.get(f"{name}.weight")
    if kernel is None or kernel.ndim != 4:
        return kernel
    order = (2, 3, 0, 1) if isinstance(layer, tf_keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return kernel.transpose(order)


def _statistics(tensors: dict, name: str | None) -> list:
    """Gamma, beta, mean and variance of a batch norm; None for what is not there."""
    return [tensors.get(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]


def _set(layer, values: list, matched: Matched) -> None:
    for variable, value in zip(layer.weights, values, strict=True):
        if matched.count(variable.name, tuple(variable.shape), None if value is None else value.shape):
            variable.assign(value)

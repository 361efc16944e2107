"""Fill a network with pre-trained weights: of a torch file, or of a TensorFlow checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from scripts.core.text import DetectorError
from scripts.modeling.hooks import head_parts

LEAST_SHARE = 0.9
SHOWN = 3
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass
class Matched:
    """How many tensors of a network were found in a file.

    Attributes:
        parts: The parts of the network to fill, such as `backbone`.
        taken: Tensors that fit.
        expected: Tensors that the parts have.
        reasons: Why a tensor was not taken, one text each.
    """

    parts: tuple[str, ...]
    taken: int = 0
    expected: int = 0
    reasons: list[str] = field(default_factory=list)

    def count(self, name: str, shape: tuple[int, ...], found: tuple[int, ...] | None) -> bool:
        """Note one tensor of the network; return whether it fits.

        `found` is the shape that the file has in its place (None: nothing is there).
        """
        self.expected += 1
        if found is not None and tuple(found) == tuple(shape):
            self.taken += 1
            return True
        there = "is not there" if found is None else f"is {list(found)} there"
        self.reasons.append(f"{name} {list(shape)} {there}")
        return False

    def require_same_model(self, model_id: str, origin: str) -> None:
        """Raise DetectorError when fewer than nine of ten tensors fit.

        Such weights belong to something else.
        """
        if self.taken >= LEAST_SHARE * self.expected:
            return
        shown = ", ".join(self.reasons[:SHOWN])
        if len(self.reasons) > SHOWN:
            shown += f" and {len(self.reasons) - SHOWN:,} more"
        raise DetectorError(
            f"only {self.taken} of {self.expected} tensors of {model_id} fit ({shown}): {origin}: "
            "choose the model.id that these weights belong to, or other weights in model.weights")


# A state dict of torch, layer by layer in the order of the forward pass.

def load_state_dict(backbone, tensors: dict[str, np.ndarray]) -> Matched:
    """Set every variable of the backbone that has a tensor of its shape in its place.

    Layers are paired by their order, as names differ between publishers. What stands behind the
    last one is the classifier, which a detector does not use.
    """
    names = iter([name.removesuffix(".weight") for name in tensors if name.endswith(".weight")])
    matched = Matched(("backbone",))
    for convolution, norm in backbone.convolution_layers():
        _set(convolution, [_kernel(convolution, tensors, next(names, None))], matched)
        _set(norm, _statistics(tensors, next(names, None)), matched)
    return matched


def _kernel(layer, tensors: dict, name: str | None):
    """Return a kernel in TensorFlow's order, None if there is none.

    torch keeps kernels as OIHW, TensorFlow as HWIO, those of depthwise convolutions as HWIM.
    """
    kernel = tensors.get(f"{name}.weight")
    if kernel is None or kernel.ndim != 4:
        return kernel
    depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
    return kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _statistics(tensors: dict, name: str | None) -> list:
    """Return gamma, beta, mean and variance of a batch norm; None for what is not there."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return [tensors.get(f"{name}.{part}") for part in parts]


def _set(layer, values: list, matched: Matched) -> None:
    for variable, value in zip(layer.weights, values, strict=True):
        found = None if value is None else value.shape
        if matched.count(variable.name, tuple(variable.shape), found):
            variable.assign(value)


# A checkpoint of TensorFlow, as Model Garden's trainer writes it.

def transferable_parts(network) -> dict:
    """Return the parts of a network that pre-trained weights may fill, by name.

    Of the head that is all but what depends on the classes.
    """
    return {"backbone": network.backbone, "decoder": network.decoder,
            "head": tf.train.Checkpoint(**head_parts(network.head))}


def load_checkpoint(network, prefix: Path) -> Matched:
    """Set the variables of the network that have a tensor of the same place and shape.

    Raises:
        DetectorError: There is no readable checkpoint, or it has no backbone.
    """
    reader, nodes = _open(prefix)
    stored = {child.local_name for child in nodes[0].children}
    parts = {name: part for name, part in transferable_parts(network).items() if name in stored}
    if "backbone" not in parts:
        raise DetectorError(f"checkpoint without a backbone (it holds {', '.join(sorted(stored))}):"
                            f" {prefix}: use one of a detector that Model Garden's trainer wrote")
    keys = {}
    wanted = tf.train.Checkpoint(**parts)
    for number, thing in tf.train.CheckpointView(str(prefix)).match(wanted).items():
        if isinstance(thing, tf.Variable) and nodes[number].attributes:
            keys[thing.ref()] = nodes[number].attributes[0].checkpoint_key
    matched = Matched(tuple(parts))
    for variable in _variables(wanted):
        key = keys.get(variable.ref())
        value = None if key is None else reader.get_tensor(key)
        found = None if value is None else value.shape
        if matched.count(variable.name, tuple(variable.shape), found):
            variable.assign(value)
    return matched


def restore(network, prefix: str, modules: str | list[str] = "all") -> None:
    """Set what the checkpoint that `invoke pretrained` wrote holds.

    Args:
        network: A Model Garden RetinaNet.
        prefix: Path of the checkpoint without ending.
        modules: Names of the parts to set, or `all`.

    Raises:
        AssertionError: A variable of a part is missing in the checkpoint.
    """
    stored = {child.local_name for child in _open(Path(prefix))[1][0].children}
    wanted = stored if modules == "all" else stored & set(modules)
    parts = {name: part for name, part in transferable_parts(network).items() if name in wanted}
    checkpoint = tf.train.Checkpoint(**parts)
    checkpoint.read(prefix).expect_partial().assert_existing_objects_matched()


def _open(prefix: Path):
    """Return (reader of tensors, nodes of the object graph); node 0 is the root."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        graph = TrackableObjectGraph.FromString(reader.get_tensor(GRAPH))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DetectorError(f"not a checkpoint of TensorFlow 2 ({reason}): {prefix}: name the "
                            "prefix before .index, with its .data files beside it") from None
    return reader, graph.nodes


def _variables(trackable) -> list:
    found = tf.train.TrackableView(trackable).descendants()
    variables = [thing for thing in found if isinstance(thing, tf.Variable)]
    return list({variable.ref(): variable for variable in variables}.values())

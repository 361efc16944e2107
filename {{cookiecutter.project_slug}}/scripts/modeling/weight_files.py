"""Counts which tensors of pre-trained weights fit a network, and refuses weights of another one."""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError

LEAST_SHARE = 0.9
SHOWN = 3


@dataclass
class Matched:
    """`parts` of the network that were to be filled; tensors `taken` and `expected`; reasons for
    those not taken."""

    parts: tuple[str, ...]
    taken: int = 0
    expected: int = 0
    reasons: list[str] = field(default_factory=list)

    def count(self, name: str, shape: tuple[int, ...], found: tuple[int, ...] | None) -> bool:
        """Note one tensor of the network and the shape that the file has in its place (None:
        nothing); True if it fits."""
        self.expected += 1
        if found is not None and tuple(found) == tuple(shape):
            self.taken += 1
            return True
        there = "is not there" if found is None else f"is {list(found)} there"
        self.reasons.append(f"{name} {list(shape)} {there}")
        return False

    def require_same_model(self, model_id: str, origin: str) -> None:
        """Raises DetectorError when fewer than nine of ten tensors fit: these are the weights of
        something else."""
        if self.taken >= LEAST_SHARE * self.expected:
            return
        more = f" and {len(self.reasons) - SHOWN:,} more" if len(self.reasons) > SHOWN else ""
        shown = ", ".join(self.reasons[:SHOWN]) + more
        raise DetectorError(
            f"only {self.taken} of {self.expected} tensors of {model_id} fit ({shown}): {origin}: choose the model.id "
            "that these weights belong to, or other weights in model.weights")


# Reads the tensors of a `torch.save` file without torch and without running code from the file.

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(MAGIC, 2)
STORAGE_DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "LongStorage": "<i8",
                  "IntStorage": "<i4"}


class _LazyTensor:
    """What `_rebuild_tensor_v2` would make: a view into a storage that is read later."""

    def __init__(self, storage_key, offset, shape, stride):
        self.storage_key, self.offset, self.shape, self.stride = storage_key, offset, shape, stride


def _rebuild_tensor(storage, offset, size, stride, *_unused):
    return _LazyTensor(storage[0], offset, size, stride)


class _RestrictedUnpickler(pickle.Unpickler):
    """Allows only the names that a state dict of tensors needs."""

    def __init__(self, file):
        super().__init__(file)
        self.dtypes = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, saved_id):
        kind, dtype, key, _location, count = saved_id[:5]
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        self.dtypes[key] = (dtype, count)
        return (key,)


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as `torch.save` writes it, in either layout."""
    if not path.is_file():
        return False
    if zipfile.is_zipfile(path):
        return True
    with open(path, "rb") as file:
        return file.read(len(LEGACY_START)) == LEGACY_START


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Name to array, in the file's order. Raises DetectorError if the file is not what it should
    be."""
    read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
    try:
        tensors, storages = read(path)
        if not isinstance(tensors, dict) or not any(isinstance(each, _LazyTensor) for each in tensors.values()):
            raise ValueError("no state dict of tensors")
        return {name: _view(storages[t.storage_key], t) for name, t in tensors.items() if isinstance(t, _LazyTensor)}
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError, IndexError, TypeError,
            AttributeError) as error:
        raise DetectorError(f"not a readable torch file of weights ({error}): {path}: use a state dict that torch.save "
                            "wrote; of a package, install it again") from None


def _read_legacy(path: Path):
    with open(path, "rb") as file:
        if _RestrictedUnpickler(file).load() != MAGIC:
            raise pickle.UnpicklingError("wrong magic number")
        _RestrictedUnpickler(file).load()
        _RestrictedUnpickler(file).load()
        reader = _RestrictedUnpickler(file)
        tensors = reader.load()
        return tensors, _read_storages(file, _RestrictedUnpickler(file).load(), reader.dtypes)


def _read_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise ValueError("no data.pkl in it")
        folder = pickled.removesuffix("data.pkl")
        with archive.open(pickled) as file:
            reader = _RestrictedUnpickler(file)
            tensors = reader.load()
        storages = {key: np.frombuffer(archive.read(f"{folder}data/{key}"), dtype, count=count)
                    for key, (dtype, count) in reader.dtypes.items()}
    return tensors, storages


def _read_storages(file, keys, dtypes):
    storages = {}
    for key in keys:
        dtype, count = dtypes[key]
        if int(np.frombuffer(file.read(8), "<i8")[0]) != count:
            raise ValueError(f"storage {key} has another length than announced")
        raw = file.read(count * np.dtype(dtype).itemsize)
        storages[key] = np.frombuffer(raw, dtype, count=count)
    return storages


def _view(storage, tensor):
    """A copy of the values of a tensor. ValueError if it reaches beyond its storage: the file may
    be anybody's."""
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if tensor.offset < 0 or min([0, *tensor.stride, *tensor.shape]) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape, strides).copy()


# Sets our backbone from a torch state dict, layer by layer in the order of the forward pass.

def load_state_dict(backbone, tensors: dict) -> Matched:
    """Sets every variable of the backbone that has a tensor of its shape in its place.

    Layers are paired by their order, as names differ between publishers; what stands behind the
    last one is the classifier, which a detector does not use.
    """
    names = iter([name.removesuffix(".weight") for name in tensors if name.endswith(".weight")])
    matched = Matched(("backbone",))
    for convolution, norm in backbone.convolution_layers():
        _set(convolution, [_kernel(convolution, tensors, next(names, None))], matched)
        _set(norm, _statistics(tensors, next(names, None)), matched)
    return matched


def _kernel(layer, tensors: dict, name: str | None):
    """torch keeps kernels as OIHW, TensorFlow as HWIO, of depthwise convolutions as HWIM; None if
    there is none."""
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


# Reads pre-trained weights of TensorFlow checkpoints as Model Garden's trainer writes them.

# The head without `_classifier`, whose pointwise kernel and bias are of the classes of the old
# data.
HEAD_PARTS = ("_cls_convs", "_cls_norms", "_box_regressor", "_box_convs", "_box_norms")
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def transferable_parts(network) -> dict:
    """Part name to the trackable object that pre-trained weights may fill; of the head all but what
    knows classes."""
    import tensorflow as tf

    head = network.head
    kept = {name: getattr(head, name) for name in HEAD_PARTS}
    classifier = tf.train.Checkpoint(depthwise_kernel=head._classifier.depthwise_kernel)
    return {"backbone": network.backbone, "decoder": network.decoder,
            "head": tf.train.Checkpoint(_classifier=classifier, **kept)}


def load_checkpoint(network, prefix: Path) -> Matched:
    """Sets the variables of the network that have a tensor of the same place and shape; fills parts
    as `Matched` says.

    Raises DetectorError if there is no readable checkpoint, or none with a backbone.
    """
    import tensorflow as tf

    reader, nodes = _open(prefix)
    stored = {child.local_name for child in nodes[0].children}
    parts = {name: part for name, part in transferable_parts(network).items() if name in stored}
    if "backbone" not in parts:
        raise DetectorError(f"checkpoint without a backbone (it holds {', '.join(sorted(stored))}): {prefix}: use one "
                            "of a detector that Model Garden's trainer wrote")
    tensors = {}
    root = tf.train.Checkpoint(**parts)
    for number, thing in tf.train.CheckpointView(str(prefix)).match(root).items():
        if isinstance(thing, tf.Variable) and nodes[number].attributes:
            tensors[thing.ref()] = nodes[number].attributes[0].checkpoint_key
    matched = Matched(tuple(parts))
    for variable in _variables(root):
        key = tensors.get(variable.ref())
        value = None if key is None else reader.get_tensor(key)
        if matched.count(variable.name, tuple(variable.shape), None if value is None else value.shape):
            variable.assign(value)
    return matched


def restore(network, prefix: str, modules: str | list[str] = "all") -> None:
    """Sets what the checkpoint that `pretrained` wrote holds; `modules` may leave some of its parts
    out.

    Raises AssertionError if a variable of a part is missing in it.
    """
    import tensorflow as tf

    stored = {child.local_name for child in _open(Path(prefix))[1][0].children}
    wanted = stored if modules == "all" else stored & set(modules)
    parts = {name: part for name, part in transferable_parts(network).items() if name in wanted}
    tf.train.Checkpoint(**parts).read(prefix).expect_partial().assert_existing_objects_matched()


def checkpoint_in(folder: Path) -> Path:
    """Prefix of the checkpoint with the highest number in a folder and those below. DetectorError
    if there is none."""
    prefixes = [path.with_suffix("") for path in folder.rglob("*.index")]
    if not prefixes:
        raise DetectorError(f"no checkpoint (*.index): {folder}: name a folder, an archive or a prefix that has one")
    return max(prefixes, key=lambda path: (_number(path), str(path)))


def _number(prefix: Path) -> int:
    digits = prefix.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _open(prefix: Path):
    """(reader of tensors, nodes of the object graph; node 0 is the root)."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        graph = TrackableObjectGraph.FromString(reader.get_tensor(GRAPH))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DetectorError(f"not a checkpoint of TensorFlow 2 ({reason}): {prefix}: name the prefix before .index, "
                            "with its .data files beside it") from None
    return reader, graph.nodes


def _variables(root) -> list:
    import tensorflow as tf

    found = [thing for thing in tf.train.TrackableView(root).descendants() if isinstance(thing, tf.Variable)]
    return list({variable.ref(): variable for variable in found}.values())

"""Reads the tensors of a legacy `torch.save` file without torch and without running code from the file.

Layout (torch 1.x, `torch/serialization.py`): pickles of a magic number, a protocol number and system facts, a
pickled state dict whose storages are persistent ids, a pickled list of storage keys, then for each key an int64
count and the raw little-endian values.
"""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np

from scripts.pipeline.errors import DetectorError

MAGIC = 0x1950A86A20F9469CFC6C
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


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Name to array, in the file's order. Raises DetectorError if the file is not what it should be."""
    try:
        with open(path, "rb") as file:
            if _RestrictedUnpickler(file).load() != MAGIC:
                raise pickle.UnpicklingError("wrong magic number")
            _RestrictedUnpickler(file).load()
            _RestrictedUnpickler(file).load()
            reader = _RestrictedUnpickler(file)
            tensors = reader.load()
            storages = _read_storages(file, _RestrictedUnpickler(file).load(), reader.dtypes)
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError) as error:
        raise DetectorError(
            f"not a readable torch file of weights ({error}): {path}: install the package again"
        ) from None
    return {name: _view(storages[t.storage_key], t) for name, t in tensors.items() if isinstance(t, _LazyTensor)}


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
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape, strides).copy()

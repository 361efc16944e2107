"""Reads the tensors of a `torch.save` file without torch and without running code from the file.

Layouts (`torch/serialization.py`). Before torch 1.6: pickles of a magic number, a protocol number and system facts, a
pickled state dict whose storages are persistent ids, a pickled list of storage keys, then for each key an int64 count
and the raw little-endian values. Since then: a zip with the pickled state dict in NAME/data.pkl and the raw values of
each storage in NAME/data/KEY.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

from scripts.pipeline.errors import DetectorError

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
    """Name to array, in the file's order. Raises DetectorError if the file is not what it should be."""
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
    """A copy of the values of a tensor. ValueError if it reaches beyond its storage: the file may be anybody's."""
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if tensor.offset < 0 or min([0, *tensor.stride, *tensor.shape]) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape, strides).copy()

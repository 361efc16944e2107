"""Writes files as `torch.save` does, without torch: the layout before torch 1.6, and the zip since
then."""

import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Storage:
    def __init__(self, key: str, values: np.ndarray):
        self.key, self.values = key, np.ascontiguousarray(values, "<f4").ravel()


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, _Storage):
            return ("storage", sys.modules["torch"].FloatStorage, thing.key, "cpu",
                    len(thing.values))
        return None


class _Tensor:
    """Pickles as a call of torch's `_rebuild_tensor_v2`."""

    def __init__(self, storage: _Storage, shape: tuple[int, ...], stride: tuple[int, ...]):
        self.arguments = (storage, 0, shape, stride, False, {})

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def write_torch(path: Path, arrays: dict[str, np.ndarray], legacy: bool = False,
                stride: tuple | None = None) -> Path:
    """A state dict of `arrays`; `stride` (of every tensor, in values) instead of the right one
    makes a bad file."""
    storages = [_Storage(str(number), array) for number, array in enumerate(arrays.values())]
    tensors = {name: _Tensor(storage, array.shape,
                             stride or tuple(step // array.itemsize for step in array.strides))
               for (name, array), storage in zip(arrays.items(), storages, strict=True)}
    with _torch_modules():
        if legacy:
            _write_legacy(path, tensors, storages)
        else:
            _write_zip(path, tensors, storages)
    return path


def _write_legacy(path: Path, tensors: dict, storages: list[_Storage]) -> None:
    with path.open("wb") as file:
        for header in (MAGIC, PROTOCOL, {"little_endian": True}):
            pickle.dump(header, file, 2)
        _Pickler(file, 2).dump(tensors)
        pickle.dump([storage.key for storage in storages], file, 2)
        for storage in storages:
            file.write(np.int64(len(storage.values)).tobytes() + storage.values.tobytes())


def _write_zip(path: Path, tensors: dict, storages: list[_Storage]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("weights/data.pkl", "w") as file:
            _Pickler(file, 2).dump(tensors)
        for storage in storages:
            archive.writestr(f"weights/data/{storage.key}", storage.values.tobytes())


class _torch_modules:
    """The two names of torch that such a file mentions, for as long as it is written."""

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

        def _rebuild_tensor_v2(*_arguments):
            """Only its name is written."""

        _rebuild_tensor_v2.__module__ = "torch._utils"
        _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2
        self.patch.setitem(sys.modules, "torch", torch)
        self.patch.setitem(sys.modules, "torch._utils", utils)

    def __exit__(self, *_exception):
        self.patch.undo()

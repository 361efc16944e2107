"""Read files of weights without trusting what is inside: torch files, archives, checkpoints.

Needs neither torch nor TensorFlow.
"""

import gzip
import pickle
import shutil
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from scripts.core.text import DetectorError

# Tensors of a `torch.save` file, read without running code from the file.

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(MAGIC, 2)
STORAGE_DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8",
                  "LongStorage": "<i8", "IntStorage": "<i4"}


class _LazyTensor(NamedTuple):
    """What `_rebuild_tensor_v2` would make: a view into a storage that is read later."""

    storage_key: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


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
    """Return whether a file begins as `torch.save` writes it, in either layout."""
    if not path.is_file():
        return False
    if zipfile.is_zipfile(path):
        return True
    with open(path, "rb") as file:
        return file.read(len(LEGACY_START)) == LEGACY_START


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a torch file by name, in the file's order.

    Raises:
        DetectorError: The file is damaged, or not a state dict of tensors.
    """
    read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
    try:
        content, storages = read(path)
        if not isinstance(content, dict):
            raise ValueError("no state dict of tensors")
        tensors = {name: tensor for name, tensor in content.items()
                   if isinstance(tensor, _LazyTensor)}
        if not tensors:
            raise ValueError("no state dict of tensors")
        return {name: _view(storages[tensor.storage_key], tensor)
                for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError, IndexError,
            TypeError, AttributeError) as error:
        raise DetectorError(f"not a readable torch file of weights ({error}): {path}: use a state "
                            "dict that torch.save wrote; of a package, install it again") from None


def _read_legacy(path: Path):
    with open(path, "rb") as file:
        if _RestrictedUnpickler(file).load() != MAGIC:
            raise pickle.UnpicklingError("wrong magic number")
        _RestrictedUnpickler(file).load()  # The version of the protocol.
        _RestrictedUnpickler(file).load()  # The system that wrote it.
        reader = _RestrictedUnpickler(file)
        tensors = reader.load()
        return tensors, _read_storages(file, _RestrictedUnpickler(file).load(), reader.dtypes)


def _read_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickled = next((name for name in names if name.endswith("/data.pkl")), None)
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


def _view(storage: np.ndarray, tensor: _LazyTensor) -> np.ndarray:
    """Return a copy of the values of a tensor.

    Raises ValueError if it reaches beyond its storage: the file may be anybody's.
    """
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((size - 1) * step for size, step in steps)
    lowest = min([0, tensor.offset, *tensor.stride, *tensor.shape])
    if lowest < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in tensor.stride]
    values = np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape, strides)
    return values.copy()


# Archives with a checkpoint of TensorFlow.

# The largest archive of the zoo should hold about 40 MB: these bounds only stop what is no archive
# of weights.
MOST_BYTES, MOST_MEMBERS = 2 << 30, 10_000
GZIP = b"\x1f\x8b"
DAMAGED = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error)


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar, compressed or not."""
    return path.is_file() and tarfile.is_tarfile(path)


def require_weights(path: Path) -> None:
    """Read a compressed file to its checksum; look how any other file begins.

    Raises an error of DAMAGED for a damaged file, or one that holds no weights, such as a web page.
    """
    with path.open("rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    if compressed:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    elif not is_archive(path) and not is_torch_file(path):
        raise tarfile.ReadError("neither an archive nor a file of torch")


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of checkpoints (`*.index`, `*.data-*`) in a tar to `folder`, names kept.

    Raises:
        DetectorError: The archive is damaged, or holds absolute names, `..`, links, devices, or
            more than 2 GB.
    """
    members = total = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                members, total = members + 1, total + member.size
                _require_safe(member, members, total, archive)
                if member.isfile() and (member.name.endswith(".index") or ".data-" in member.name):
                    target = folder / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with tar.extractfile(member) as source, target.open("wb") as out:
                        shutil.copyfileobj(source, out)
    except DAMAGED as error:
        raise DetectorError(f"damaged archive ({error}): {archive}: delete it and get it again"
                            ) from None


def _require_safe(member: tarfile.TarInfo, members: int, total: int, archive: Path) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    reason = ""
    if name.is_absolute() or ".." in name.parts or ":" in member.name:
        reason = "leads out of the folder"
    elif not (member.isfile() or member.isdir()):
        reason = "is a link or a device"
    elif total > MOST_BYTES or members > MOST_MEMBERS:
        reason = f"is too much: over {MOST_BYTES >> 30} GB or {MOST_MEMBERS:,} files"
    if reason:
        raise DetectorError(f"{member.name!r} in it {reason}: {archive}: not unpacked; get the "
                            "weights elsewhere")


def checkpoint_in(folder: Path) -> Path:
    """Return the prefix of the checkpoint with the highest number in a folder and those below.

    Raises:
        DetectorError: There is none.
    """
    prefixes = [path.with_suffix("") for path in folder.rglob("*.index")]
    if not prefixes:
        raise DetectorError(f"no checkpoint (*.index): {folder}: name a folder, an archive or a "
                            "prefix that has one")
    return max(prefixes, key=lambda path: (_number(path), str(path)))


def _number(prefix: Path) -> int:
    digits = prefix.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1

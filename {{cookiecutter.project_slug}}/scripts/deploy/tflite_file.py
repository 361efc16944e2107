"""Any `.tflite` taken apart: its network as objects of the schema, its metadata, the files packed behind it.

LiteRT's and MediaPipe's schema modules read it; nothing is run, so a file with unknown operations is read as well.
"""

import contextlib
import functools
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.deploy.metadata_schema import FIELD, MODEL_IDENTIFIER, metadata_schema
from scripts.pipeline.errors import DetectorError

FAULTS = (struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
          MemoryError)
"""What the schema modules raise on bytes that are not what they should be: nothing checks a file beforehand."""


@dataclass(frozen=True)
class TfliteFile:
    """`network` is a `ModelT`, `metadata` a `ModelMetadataT` or None; `note` says why there is none, or what is lost.

    `files`: content of the packed files by name, such as `labels.txt`.
    """

    path: Path
    size_bytes: int
    network: Any
    metadata: Any
    note: str
    files: dict[str, bytes]


def read_tflite(path: Path) -> TfliteFile:
    """The parts of a `.tflite`. DetectorError when the file is missing, is no `.tflite`, or is cut off.

    Metadata that is empty or damaged is no reason to refuse a file: `note` then says so.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        advice = "name a .tflite file, such as one that `invoke tflite` made"
        raise DetectorError(f"cannot be opened ({error.strerror}): {path}: {advice}") from None
    if data[4:8] != MODEL_IDENTIFIER:
        raise DetectorError(f"not a .tflite file: {path}: name one, such as one that `invoke tflite` made")
    with whole(path):
        network = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
        if not network.subgraphs:
            raise ValueError("no graph")
        files = _packed_files(data)
    metadata, note = _metadata(network)
    missing = [name for name in associated_names(metadata) if name not in files]
    if missing and re.search(b"PK\x03\x04.{26}" + re.escape(missing[0].encode()), data, re.DOTALL):
        raise DetectorError(f"file is cut off in {missing[0]}: {path}: copy or download it again")
    if missing:
        note = f"named in the metadata, but not in the file: {', '.join(missing)}"
    return TfliteFile(Path(path), len(data), network, metadata, note, files)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns what the schema modules raise on a broken file into a refusal in one line."""
    try:
        yield
    except FAULTS as error:
        said = " ".join(str(error).split())[:80]
        raise DetectorError(f"file is damaged or cut off ({said}): {path}: copy or download it again") from None


def _packed_files(data: bytes) -> dict[str, bytes]:
    """The files of the zip at the end, none when there is no zip."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    # Beside its own, zipfile raises one for a compression it does not know and one for a file that asks for a password.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its packed files: {error}") from None


def _metadata(network) -> tuple[Any, str]:
    """The metadata object and "", or None and the reason."""
    entries = [entry for entry in network.metadata or [] if entry.name == FIELD]
    if not entries:
        return None, "none"
    try:
        packed = network.buffers[entries[0].buffer].data
        if packed is None or len(packed) == 0:
            return None, "empty"
        schema = metadata_schema()
        return schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(bytes(packed), 0)), ""
    except FAULTS:
        return None, "damaged: it cannot be read"


def associated_names(metadata) -> list[str]:
    """Names of the files that the metadata speaks of, of the whole model and of its tensors, each once."""
    graphs = (metadata.subgraphMetadata or []) if metadata else []
    tensors = [tensor for graph in graphs
               for tensor in [*(graph.inputTensorMetadata or []), *(graph.outputTensorMetadata or [])]]
    holders = [metadata, *graphs, *tensors] if metadata else []
    names = [decoded(file.name) for holder in holders for file in holder.associatedFiles or []]
    return list(dict.fromkeys(filter(None, names)))


def decoded(value: bytes | None) -> str:
    """A name of the schema as text; bytes that are no UTF-8 become replacement characters."""
    return (value or b"").decode("utf-8", "replace")


def dtype_name(number: int) -> str:
    """`float32`, `int8`, ... of a number of the schema's `TensorType`."""
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType).get(number, f"type {number}").lower()


def operation_name(network, operator) -> tuple[str, bool]:
    """The kind of an operation, such as `CONV_2D`, and whether it is a custom one, which then has its own name."""
    from ai_edge_litert import schema_py_generated as schema

    code = network.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # Old files know the second only, a single byte.
    if number == schema.BuiltinOperator.CUSTOM:
        return decoded(code.customCode) or "CUSTOM", True
    return _names(schema.BuiltinOperator).get(number, f"operation {number}"), False


@functools.cache
def _names(kind: type) -> dict[int, str]:
    """Names by number of an enumeration of the schema."""
    return {value: name for name, value in vars(kind).items() if not name.startswith("_")}

"""What a `.tflite` consists of: a network as a flatbuffer, metadata, files packed behind it.

The network and its metadata end where an uncompressed zip begins. Files in the zip can therefore be
renewed while every other byte stays. The schemas are those of LiteRT and of MediaPipe; the latter
are loaded from the files in its wheel, because importing the package starts its native library.
"""

import contextlib
import functools
import importlib.util
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers

from scripts.core.text import DetectorError

FIELD, MODEL_IDENTIFIER, METADATA_IDENTIFIER = b"TFLITE_METADATA", b"TFL3", b"M001"
LABELS = "labels.txt"

# The line of an id that the label map leaves out: the other ids keep their lines.
UNUSED = "???"

# What the schema modules raise on bytes that are not what they should be: they check nothing.
FAULTS = (struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
          RecursionError, MemoryError)


# The schemas.

@functools.cache
def metadata_schema():
    """Return MediaPipe's schema of the metadata."""
    return _mediapipe_module("metadata_schema_py_generated")


@functools.cache
def anchors_schema():
    """Return MediaPipe's schema of anchors and of the decoding of boxes."""
    return _mediapipe_module("object_detector_metadata_schema_py_generated")


def _mediapipe_module(name: str):
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise DetectorError("mediapipe is not installed: requirements.txt: "
                            "run `pip install --no-deps -r requirements.txt`")
    path = Path(package.submodule_search_locations[0]) / f"tasks/metadata/{name}.py"
    spec = importlib.util.spec_from_file_location(f"detector_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(table, identifier: bytes) -> bytes:
    """Return a table of the object interface as the bytes of a flatbuffer file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def unpacked(data: bytes):
    """Return the network in the bytes of a `.tflite` as a `ModelT` of LiteRT's schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))


# Reading any `.tflite`, also damaged ones and those of other tools.

@dataclass(frozen=True)
class TfliteFile:
    """The parts of a `.tflite`.

    `network` is a `ModelT`, `metadata` a `ModelMetadataT` or None. `note` says why there is no
    metadata, or what is missing from it. `files` holds the packed files by name.
    """

    path: Path
    size_bytes: int
    network: Any
    metadata: Any
    note: str
    files: dict[str, bytes]


def read_tflite(path: Path) -> TfliteFile:
    """Read the parts of a `.tflite`.

    Metadata that is empty or damaged does not stop the reading: `note` then says so.

    Raises:
        DetectorError: The file is missing, is no `.tflite`, or is cut off.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        advice = "name a .tflite file, such as one that `invoke tflite` made"
        raise DetectorError(f"cannot be opened ({error.strerror}): {path}: {advice}") from None
    if data[4:8] != MODEL_IDENTIFIER:
        raise DetectorError(f"not a .tflite file: {path}: name one, such as one that "
                            "`invoke tflite` made")
    with reporting_damage(path):
        network = unpacked(data)
        if not network.subgraphs:
            raise ValueError("no graph")
        files = _read_zip(data)
    metadata, note = _read_metadata(network)
    missing = [name for name in associated_names(metadata) if name not in files]
    # The beginning of a zip without its end: the file was not copied to its last byte.
    if missing and re.search(b"PK\x03\x04.{26}" + re.escape(missing[0].encode()), data, re.DOTALL):
        raise DetectorError(f"file is cut off in {missing[0]}: {path}: copy or download it again")
    if missing:
        note = f"named in the metadata, but not in the file: {', '.join(missing)}"
    return TfliteFile(Path(path), len(data), network, metadata, note, files)


@contextlib.contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Turn what the schema modules raise on a damaged file into a DetectorError of one line."""
    try:
        yield
    except FAULTS as error:
        reason = " ".join(str(error).split())[:80]
        raise DetectorError(f"file is damaged or cut off ({reason}): {path}: "
                            "copy or download it again") from None


def _read_zip(data: bytes) -> dict[str, bytes]:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    # NotImplementedError: unknown compression. RuntimeError: the file asks for a password.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
            RuntimeError) as error:
        raise ValueError(f"its packed files: {error}") from None


def _read_metadata(network) -> tuple[Any, str]:
    """Return the metadata object and "", or None and the reason."""
    entries = [entry for entry in network.metadata or [] if entry.name == FIELD]
    if not entries:
        return None, "none"
    try:
        content = network.buffers[entries[0].buffer].data
        if content is None or len(content) == 0:
            return None, "empty"
        schema = metadata_schema()
        found = schema.ModelMetadata.GetRootAsModelMetadata(bytes(content), 0)
        return schema.ModelMetadataT.InitFromObj(found), ""
    except FAULTS:
        return None, "damaged: it cannot be read"


def tensor_metadata(metadata, side: str) -> list:
    """Return the metadata of the tensors of the main graph; `side` is `input` or `output`."""
    graphs = (metadata.subgraphMetadata or []) if metadata else []
    return (getattr(graphs[0], f"{side}TensorMetadata") or []) if graphs else []


def associated_names(metadata) -> list[str]:
    """Return the names of the files that model, graphs and tensors name in their metadata."""
    graphs = (metadata.subgraphMetadata or []) if metadata else []
    tensors = [tensor for graph in graphs for side in ("input", "output")
               for tensor in getattr(graph, f"{side}TensorMetadata") or []]
    holders = [metadata, *graphs, *tensors] if metadata else []
    names = [decoded(file.name) for holder in holders for file in holder.associatedFiles or []]
    return list(dict.fromkeys(filter(None, names)))


def decoded(value: bytes | None) -> str:
    """Return a name of the schema as text; bytes that are no UTF-8 get replacement characters."""
    return (value or b"").decode("utf-8", "replace")


def dtype_name(number: int) -> str:
    """Return `float32`, `int8`, ... for a number of the schema's `TensorType`."""
    from ai_edge_litert import schema_py_generated as schema

    return enum_names(schema.TensorType).get(number, f"type {number}").lower()


def operation_name(network, operator) -> tuple[str, bool]:
    """Return the kind of an operation, such as `CONV_2D`, and whether it is a custom one.

    The kind of a custom operation is its own name.
    """
    from ai_edge_litert import schema_py_generated as schema

    code = network.operatorCodes[operator.opcodeIndex]
    # Old files have only the deprecated field, a single byte.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return decoded(code.customCode) or "CUSTOM", True
    return enum_names(schema.BuiltinOperator).get(number, f"operation {number}"), False


@functools.cache
def enum_names(kind: type) -> dict[int, str]:
    """Return the names of an enumeration of a schema by their numbers."""
    return {value: name for name, value in vars(kind).items() if not name.startswith("_")}


# The packed files, and `labels.txt` among them.

def with_files(network: bytes, files: dict[str, str]) -> bytes:
    """Return the network followed by an uncompressed zip, the only kind that MediaPipe reads."""
    buffer = io.BytesIO(network)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # Dated 1980: equal input gives equal bytes.
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode("utf-8"))
    return buffer.getvalue()


def split_files(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the network with its metadata, and the texts of the packed files by name."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data, {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = min((entry.header_offset for entry in archive.infolist()), default=len(data))
        return data[:start], {name: archive.read(name).decode() for name in archive.namelist()}


def packed_text(path: Path, name: str) -> str | None:
    """Return the text of a packed file; None without it, and for a folder or any other file."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode("utf-8") if name in archive.namelist() else None


def label_lines(names: dict[int, str]) -> list[str]:
    """Return the lines of `labels.txt` for a label map (ids from 1): line 0 is class 0, id 1."""
    return [names.get(number, UNUSED) for number in range(1, max(names) + 1)]


def labels_text(labels: list[str]) -> str:
    """Return the content of `labels.txt`: one class name a line, none for the background."""
    return "\n".join(labels) + "\n"


def parse_labels(text: str) -> list[str]:
    """Return the class names of a `labels.txt`.

    Only a line feed ends a line, since a name may hold other separators; the last may lack it.
    """
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n") if text.strip() else []

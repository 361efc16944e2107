"""The flatbuffer schemas of a `.tflite` and its metadata, and how tables become bytes.

MediaPipe's schemas are loaded from the files in its wheel: importing the package would start its
native library.
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

LOCATION_ORDER = (1, 0, 3, 2)
"""Where left, top, right and bottom stand in a row of the boxes tensor, which is ymin, xmin, ymax,
xmax."""


@functools.cache
def metadata_schema():
    """MediaPipe's schema of the metadata."""
    return _mediapipe("metadata_schema_py_generated")


@functools.cache
def anchors_schema():
    """MediaPipe's schema of anchors and of the decoding of boxes."""
    return _mediapipe("object_detector_metadata_schema_py_generated")


def _mediapipe(name: str):
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise DetectorError(
            "mediapipe is not installed: requirements.txt: run `pip install --no-deps -r requirements.txt`"
        )
    path = Path(package.submodule_search_locations[0]) / f"tasks/metadata/{name}.py"
    spec = importlib.util.spec_from_file_location(f"detector_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(table, identifier: bytes) -> bytes:
    """A table of the object interface as a flatbuffer file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def content(schema, kind: str, properties):
    """What a tensor holds: `kind` is the name of a table of properties."""
    table = schema.ContentT()
    table.contentPropertiesType = getattr(schema.ContentProperties, kind)
    table.contentProperties = properties
    return table


def boxes_content(schema):
    """The content of a tensor of boxes: edges as fractions of the image."""
    box = schema.BoundingBoxPropertiesT()
    box.index, box.type = list(LOCATION_ORDER), schema.BoundingBoxType.BOUNDARIES
    box.coordinateType = schema.CoordinateType.RATIO
    return content(schema, "BoundingBoxProperties", box)


def described(schema, texts: dict[str, str]) -> list:
    """Metadata of tensors: their names and what they hold."""
    tensors = []
    for name, text in texts.items():
        tensor = schema.TensorMetadataT()
        tensor.name, tensor.description = name, text
        tensor.content = content(schema, "FeatureProperties", schema.FeaturePropertiesT())
        tensors.append(tensor)
    return tensors


# Any `.tflite` taken apart: its network as objects of the schema, its metadata, the files packed
# behind it.

FAULTS = (struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
          MemoryError)
"""What the schema modules raise on bytes that are not what they should be: nothing checks a file
beforehand."""


@dataclass(frozen=True)
class TfliteFile:
    """`network` is a `ModelT`, `metadata` a `ModelMetadataT` or None; `note` says why there is
    none, or what is lost.

    `files`: content of the packed files by name, such as `labels.txt`.
    """

    path: Path
    size_bytes: int
    network: Any
    metadata: Any
    note: str
    files: dict[str, bytes]


def read_tflite(path: Path) -> TfliteFile:
    """The parts of a `.tflite`. DetectorError when the file is missing, is no `.tflite`, or is cut
    off.

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
    # Beside its own, zipfile raises one for a compression it does not know and one for a file that
    # asks for a password.
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
    """Names of the files that the metadata speaks of, of the whole model and of its tensors, each
    once."""
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
    """The kind of an operation, such as `CONV_2D`, and whether it is a custom one, which then has
    its own name."""
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

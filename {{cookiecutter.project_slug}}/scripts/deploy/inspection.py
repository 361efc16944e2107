"""What is in a `.tflite`, also of other tools, as plain values."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.core.files import sha256_file
from scripts.deploy.provenance import PROVENANCE
from scripts.deploy.tflite_file import (
    FIELD,
    decoded,
    dtype_name,
    enum_names,
    metadata_schema,
    operation_name,
    read_tflite,
    reporting_damage,
)
from scripts.deploy.third_party_classes import label_files

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
NO_ARITHMETIC = ("bool", "int32", "int64", "uint32", "uint64", "string", "resource", "variant")
"""Results whose type does not say in which numbers an operation computes, such as those of ARG_MAX
or SHAPE."""

ENUMS = {
    ("ImagePropertiesT", "colorSpace"): "ColorSpaceType",
    ("ContentT", "contentPropertiesType"): "ContentProperties",
    ("BoundingBoxPropertiesT", "type"): "BoundingBoxType",
    ("BoundingBoxPropertiesT", "coordinateType"): "CoordinateType",
    ("AssociatedFileT", "type"): "AssociatedFileType",
    ("ProcessUnitT", "optionsType"): "ProcessUnitOptions",
    ("ScoreCalibrationOptionsT", "scoreTransformation"): "ScoreTransformationType",
}


def inspection(path: Path) -> dict[str, Any]:
    """Return everything about a `.tflite` as plain values.

    What a file does not have is None or empty.

    Returns:
        `subgraphs` (inputs, outputs, operations), `signatures`, `weights`, `metadata` (every field
        that is set, or None) with `metadata_note`, packed `files`, the texts of some of them under
        `labels` and `provenance`, and further `entries`.

    Raises:
        DetectorError: The file is missing, is no `.tflite`, or is cut off.
    """
    file = read_tflite(path)
    with reporting_damage(path):
        network = file.network
        return _finite({
            "schema": 1, "file": Path(path).as_posix(), "bytes": file.size_bytes,
            "sha256": sha256_file(Path(path)), "version": network.version,
            "description": decoded(network.description),
            "subgraphs": [_subgraph(network, graph) for graph in network.subgraphs],
            "signatures": [_signature(network, signature)
                           for signature in network.signatureDefs or []],
            "weights": _weights(network), "metadata": _plain(file.metadata),
            "metadata_note": file.note,
            "files": [{"name": name, "bytes": len(content)}
                      for name, content in file.files.items()],
            "labels": label_files(file), "provenance": _provenance(file.files),
            "entries": _entries(network),
        })


# The network.

def _subgraph(network, graph) -> dict:
    return {
        "name": decoded(graph.name), "tensors": len(graph.tensors),
        "inputs": [_tensor(graph, index) for index in _listed(graph.inputs)],
        "outputs": [_tensor(graph, index) for index in _listed(graph.outputs)],
        "operations": _operations(network, graph),
    }


def _tensor(graph, index: int) -> dict:
    """Return an input or output; a side of the shape that is free is -1."""
    tensor = graph.tensors[index]
    free, shape = tensor.shapeSignature, _listed(tensor.shape)
    if free is not None and len(free) == len(shape):
        shape = _listed(free)
    return {"index": index, "name": decoded(tensor.name), "shape": shape,
            "dtype": dtype_name(tensor.type), "quantization": _quantization(tensor.quantization)}


def _quantization(values) -> dict | None:
    """Return scales, zero points and the axis that they run along.

    A real number is scale x (number - zero point).
    """
    if values is None or values.scale is None or len(values.scale) == 0:
        return None
    scale = [float(f"{value:.7g}") for value in values.scale]  # A float32 has no more digits.
    return {"scale": scale, "zero_point": _listed(values.zeroPoint),
            "axis": values.quantizedDimension if len(scale) > 1 else None}


def _operations(network, graph) -> list[dict]:
    """Return kinds of operations, the most frequent first, and how many run in which numbers."""
    runs_in: dict[tuple[str, bool], Counter] = {}
    for operator in graph.operators or []:
        kind = operation_name(network, operator)
        runs_in.setdefault(kind, Counter())[_numbers(network, graph, operator, kind[0])] += 1
    rows = [{"kind": name, "custom": custom, "count": counts.total(),
             "runs_in": dict(counts.most_common())}
            for (name, custom), counts in runs_in.items()]
    return sorted(rows, key=lambda row: (-row["count"], row["kind"]))


def _numbers(network, graph, operator, kind: str) -> str:
    """Return in which numbers an operation computes, by its result.

    Where the result is an index or a shape, what the operation reads says it.
    """
    read = [graph.tensors[index] for index in _listed(operator.inputs) if index >= 0]
    results = [dtype_name(graph.tensors[index].type)
               for index in _listed(operator.outputs) if index >= 0]
    result = results[0] if results else "none"
    if kind in CONVERSIONS and read:
        return f"{dtype_name(read[0].type)} to {result}"
    constant = [_buffer_bytes(network.buffers[tensor.buffer]) > 0 for tensor in read]
    dtypes = [dtype_name(tensor.type) for tensor in read]
    constants = {dtype for dtype, is_constant in zip(dtypes, constant, strict=True) if is_constant}
    activations = [dtype for dtype, is_constant in zip(dtypes, constant, strict=True)
                   if not is_constant]
    if result in NO_ARITHMETIC and activations:
        return activations[0]
    small = sorted(constants & {"int8", "uint8", "int4"})
    if result == "float32" and small and set(activations) == {"float32"}:
        return f"float32, {small[0]} weights"
    return result


def _buffer_bytes(buffer) -> int:
    """Return the size of the content, which stands behind the network in files of over 2 GB."""
    return len(buffer.data) if buffer.data is not None else int(buffer.size or 0)


def _weights(network) -> dict:
    """Return the bytes of all constants, each buffer counted once, and their share by dtype."""
    dtypes = {tensor.buffer: dtype_name(tensor.type)
              for graph in network.subgraphs for tensor in graph.tensors}
    sizes: Counter = Counter()
    for index, dtype in dtypes.items():
        sizes[dtype] += _buffer_bytes(network.buffers[index])
    total = sizes.total()
    return {"bytes": total, "by_dtype": {dtype: {"bytes": size, "share": round(size / total, 4)}
                                         for dtype, size in sizes.most_common() if size}}


def _signature(network, signature) -> dict:
    tensors = network.subgraphs[signature.subgraphIndex].tensors
    sides = {side: {decoded(entry.name): decoded(tensors[entry.tensorIndex].name)
                    for entry in getattr(signature, side) or []} for side in ("inputs", "outputs")}
    return {"key": decoded(signature.signatureKey), "subgraph": signature.subgraphIndex, **sides}


# Metadata and further entries.

def _plain(value: Any) -> Any:
    """Return an object of the metadata schema as dicts, lists, numbers and texts; without fields
    that are not set."""
    if isinstance(value, bytes):
        return decoded(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not hasattr(value, "__dict__"):
        return value
    kind, fields = type(value).__name__, {}
    for name, content in vars(value).items():
        if (kind, name) in ENUMS:
            enum = ENUMS[kind, name]
            names = enum_names(getattr(metadata_schema(), enum))
            fields[name] = names.get(content, f"{enum} {content}")
        elif content is not None:
            fields[name] = _plain(content)
    return fields


def _finite(value: Any) -> Any:
    """Return the same with None for infinity and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _provenance(files: dict[str, bytes]) -> Any:
    """Return what `provenance.json` says, which files of this project have; else None."""
    try:
        return json.loads(files[PROVENANCE])
    except (KeyError, ValueError):
        return None


def _entries(network) -> list[dict]:
    """Return further notes in the file, such as the oldest runtime that can read it."""
    rows = []
    for entry in network.metadata or []:
        if entry.name != FIELD:
            data = network.buffers[entry.buffer].data
            content = b"" if data is None else bytes(data)
            words = content.rstrip(b"\0")
            is_text = words.isascii() and words.decode().isprintable()
            rows.append({"name": decoded(entry.name), "bytes": len(content),
                         "text": words.decode() if is_text else ""})
    return rows


def _listed(values) -> list[int]:
    return [] if values is None else [int(value) for value in values]

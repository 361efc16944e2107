"""What `inspection` found, as text on 100 columns; nothing is left out, long lines are wrapped."""

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts.core.files import sha256_file
from scripts.core.text import counted
from scripts.deploy.metadata import PROVENANCE
from scripts.deploy.schema_tables import (
    FIELD,
    decoded,
    dtype_name,
    metadata_schema,
    operation_name,
    read_tflite,
    whole,
)
from scripts.deploy.third_party import label_files

COLUMNS = 100
SHOWN_SCALES = 3
UNIONS = (("contentPropertiesType", "contentProperties"), ("optionsType", "options"))
"""Pairs of fields of the metadata schema: the kind of the second stands in the first."""
GENERAL = ("name", "description", "version", "author", "license", "minParserVersion")


def inspection_text(found: dict[str, Any]) -> str:
    """The text of the dict that `inspection` returns."""
    lines = [found["file"], *_wrapped(f"{_megabytes(found['bytes'])}, schema version {found['version']}"),
             *_wrapped(f"sha256 {found['sha256']}")]
    lines += _wrapped(f"description: {found['description']}") if found["description"] else []
    for number, graph in enumerate(found["subgraphs"]):
        several = len(found["subgraphs"]) > 1
        title = f"subgraph {number}: {graph['name'] or 'without a name'}"
        lines += ["", *_wrapped(title, indent=0)] if several else []
        lines += _graph_lines(graph)
    lines += ["", *_signature_lines(found["signatures"]), "", *_weight_lines(found)]
    lines += ["", *_metadata_lines(found)]
    return "\n".join(line.rstrip() for line in lines)


def _graph_lines(graph: dict) -> Iterator[str]:
    for side in ("inputs", "outputs"):
        yield from ("", f"{side}: {len(graph[side]) or 'none'}")
        for tensor in graph[side]:
            yield from _wrapped(f"{_form(tensor)}  {tensor['name'] or 'without a name'} (tensor {tensor['index']})")
    yield from ("", *_wrapped(_operations_line(graph["operations"]), indent=0))
    kinds = [row["kind"] + (" (custom)" if row["custom"] else "") for row in graph["operations"]]
    for kind, row in zip(kinds, graph["operations"], strict=True):
        numbers = ", ".join(f"{count:,} in {numbers}" if " to " not in numbers else f"{count:,} {numbers}"
                            for numbers, count in row["runs_in"].items())
        yield from _wrapped(f"{row['count']:5,}  {kind:<{min(48, max(map(len, kinds)))}}  {numbers}", hanging=11)


def _operations_line(rows: list[dict]) -> str:
    """How many operations there are, how many are custom, and in which numbers they run."""
    runs_in: Counter = Counter()
    for row in rows:
        for numbers, count in row["runs_in"].items():
            runs_in["between types" if " to " in numbers else f"in {numbers}"] += count
    custom = sum(row["count"] for row in rows if row["custom"])
    shown = ", ".join(f"{count:,} {numbers}" for numbers, count in runs_in.most_common())
    return f"operations: {runs_in.total():,} of {counted(len(rows), 'kind')}, {custom:,} custom; {shown or 'none'}"


def _form(tensor: dict) -> str:
    """Shape, dtype and quantization of a tensor."""
    shape = "[" + ", ".join(map(str, tensor["shape"])) + "]"
    quantization = tensor["quantization"]
    if quantization is None:
        return f"{shape:<18} {tensor['dtype']}"
    if len(quantization["scale"]) == 1:
        scale, points = _flat(quantization["scale"][0]), quantization["zero_point"]
        return f"{shape:<18} {tensor['dtype']}, scale {scale}, zero point {points[0] if points else 0}"
    shown = ", ".join(map(_flat, quantization["scale"][:SHOWN_SCALES]))
    return (f"{shape:<18} {tensor['dtype']}, {len(quantization['scale'])} scales along axis {quantization['axis']} "
            f"({shown}, ...)")


def _signature_lines(signatures: list[dict]) -> Iterator[str]:
    yield f"signatures: {len(signatures) or 'none'}"
    for signature in signatures:
        yield from _wrapped(f"{signature['key'] or 'without a name'} (subgraph {signature['subgraph']})")
        for side, arrow in (("inputs", "->"), ("outputs", "<-")):
            for name, tensor in signature[side].items():
                yield from _wrapped(f"{side[:-1]:<6}  {name} {arrow} {tensor}", indent=4)


def _weight_lines(found: dict) -> Iterator[str]:
    weights = found["weights"]
    share = 100 * weights["bytes"] / found["bytes"]
    yield f"weights: {_megabytes(weights['bytes'])}, {share:.0f} % of the file"
    for dtype, part in weights["by_dtype"].items():
        yield f"  {100 * part['share']:5.1f} %  {dtype:<8}  {_megabytes(part['bytes'])}"


def _metadata_lines(found: dict) -> Iterator[str]:
    metadata = found["metadata"]
    yield from _wrapped(f"metadata: {found['metadata_note'] or 'yes'}", indent=0)
    if metadata is not None:
        yield from _fields({field: metadata.get(field) or "-" for field in GENERAL}, 2)
        for graph in metadata.get("subgraphMetadata") or []:
            yield from _graph_metadata(graph)
        yield from _fields(_without(metadata, *GENERAL, "subgraphMetadata"), 2)
    for name, lines in found["labels"].items():
        yield from ("", *_wrapped(f"labels in {name} ({len(lines):,}): {', '.join(lines)}", indent=0, hanging=2))
    if found["provenance"] is not None:
        provenance = found["provenance"]
        yield from ("", "provenance")
        yield from _fields(provenance if isinstance(provenance, dict) else {"value": provenance}, 2)
    yield from _list("packed files", found["files"])
    yield from _list("further entries", found["entries"])


def _graph_metadata(graph: dict) -> Iterator[str]:
    for side, key in (("input", "inputTensorMetadata"), ("output", "outputTensorMetadata")):
        for tensor in graph.get(key) or []:
            yield from _wrapped(f"{side} '{tensor.get('name', '')}'")
            yield from _fields(_without(tensor, "name"), 4)
    yield from _fields(_without(graph, "inputTensorMetadata", "outputTensorMetadata"), 2)


def _without(fields: dict, *names: str) -> dict:
    return {key: value for key, value in fields.items() if key not in names and value not in ("", [], None)}


def _fields(fields: dict, indent: int) -> Iterator[str]:
    """One field a line, the names in a column."""
    shown = {name: text for name, value in fields.items() if (text := _flat(value))}
    width = max(map(len, shown), default=0) + 1
    for name, text in shown.items():
        yield from _wrapped(f"{name + ':':<{width}} {text}", indent, indent + width + 1)


def _list(title: str, rows: list[dict]) -> Iterator[str]:
    if rows:
        yield from ("", f"{title}: {len(rows)}")
        for row in rows:
            yield from _wrapped(f"{row['bytes']:9,} bytes  {row['name']}  {row.get('text', '')}")


def _flat(value: Any) -> str:
    """Nested dicts and lists on one line: `NormalizationOptions (mean [127.5], std [127.5])`."""
    if isinstance(value, dict):
        for kind, content in UNIONS:
            if kind in value:
                rest = _without(value, kind, content)
                inside = _flat(value.get(content) or {})
                return f"{value[kind]}{f' ({inside})' * bool(inside)}{', ' + _flat(rest) if rest else ''}"
        return ", ".join(f"{key} {_flat(one)}" for key, one in _without(value).items())
    if isinstance(value, list):
        if any(isinstance(one, dict) for one in value):
            return "; ".join(map(_flat, value))
        return "[" + ", ".join(map(_flat, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(line: str, indent: int = 2, hanging: int = 6) -> Iterable[str]:
    """The line in pieces of at most COLUMNS; control characters, which could write over the
    terminal, are spelt out."""
    safe = "".join(c if c.isprintable() else " " if c in "\n\r\t" else c.encode("unicode_escape").decode()
                   for c in line)
    return textwrap.wrap(safe, COLUMNS, initial_indent=" " * indent, subsequent_indent=" " * hanging,
                         break_on_hyphens=False) or [""]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"


# `invoke inspect`: what is in a `.tflite`, anybody's: as a dict for programs, which
# `inspection_text.py` prints.

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
NO_ARITHMETIC = ("bool", "int32", "int64", "uint32", "uint64", "string", "resource", "variant")
"""Results whose type does not say in which numbers an operation computes, such as those of ARG_MAX
or SHAPE."""
ENUMS = {
    ("ImagePropertiesT", "colorSpace"): "ColorSpaceType", ("ContentT", "contentPropertiesType"): "ContentProperties",
    ("BoundingBoxPropertiesT", "type"): "BoundingBoxType", ("AssociatedFileT", "type"): "AssociatedFileType",
    ("BoundingBoxPropertiesT", "coordinateType"): "CoordinateType",
    ("ProcessUnitT", "optionsType"): "ProcessUnitOptions",
    ("ScoreCalibrationOptionsT", "scoreTransformation"): "ScoreTransformationType",
}


def inspect(path: Path, as_json: bool = False) -> str:
    """What `inspection` finds, on 100 columns or as JSON. DetectorError for a file that is no whole
    `.tflite`."""
    found = inspection(path)
    return json.dumps(found, indent=1, ensure_ascii=False) if as_json else inspection_text(found)


def inspection(path: Path) -> dict[str, Any]:
    """Everything about a `.tflite` as plain values; what a file does not have is None or empty.

    `subgraphs` (inputs, outputs, operations), `signatures`, `weights`, `metadata` (every field that
    is set, or None and `metadata_note`), `files` packed into it, their texts under `labels` and
    `provenance`, and further `entries`. DetectorError when the file is missing, is no `.tflite`, or
    is cut off.
    """
    file = read_tflite(path)
    with whole(path):
        network = file.network
        return _finite({
            "schema": 1, "file": Path(path).as_posix(), "bytes": file.size_bytes, "sha256": sha256_file(Path(path)),
            "version": network.version, "description": decoded(network.description),
            "subgraphs": [_subgraph(network, graph) for graph in network.subgraphs],
            "signatures": [_signature(network, one) for one in network.signatureDefs or []],
            "weights": _weights(network), "metadata": _plain(file.metadata), "metadata_note": file.note,
            "files": [{"name": name, "bytes": len(content)} for name, content in file.files.items()],
            "labels": label_files(file), "provenance": _provenance(file.files), "entries": _entries(network),
        })


def _subgraph(network, graph) -> dict:
    return {
        "name": decoded(graph.name), "tensors": len(graph.tensors),
        "inputs": [_tensor(graph, index) for index in _listed(graph.inputs)],
        "outputs": [_tensor(graph, index) for index in _listed(graph.outputs)],
        "operations": _operations(network, graph),
    }


def _tensor(graph, index: int) -> dict:
    """One input or output; a side of the shape that is free is -1."""
    tensor = graph.tensors[index]
    free = tensor.shapeSignature
    shape = free if free is not None and len(free) == len(_listed(tensor.shape)) else tensor.shape
    return {"index": index, "name": decoded(tensor.name), "shape": _listed(shape), "dtype": dtype_name(tensor.type),
            "quantization": _quantization(tensor.quantization)}


def _quantization(values) -> dict | None:
    """Scales, zero points and the axis that they run along; a real number is scale x (number - zero
    point)."""
    if values is None or values.scale is None or len(values.scale) == 0:
        return None
    scale = [float(f"{one:.7g}") for one in values.scale]  # A float32 has no more digits.
    return {"scale": scale, "zero_point": _listed(values.zeroPoint),
            "axis": values.quantizedDimension if len(scale) > 1 else None}


def _operations(network, graph) -> list[dict]:
    """Kinds of operations, the most frequent first, and how many of each run in which numbers."""
    runs_in: dict[tuple[str, bool], Counter] = {}
    for operator in graph.operators or []:
        kind = operation_name(network, operator)
        runs_in.setdefault(kind, Counter())[_numbers(network, graph, operator, kind[0])] += 1
    rows = [{"kind": name, "custom": custom, "count": counts.total(), "runs_in": dict(counts.most_common())}
            for (name, custom), counts in runs_in.items()]
    return sorted(rows, key=lambda row: (-row["count"], row["kind"]))


def _numbers(network, graph, operator, kind: str) -> str:
    """In which numbers an operation computes, by its result; where that is an index or a shape, by
    what it reads."""
    read = [graph.tensors[index] for index in _listed(operator.inputs) if index >= 0]
    results = [dtype_name(graph.tensors[index].type) for index in _listed(operator.outputs) if index >= 0]
    result = results[0] if results else "none"
    if kind in CONVERSIONS and read:
        return f"{dtype_name(read[0].type)} to {result}"
    constants = {dtype_name(tensor.type) for tensor in read if _is_constant(network, tensor)}
    activations = [dtype_name(tensor.type) for tensor in read if not _is_constant(network, tensor)]
    if result in NO_ARITHMETIC and activations:
        return activations[0]
    small = sorted(constants & {"int8", "uint8", "int4"})
    if result == "float32" and small and set(activations) == {"float32"}:
        return f"float32, {small[0]} weights"
    return result


def _is_constant(network, tensor) -> bool:
    return _buffer_bytes(network.buffers[tensor.buffer]) > 0


def _buffer_bytes(buffer) -> int:
    """Size of the content, which may stand behind the network in files of more than 2 GB."""
    return len(buffer.data) if buffer.data is not None else int(buffer.size or 0)


def _weights(network) -> dict:
    """Bytes of all constants, each buffer counted once, and their share by dtype."""
    dtypes = {tensor.buffer: dtype_name(tensor.type) for graph in network.subgraphs for tensor in graph.tensors}
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


def _plain(value: Any) -> Any:
    """An object of the metadata schema as dicts, lists, numbers and texts, without fields that are
    not set."""
    if isinstance(value, bytes):
        return decoded(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not hasattr(value, "__dict__"):
        return value
    kind, fields = type(value).__name__, {}
    for name, one in vars(value).items():
        if (kind, name) in ENUMS:
            fields[name] = _enum(ENUMS[kind, name], one)
        elif one is not None:
            fields[name] = _plain(one)
    return fields


def _finite(value: Any) -> Any:
    """The same with None for infinity and what is no number, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _enum(kind: str, number: int) -> str:
    names = {value: name for name, value in vars(getattr(metadata_schema(), kind)).items() if name[0] != "_"}
    return names.get(number, f"{kind} {number}")


def _provenance(files: dict[str, bytes]) -> Any:
    """What `provenance.json` of our own files says, None elsewhere."""
    try:
        return json.loads(files[PROVENANCE])
    except (KeyError, ValueError):
        return None


def _entries(network) -> list[dict]:
    """Further notes in the file, such as the oldest runtime that can read it."""
    rows = []
    for entry in network.metadata or []:
        if entry.name != FIELD:
            data = network.buffers[entry.buffer].data
            content = b"" if data is None else bytes(data)
            words = content.rstrip(b"\0")
            shown = words.decode() if words.isascii() and words.decode().isprintable() else ""
            rows.append({"name": decoded(entry.name), "bytes": len(content), "text": shown})
    return rows


def _listed(values) -> list[int]:
    return [] if values is None else [int(value) for value in values]

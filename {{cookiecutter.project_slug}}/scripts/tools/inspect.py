"""`invoke inspect`: what is in a `.tflite`, also of other tools, as text or JSON.

Nothing is left out of the text; long lines are wrapped at 100 columns.
"""

import json
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts.core.files import sha256_file
from scripts.core.text import aligned, counted
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

COLUMNS = 100
SHOWN_SCALES = 3
# Pairs of fields of the metadata schema: the kind of the second stands in the first.
UNIONS = (("contentPropertiesType", "contentProperties"), ("optionsType", "options"))
GENERAL = ("name", "description", "version", "author", "license", "minParserVersion")

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
# Results whose type does not say in which numbers an operation computes, such as those of ARG_MAX
# or SHAPE.
NO_ARITHMETIC = ("bool", "int32", "int64", "uint32", "uint64", "string", "resource", "variant")

ENUMS = {
    ("ImagePropertiesT", "colorSpace"): "ColorSpaceType",
    ("ContentT", "contentPropertiesType"): "ContentProperties",
    ("BoundingBoxPropertiesT", "type"): "BoundingBoxType",
    ("BoundingBoxPropertiesT", "coordinateType"): "CoordinateType",
    ("AssociatedFileT", "type"): "AssociatedFileType",
    ("ProcessUnitT", "optionsType"): "ProcessUnitOptions",
    ("ScoreCalibrationOptionsT", "scoreTransformation"): "ScoreTransformationType",
}


def inspect(path: Path, as_json: bool = False) -> str:
    """Return what `inspection` finds, as text or as JSON."""
    found = inspection(path)
    return json.dumps(found, indent=1, ensure_ascii=False) if as_json else inspection_text(found)


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
    # Conversions are told by both sides.
    if kind in CONVERSIONS and read:
        return f"{dtype_name(read[0].type)} to {result}"
    constant = [_buffer_bytes(network.buffers[tensor.buffer]) > 0 for tensor in read]
    dtypes = [dtype_name(tensor.type) for tensor in read]
    constants = {dtype for dtype, is_constant in zip(dtypes, constant, strict=True) if is_constant}
    activations = [dtype for dtype, is_constant in zip(dtypes, constant, strict=True)
                   if not is_constant]
    if result in NO_ARITHMETIC and activations:
        return activations[0]
    # Dynamic-range files keep weights in int8 and compute in float32.
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


# The text.

def inspection_text(found: dict[str, Any]) -> str:
    """Return the text of the dict that `inspection` returns."""
    size = f"{_megabytes(found['bytes'])}, schema version {found['version']}"
    lines = [found["file"], *_wrapped(size), *_wrapped(f"sha256 {found['sha256']}")]
    lines += _wrapped(f"description: {found['description']}") if found["description"] else []
    several = len(found["subgraphs"]) > 1
    for number, graph in enumerate(found["subgraphs"]):
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
            yield from _wrapped(f"{_form(tensor)}  {tensor['name'] or 'without a name'} "
                                f"(tensor {tensor['index']})")
    rows = graph["operations"]
    yield from ("", *_wrapped(_operations_line(rows), indent=0))
    kinds = [(row["kind"] + (" (custom)" if row["custom"] else ""), f"{row['count']:,}")
             for row in rows]
    for kind, row in zip(_table(kinds), rows, strict=True):
        numbers = ", ".join(f"{count:,} {'' if ' to ' in numbers else 'in '}{numbers}"
                            for numbers, count in row["runs_in"].items())
        yield from _wrapped(f"{kind}  {numbers}", hanging=11)


def _operations_line(rows: list[dict]) -> str:
    """Return how many operations there are, how many are custom, and in which numbers they run."""
    runs_in: Counter = Counter()
    for row in rows:
        for numbers, count in row["runs_in"].items():
            runs_in["between types" if " to " in numbers else f"in {numbers}"] += count
    custom = sum(row["count"] for row in rows if row["custom"])
    shown = ", ".join(f"{count:,} {numbers}" for numbers, count in runs_in.most_common())
    return (f"operations: {runs_in.total():,} of {counted(len(rows), 'kind')}, {custom:,} custom; "
            f"{shown or 'none'}")


def _form(tensor: dict) -> str:
    """Return shape, dtype and quantization of a tensor."""
    shape = "[" + ", ".join(map(str, tensor["shape"])) + "]"
    quantization = tensor["quantization"]
    text = f"{shape:<18} {tensor['dtype']}"
    if quantization is None:
        return text
    scales, offsets = quantization["scale"], quantization["zero_point"]
    if len(scales) == 1:
        return f"{text}, scale {_flat(scales[0])}, zero point {offsets[0] if offsets else 0}"
    shown = ", ".join(map(_flat, scales[:SHOWN_SCALES]))
    return f"{text}, {len(scales)} scales along axis {quantization['axis']} ({shown}, ...)"


def _signature_lines(signatures: list[dict]) -> Iterator[str]:
    yield f"signatures: {len(signatures) or 'none'}"
    for signature in signatures:
        key = signature["key"] or "without a name"
        yield from _wrapped(f"{key} (subgraph {signature['subgraph']})")
        for side, arrow in (("inputs", "->"), ("outputs", "<-")):
            for name, tensor in signature[side].items():
                yield from _wrapped(f"{side[:-1]:<6}  {name} {arrow} {tensor}", indent=4)


def _weight_lines(found: dict) -> Iterator[str]:
    weights = found["weights"]
    share = 100 * weights["bytes"] / found["bytes"]
    yield f"weights: {_megabytes(weights['bytes'])}, {share:.0f} % of the file"
    for line in _table([(dtype, f"{100 * part['share']:.1f} %", _megabytes(part["bytes"]))
                        for dtype, part in weights["by_dtype"].items()]):
        yield f"  {line}"


def _metadata_lines(found: dict) -> Iterator[str]:
    metadata, provenance = found["metadata"], found["provenance"]
    yield from _wrapped(f"metadata: {found['metadata_note'] or 'yes'}", indent=0)
    if metadata is not None:
        yield from _fields({field: metadata.get(field) or "-" for field in GENERAL}, 2)
        for graph in metadata.get("subgraphMetadata") or []:
            yield from _graph_metadata(graph)
        yield from _fields(_without(metadata, *GENERAL, "subgraphMetadata"), 2)
    for name, labels in found["labels"].items():
        title = f"labels in {name} ({len(labels):,})"
        yield from ("", *_wrapped(f"{title}: {', '.join(labels)}", indent=0, hanging=2))
    if provenance is not None:
        fields = provenance if isinstance(provenance, dict) else {"value": provenance}
        yield from ("", "provenance", *_fields(fields, 2))
    for title, key in (("packed files", "files"), ("further entries", "entries")):
        if found[key]:
            yield from ("", f"{title}: {len(found[key])}")
            sizes = _table([(row["name"], f"{row['bytes']:,} bytes") for row in found[key]])
            for size, row in zip(sizes, found[key], strict=True):
                yield from _wrapped(f"{size}  {row.get('text', '')}")


def _graph_metadata(graph: dict) -> Iterator[str]:
    for side, key in (("input", "inputTensorMetadata"), ("output", "outputTensorMetadata")):
        for tensor in graph.get(key) or []:
            yield from _wrapped(f"{side} '{tensor.get('name', '')}'")
            yield from _fields(_without(tensor, "name"), 4)
    yield from _fields(_without(graph, "inputTensorMetadata", "outputTensorMetadata"), 2)


def _without(fields: dict, *names: str) -> dict:
    return {key: value for key, value in fields.items()
            if key not in names and value not in ("", [], None)}


def _fields(fields: dict, indent: int) -> Iterator[str]:
    """Yield one field a line, the names in a column."""
    shown = {name: text for name, value in fields.items() if (text := _flat(value))}
    width = max(map(len, shown), default=0) + 1
    for name, text in shown.items():
        yield from _wrapped(f"{name + ':':<{width}} {text}", indent, indent + width + 1)


def _flat(value: Any) -> str:
    """Return dicts and lists on one line: `NormalizationOptions (mean [127.5], std [127.5])`."""
    if isinstance(value, dict):
        for kind, content in UNIONS:
            if kind in value:
                inside, rest = _flat(value.get(content) or {}), _without(value, kind, content)
                text = f"{value[kind]} ({inside})" if inside else value[kind]
                return f"{text}, {_flat(rest)}" if rest else text
        return ", ".join(f"{key} {_flat(content)}" for key, content in _without(value).items())
    if isinstance(value, list):
        if any(isinstance(item, dict) for item in value):
            return "; ".join(map(_flat, value))
        return "[" + ", ".join(map(_flat, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    return aligned([[_safe(cell) for cell in row] for row in rows]).split("\n") if rows else []


def _wrapped(line: str, indent: int = 2, hanging: int = 6) -> Iterable[str]:
    """Return the line in pieces of at most COLUMNS."""
    return textwrap.wrap(_safe(line), COLUMNS, initial_indent=" " * indent,
                         subsequent_indent=" " * hanging, break_on_hyphens=False) or [""]


def _safe(text: str) -> str:
    """Return the text with control characters spelt out, which could write over the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode()
                   for c in re.sub("[\n\r\t]", " ", text))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"

"""What `inspection` found, as text on 100 columns; nothing is left out, long lines are wrapped."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from scripts.pipeline.words import counted

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
    """Shape, dtype and quantisation of a tensor."""
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
    """The line in pieces of at most COLUMNS; control characters, which could write over the terminal, are spelt out."""
    safe = "".join(c if c.isprintable() else " " if c in "\n\r\t" else c.encode("unicode_escape").decode()
                   for c in line)
    return textwrap.wrap(safe, COLUMNS, initial_indent=" " * indent, subsequent_indent=" " * hanging,
                         break_on_hyphens=False) or [""]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"

"""`invoke inspect`: what is in a `.tflite`, also of other tools, as text or JSON.

Nothing is left out of the text; long lines are wrapped at 100 columns.
"""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts.core.text import aligned, counted
from scripts.deploy.inspection import inspection

COLUMNS = 100
SHOWN_SCALES = 3
UNIONS = (("contentPropertiesType", "contentProperties"), ("optionsType", "options"))
"""Pairs of fields of the metadata schema: the kind of the second stands in the first."""
GENERAL = ("name", "description", "version", "author", "license", "minParserVersion")


def inspect(path: Path, as_json: bool = False) -> str:
    """Return what `inspection` finds, as text or as JSON."""
    found = inspection(path)
    return json.dumps(found, indent=1, ensure_ascii=False) if as_json else inspection_text(found)


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

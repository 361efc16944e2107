"""The table of `invoke benchmark`: its report for people, AP in points."""

import textwrap
from typing import Any

from scripts.pipeline.words import counted

COLUMNS = 100
NAME_COLUMNS = 30


def benchmark_table(report: dict[str, Any]) -> str:
    """A line for each file, then what has to be known about it. `report` is the content of benchmark.json."""
    threads = [str(count) for count in report["threads"]]
    rows = [(_variant_name(name, row, report["ship"]), row) for name, row in report["variants"].items()]
    rows += [(row["file"], row) for row in report["against"]]
    width = min(NAME_COLUMNS, max(len(name) for name, _ in rows))
    above = " " * (width + 24) + "".join(f"{_threads(count):>16}" for count in threads) + f"{'memory MB':>16}"
    heads = f"{'file':<{width}}{'MB':>8}{'AP':>8}{'AP50':>8}"
    heads += f"{'median':>9}{'p90':>7}" * len(threads) + f"{'model':>9}{'all':>7}"
    lines = [above, heads, *(_line(name, row, width, threads) for name, row in rows), "", *_legend(report)]
    for row in report["against"]:
        lines += ["", row["file"], *_wrapped(_shared(row)), *(line for note in row["notes"] for line in _wrapped(note))]
    lines += [line for note in report["notes"] for line in ("", *_wrapped(note, 0))]
    return "\n".join(line.rstrip() for line in lines)


def _variant_name(name: str, row: dict, ship: str) -> str:
    return name + (" (ships)" if name == ship and row["passed"] else "") + ("" if row["passed"] else " (rejected)")


def _line(name: str, row: dict, width: int, threads: list[str]) -> str:
    shown = name if len(name) <= width else "..." + name[3 - width:]
    cells = f"{shown:<{width}}{row['bytes'] / 1e6:8.2f}{_points(row['AP']):>8}{_points(row['AP50']):>8}"
    for count in threads:
        times = row["latency_ms"][count]
        cells += f"{times['median']:9.2f}{times['p90']:7.2f}"
    memory = row["memory"]
    return cells + f"{memory['model_bytes'] / 1e6:9.1f}{memory['process_bytes'] / 1e6:7.1f}"


def _legend(report: dict) -> list[str]:
    runs = report["rounds"] * report["runs"]
    where = f"{counted(report['rounds'], 'round')}, in turns, on {counted(report['machine']['cores'], 'core')}"
    text = (f"Milliseconds of LiteRT alone, {runs:,} runs each in {where}. "
            "Memory: the peak of a fresh process, and what the model added to it. "
            f"AP: {report['split']} split, in points. All figures: tflite/benchmark.json.")
    return textwrap.wrap(text, COLUMNS)


def _shared(row: dict) -> str:
    """AP on the classes that both sides know, where these are not all."""
    if not row["classes"]["only_ours"]:
        return ""
    ours = row["shipped_AP_shared"]
    beside = "" if ours is None else f"; our shipped file {_points(ours)}"
    return f"AP on shared classes {_points(row['AP_shared'])}{beside}"


def _threads(count: str) -> str:
    return f"{count} thread{'' if count == '1' else 's'}, ms"


def _points(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _wrapped(text: str, indent: int = 2) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))

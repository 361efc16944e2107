"""The table of `invoke benchmark`: its report for people, AP in points."""

import textwrap
from typing import Any

from scripts.pipeline.words import counted

COLUMNS = 100
NAME_COLUMNS = 30
UNSTEADY = 1.5
"""Medians of rounds on an idle machine differ by a tenth or so."""


def benchmark_table(report: dict[str, Any]) -> str:
    """A line for each file, then what has to be known about it. `report` is the content of benchmark.json."""
    threads = [str(count) for count in report["threads"]]
    rows = [(_variant_name(name, row, report["ship"]), row) for name, row in report["variants"].items()]
    rows += [(row["file"], row) for row in report["against"]]
    room = COLUMNS - len(_cells(rows[0][1], threads))
    width = min(room, NAME_COLUMNS, max(len(name) for name, _ in rows))
    above = " " * (width + 20) + "".join(f"{_threads(count):>15}" for count in threads) + f"{'memory, MB':>13}"
    heads = f"{'file':<{width}}{'MB':>7}{'AP':>6}{'AP50':>7}"
    heads += f"{'median':>8}{'p90':>7}" * len(threads) + f"{'model':>7}{'all':>6}"
    lines = [above, heads, *(_line(name, row, width, threads) for name, row in rows), "", *_legend(report)]
    for row in report["against"]:
        lines += ["", row["file"], *_wrapped(_shared(row)), *(line for note in row["notes"] for line in _wrapped(note))]
    lines += [line for note in report["notes"] for line in ("", *_wrapped(note, 0))]
    return "\n".join(line.rstrip() for line in lines)


def _variant_name(name: str, row: dict, ship: str) -> str:
    return name + (" (ships)" if name == ship and row["passed"] else "") + ("" if row["passed"] else " (rejected)")


def _line(name: str, row: dict, width: int, threads: list[str]) -> str:
    shown = name if len(name) <= width else "..." + name[3 - width:]
    return f"{shown:<{width}}" + _cells(row, threads)


def _cells(row: dict, threads: list[str]) -> str:
    text = f"{row['bytes'] / 1e6:7.2f}{_points(row['AP']):>6}{_points(row['AP50']):>7}"
    for count in threads:
        times = row["latency_ms"][count]
        text += f"{times['median']:8.2f}{times['p90']:7.2f}"
    memory = row["memory"]
    return text + f"{memory['model_bytes'] / 1e6:7.1f}{memory['process_bytes'] / 1e6:6.1f}"


def _legend(report: dict) -> list[str]:
    runs = report["rounds"] * report["runs"]
    where = f"{counted(report['rounds'], 'round')}, in turns, on {counted(report['machine']['cores'], 'core')}"
    text = (f"Milliseconds of LiteRT alone, {runs:,} runs each in {where}. "
            "Memory: the peak of a fresh process, and what the model added to it. "
            f"AP: {report['split']} split, in points. All figures: tflite/benchmark.json.")
    return [*textwrap.wrap(text, COLUMNS), *_unsteady(report)]


def _unsteady(report: dict) -> list[str]:
    """A warning where the rounds of a file differ much: then something else ran on the machine."""
    times = [one for row in [*report["variants"].values(), *report["against"]] for one in row["latency_ms"].values()]
    ratio = max(one["highest_round"] / one["lowest_round"] for one in times)
    if ratio < UNSTEADY:
        return []
    return textwrap.wrap(f"The slowest round took up to {ratio:.1f} times the fastest: something else ran on the "
                         "machine; measure again when it is idle.", COLUMNS)


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

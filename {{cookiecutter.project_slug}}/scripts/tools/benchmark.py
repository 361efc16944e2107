"""The table of `invoke benchmark`: its report for people, AP in points."""

import json
import os
import platform
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.core.files import sha256_file, write_json
from scripts.core.text import DetectorError, counted
from scripts.deploy.measure import Contestant, measure, third_party_contestants
from scripts.deploy.reader import latency, open_detector
from scripts.evaluation.detections import decode_rgb, record_images
from scripts.steps.tflite import METRICS

COLUMNS = 100
NAME_COLUMNS = 30
UNSTEADY = 1.5
"""Medians of rounds on an idle machine differ by a tenth or so."""


def benchmark_table(report: dict[str, Any]) -> str:
    """A line for each file, then what has to be known about it. `report` is the content of
    benchmark.json."""
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


# `invoke benchmark`: size, time, memory and AP of every variant, and of detectors of others beside
# them.

BENCHMARK = "tflite/benchmark.json"
THREADS = (1, 2, 4)
RUNS = 30
"""Runs of a file with one number of threads in one round."""


@dataclass(frozen=True)
class Benchmark:
    """The content of `tflite/benchmark.json`; its text is the table."""

    report: dict[str, Any]

    def __str__(self) -> str:
        return benchmark_table(self.report)


@dataclass(frozen=True)
class ThirdParty:
    """Files of others and how to read them: see `ThirdPartyDetector`."""

    paths: Sequence[Path] = ()
    labels: Path | None = None
    mean: str = ""
    std: str = ""


def benchmark(root: Path, settings, third_party: ThirdParty, rounds: int) -> Benchmark:
    """Measures the variants of `tflite/metrics.json` and the third-party files, and writes
    `tflite/benchmark.json`.

    Latency is of LiteRT alone, on as many test images as there are rounds, in processes of their
    own. DetectorError when there is nothing to measure, or a third-party file is no detector that
    can be scored.
    """
    if rounds < 1:
        raise DetectorError(f"--rounds {rounds} measures nothing: arguments: give 1 or more, such as 5")
    metrics, notes = _read_metrics(root), []
    contestants = _variants(root, metrics, notes)
    others = third_party_contestants(root, third_party, settings, contestants.get(metrics["ship"]))
    threads = [count for count in THREADS if count <= cores()]
    _measure(root, [*contestants.values(), *others], threads, rounds)
    report = {
        "schema": 1, "split": metrics["split"], "ship": metrics["ship"], "threads": threads, "rounds": rounds,
        "runs": RUNS, "machine": {"cores": cores(), "machine": platform.machine(), "system": platform.system()},
        "variants": {name: _figures(one) for name, one in contestants.items()},
        "against": [_figures(one) for one in others], "notes": notes}
    write_json(root / BENCHMARK, report)
    return Benchmark(report)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_metrics(root: Path) -> dict:
    try:
        return json.loads((root / METRICS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"no file was measured yet: {METRICS} is missing: run `invoke tflite`") from None
    except ValueError:
        raise DetectorError(f"not JSON: {METRICS}: run `invoke forget tflite`, then `invoke tflite`") from None


def _variants(root: Path, metrics: dict, notes: list[str]) -> dict[str, Contestant]:
    """The variants whose files are there; of one that is not what was scored, AP is left out.
    `notes` names both."""
    found = {}
    for name, row in metrics["variants"].items():
        path = root / row["file"]
        if not path.is_file():
            notes.append(f"{row['file']} is missing and left out: run `invoke forget tflite`, then `invoke tflite`")
            continue
        figures = {"file": row["file"], "sha256": sha256_file(path), "bytes": path.stat().st_size,
                   "AP": row["AP"], "AP50": row["AP50"], "passed": row["passed"]}
        if figures["sha256"] != row["sha256"]:
            figures |= {"AP": None, "AP50": None}
            notes.append(f"{row['file']} is not the file that was scored: AP is left out: run `invoke tflite`")
        found[name] = Contestant(path, open_detector(path), figures)
    if not found:
        raise DetectorError("no variant is there: tflite/: run `invoke forget tflite`, then `invoke tflite`")
    return found


def _measure(root: Path, contestants: list[Contestant], threads: list[int], rounds: int) -> None:
    """Each file with each number of threads, once a round; a round has an image of its own."""
    images = _images(root, rounds)
    tasks = [(number, count, one) for number in range(rounds) for count in threads for one in contestants]
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.npy"
        for number, count, one in tqdm(tasks, desc="benchmark", disable=None, leave=False):
            np.save(values, one.detector.pixels(images[number % len(images)]))
            one.measured.setdefault(count, []).append(measure(one.path, values, count, RUNS))


def _images(root: Path, count: int) -> list:
    """Up to `count` test images, spread over the split."""
    encoded = [image.encoded for image in record_images(root, "test")]
    if not encoded:
        raise DetectorError("no images in split test: annotations/test_labels.csv: add images or change "
                            "[split] in detector.toml, then invoke organize")
    step = max(1, len(encoded) // count)
    return [decode_rgb(one) for one in encoded[::step][:count]]


def _figures(one: Contestant) -> dict:
    """The part of a file in the report, with `latency_ms` by threads and the most `memory` of all
    its processes."""
    times, flat = {}, [each for parts in one.measured.values() for each in parts]
    for count, parts in one.measured.items():
        medians = [latency(part.times_ms)["median"] for part in parts]
        pooled = latency([each for part in parts for each in part.times_ms])
        times[str(count)] = {**pooled, "lowest_round": min(medians), "highest_round": max(medians)}
    memory = {"process_bytes": max(part.peak_bytes for part in flat),
              "model_bytes": max(part.model_bytes for part in flat)}
    return {**one.figures, "latency_ms": times, "memory": memory}

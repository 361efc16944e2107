"""`invoke benchmark`: size, time, memory and AP of every variant, and of detectors of others beside them.

Files are measured in turns, round after round, so that a busy minute of the machine hits all of them alike.
"""

import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.deploy.benchmark_table import benchmark_table
from scripts.deploy.clock import Measured, measure
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file, write_json

BENCHMARK = "tflite/benchmark.json"
THREADS = (1, 2, 4)
RUNS = 30
"""Runs of a file with one number of threads in one round."""


@dataclass
class Contestant:
    """A file to be measured: `figures` is its part of the report, `detector` reads pictures for it."""

    path: Path
    detector: Any
    figures: dict[str, Any]
    measured: dict[int, list[Measured]] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """The content of `tflite/benchmark.json`; its text is the table."""

    report: dict[str, Any]

    def __str__(self) -> str:
        return benchmark_table(self.report)


@dataclass(frozen=True)
class Foreign:
    """Files of others and how to read them: see `ForeignDetector`."""

    paths: Sequence[Path] = ()
    labels: Path | None = None
    mean: str = ""
    std: str = ""


def benchmark(root: Path, settings, foreign: Foreign, rounds: int) -> Benchmark:
    """Measures the variants of `tflite/metrics.json` and the foreign files, and writes `tflite/benchmark.json`.

    Latency is of LiteRT alone, on as many test pictures as there are rounds, in processes of their own. DetectorError
    when there is nothing to measure, or a foreign file is no detector that can be scored.
    """
    from scripts.deploy.foreign_score import foreign_contestants

    if rounds < 1:
        raise DetectorError(f"--rounds {rounds} measures nothing: arguments: give 1 or more, such as 5")
    metrics, notes = _read_metrics(root), []
    contestants = _variants(root, metrics, notes)
    others = foreign_contestants(root, foreign, settings, contestants.get(metrics["ship"]))
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
    from scripts.deploy.tflite import METRICS

    try:
        return json.loads((root / METRICS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"no file was measured yet: {METRICS} is missing: run `invoke tflite`") from None
    except ValueError:
        raise DetectorError(f"not JSON: {METRICS}: run `invoke forget tflite`, then `invoke tflite`") from None


def _variants(root: Path, metrics: dict, notes: list[str]) -> dict[str, Contestant]:
    """The variants whose files are there; of one that is not what was scored, AP is left out. `notes` names both."""
    from scripts.deploy.reader import open_detector

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
    """Each file with each number of threads, once a round; a round has a picture of its own."""
    import numpy as np
    from tqdm import tqdm

    pictures = _pictures(root, rounds)
    tasks = [(number, count, one) for number in range(rounds) for count in threads for one in contestants]
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.npy"
        for number, count, one in tqdm(tasks, desc="benchmark", disable=None, leave=False):
            np.save(values, one.detector.pixels(pictures[number % len(pictures)]))
            one.measured.setdefault(count, []).append(measure(one.path, values, count, RUNS))


def _pictures(root: Path, count: int) -> list:
    """Up to `count` test pictures, spread over the split."""
    from scripts.evaluation.groundtruth import decode_rgb, record_pictures

    encoded = [picture.encoded for picture in record_pictures(root, "test")]
    if not encoded:
        raise DetectorError("no pictures in split test: annotations/test_labels.csv: add pictures or change "
                            "[split] in detector.toml, then invoke organize")
    step = max(1, len(encoded) // count)
    return [decode_rgb(one) for one in encoded[::step][:count]]


def _figures(one: Contestant) -> dict:
    """The part of a file in the report, with `latency_ms` by threads and the most `memory` of all its processes."""
    from scripts.deploy.reader import latency

    times, flat = {}, [each for parts in one.measured.values() for each in parts]
    for count, parts in one.measured.items():
        medians = [latency(part.times_ms)["median"] for part in parts]
        pooled = latency([each for part in parts for each in part.times_ms])
        times[str(count)] = {**pooled, "lowest_round": min(medians), "highest_round": max(medians)}
    memory = {"process_bytes": max(part.peak_bytes for part in flat),
              "model_bytes": max(part.model_bytes for part in flat)}
    return {**one.figures, "latency_ms": times, "memory": memory}

"""`invoke benchmark`: size, time, memory and AP of every variant, and of third-party files.

All files are measured in turns, on the same images, each run in a process of its own: what else
runs on the machine meanwhile hits all of them alike.
"""

import json
import os
import platform
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.core.files import sha256_file, write_json
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, aligned, counted, points
from scripts.data.label_map import read_label_map
from scripts.deploy.measure import measure, measured_figures
from scripts.deploy.reader import TfliteDetector, open_detector
from scripts.deploy.third_party import ThirdPartyDetector
from scripts.deploy.third_party_classes import ClassMap, class_map, shown_names
from scripts.evaluation.detections import (
    coco_groundtruth,
    decode_rgb,
    detector_detections,
    record_images,
)
from scripts.evaluation.metrics import score

THREADS = (1, 2, 4)
# Runs of a file with one number of threads in one round.
RUNS = 30
COLUMNS, NAME_COLUMNS = 100, 30
# Medians of rounds on an idle machine differ by a tenth or so.
UNSTEADY = 1.5


@dataclass(frozen=True)
class ThirdParty:
    """Files of other tools and how to read them: see `ThirdPartyDetector`."""

    paths: Sequence[Path] = ()
    labels: Path | None = None
    mean: str = ""
    std: str = ""


@dataclass
class Contestant:
    """A file to be measured; `figures` is its part of the report, `measured` is by threads."""

    path: Path
    detector: TfliteDetector
    figures: dict[str, Any]
    measured: dict[int, list] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """The content of `tflite/benchmark.json`; its text is the table."""

    report: dict[str, Any]

    def __str__(self) -> str:
        return benchmark_table(self.report)


def benchmark(root: Path, settings, third_party: ThirdParty, rounds: int) -> Benchmark:
    """Measure the variants of `tflite/metrics.json` and third-party files.

    Writes `tflite/benchmark.json`. Latency is of LiteRT alone, on as many test images as there are
    rounds. Raises DetectorError when there is nothing to measure, or a third-party file is no
    detector that can be scored.
    """
    if rounds < 1:
        raise DetectorError(f"--rounds {rounds} measures nothing: arguments: give 1 or more, such "
                            "as 5")
    # What there is to measure.
    layout, notes = Layout(root), []
    metrics = _read_metrics(layout)
    variants = _variants(root, metrics, notes)

    records, others = layout.records("test"), []
    if third_party.paths:
        names, shipped = read_label_map(layout.label_map), variants.get(metrics["ship"])
        others = _third_party_files(third_party, records, names, shipped, settings)

    # Time and memory; more threads than cores would only wait for each other.
    threads = [count for count in THREADS if count <= cores()]
    _measure([*variants.values(), *others], _spread_images(records, rounds), threads, rounds)
    report = {
        "schema": 1, "split": metrics["split"], "ship": metrics["ship"], "threads": threads,
        "rounds": rounds, "runs": RUNS, "notes": notes,
        "machine": {"cores": cores(), "machine": platform.machine(), "system": platform.system()},
        "variants": {name: file.figures | measured_figures(file.measured)
                     for name, file in variants.items()},
        "against": [file.figures | measured_figures(file.measured) for file in others]}
    write_json(layout.tflite / "benchmark.json", report)
    return Benchmark(report)


def cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_metrics(layout: Layout) -> dict:
    path = layout.tflite_metrics
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"no file was measured yet: {layout.shown(path)} is missing: "
                            "run `invoke tflite`") from None
    except ValueError:
        raise DetectorError(f"not JSON: {layout.shown(path)}: run `invoke forget tflite`, then "
                            "`invoke tflite`") from None


def _variants(root: Path, metrics: dict, notes: list[str]) -> dict[str, Contestant]:
    """Open the variants whose files are there; `notes` gets a line for each that is not.

    A file that is not the one that was scored has no AP.
    """
    found = {}
    for name, row in metrics["variants"].items():
        path = root / row["file"]
        if not path.is_file():
            notes.append(f"{row['file']} is missing and left out: run `invoke forget tflite`, then "
                         "`invoke tflite`")
            continue
        figures = _file_figures(path, row["file"]) | {key: row[key] for key in
                                                      ("AP", "AP50", "passed")}
        if figures["sha256"] != row["sha256"]:
            figures |= {"AP": None, "AP50": None}
            notes.append(f"{row['file']} is not the file that was scored: AP is left out: "
                         "run `invoke tflite`")
        found[name] = Contestant(path, open_detector(path), figures)
    if not found:
        raise DetectorError("no variant is there: tflite/: run `invoke forget tflite`, then "
                            "`invoke tflite`")
    return found


def _file_figures(path: Path, shown: str) -> dict:
    return {"file": shown, "sha256": sha256_file(path), "bytes": path.stat().st_size}


# Third-party files.

def _third_party_files(third_party: ThirdParty, records: list[Path], names: dict[int, str],
                       shipped: Contestant | None, settings) -> list[Contestant]:
    """Open and score third-party files on the test split, whose classes are `names` by id."""
    # All are opened before the first is scored: a wrong one stops at once.
    files = [_open(path, third_party, names, settings) for path in third_party.paths]
    groundtruth = coco_groundtruth(records, names)

    def scored(detect: Callable, classes: ClassMap) -> dict:
        images = tqdm(record_images(records), desc="scoring", total=len(groundtruth["images"]),
                      disable=None, leave=False)
        found = detector_detections(images, detect, settings.evaluate.max_detections)
        return _ap_figures(score(groundtruth, found), classes)

    for file, classes in files:
        unscored: Counter = Counter()
        detect = classes.detect(file.detector, settings.evaluate.score_threshold, unscored)
        file.figures |= scored(detect, classes)
        shipped_ap = None
        if classes.only_in_project and shipped is not None:
            # It misses classes: only on the shared ones can the two be compared.
            shipped_ap = scored(shipped.detector.detect, classes)["AP_shared"]
        file.figures |= {
            "shipped_AP_shared": shipped_ap,
            "notes": [*file.detector.notes, *classes.notes(unscored)],
            "classes": {"shared": list(classes.shared), "only_in_file": list(classes.only_in_file),
                        "only_in_project": list(classes.only_in_project),
                        "detections_not_scored": dict(unscored.most_common())}}
    return [file for file, _ in files]


def _open(path: Path, third_party: ThirdParty, names: dict[int, str],
          settings) -> tuple[Contestant, ClassMap]:
    detector = ThirdPartyDetector(path, settings.tflite.threads, third_party.mean, third_party.std,
                                  third_party.labels)
    classes = class_map(detector.labels, names)
    if not classes.ids:
        raise DetectorError(
            f"none of its {len(detector.labels)} classes ({shown_names(detector.labels)}) is one "
            f"of the project ({shown_names(list(names.values()))}): {path}: --labels FILE can name "
            "its classes in the words of the project")
    return Contestant(path, detector, _file_figures(path, path.as_posix())), classes


def _ap_figures(metrics: dict, classes: ClassMap) -> dict:
    """Return AP and AP50 over all classes of the project, and AP over the shared ones."""
    shared = [metrics["per_class"][name]["AP"] for name in classes.shared]
    defined = [ap for ap in shared if ap is not None]
    return {"AP": metrics["AP"], "AP50": metrics["AP50"],
            "AP_shared": round(sum(defined) / len(defined), 6) if defined else None}


# Time and memory.

def _spread_images(records: list[Path], count: int) -> list:
    """Return up to `count` images, spread over the records: uint8 [height, width, 3]."""
    encoded = [image.encoded for image in record_images(records)]
    if not encoded:
        raise DetectorError("no images in split test: annotations/test_labels.csv: add images or "
                            "change [split] in detector.toml, then invoke organize")
    # Decoded are only those that are taken.
    step = max(1, len(encoded) // count)
    return [decode_rgb(data) for data in encoded[::step][:count]]


def _measure(files: list[Contestant], images: list, threads: list[int], rounds: int) -> None:
    """Run each file with each number of threads, once a round; a round has an image of its own."""
    runs = [(images[number % len(images)], count, file)
            for number in range(rounds) for count in threads for file in files]
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.npy"
        for image, count, file in tqdm(runs, desc="benchmark", disable=None, leave=False):
            np.save(values, file.detector.pixels(image))
            file.measured.setdefault(count, []).append(measure(file.path, values, count, RUNS))


# The table.

def benchmark_table(report: dict[str, Any]) -> str:
    """Return a line for each file, then what has to be known; `report` is benchmark.json."""
    threads = [str(count) for count in report["threads"]]
    rows = [(_variant_name(name, row, report["ship"]), row)
            for name, row in report["variants"].items()]
    rows += [(row["file"], row) for row in report["against"]]
    heads = ["MB", "AP", "AP50", *(head for count in threads for head in (f"{count} thr.", "p90")),
             "model", "all"]
    cells = [heads, *(_cells(row, threads) for _, row in rows)]
    room = min(NAME_COLUMNS, COLUMNS - 2 - max(map(len, aligned(cells, 0).split("\n"))))
    names = ["file", *(name if len(name) <= room else "..." + name[3 - room:] for name, _ in rows)]
    table = aligned([[name, *row] for name, row in zip(names, cells, strict=True)])
    lines = [table, "", *_legend(report)]
    for row in report["against"]:
        lines += ["", row["file"], *_wrapped(_shared(row), 2)]
        lines += [line for note in row["notes"] for line in _wrapped(note, 2)]
    lines += [line for note in report["notes"] for line in ("", *_wrapped(note))]
    return "\n".join(lines)


def _variant_name(name: str, row: dict, ship: str) -> str:
    if not row["passed"]:
        return f"{name} (rejected)"
    return f"{name} (ships)" if name == ship else name


def _cells(row: dict, threads: list[str]) -> list[str]:
    times = [row["latency_ms"][count] for count in threads]
    memory = row["memory"]
    return [f"{row['bytes'] / 1e6:.2f}", points(row["AP"], "-"), points(row["AP50"], "-"),
            *(f"{milliseconds[key]:.2f}" for milliseconds in times for key in ("median", "p90")),
            f"{memory['model_bytes'] / 1e6:.1f}", f"{memory['process_bytes'] / 1e6:.1f}"]


def _legend(report: dict) -> list[str]:
    where = (f"{counted(report['rounds'], 'round')}, in turns, on "
             f"{counted(report['machine']['cores'], 'core')}")
    lines = _wrapped(
        f"Milliseconds of LiteRT alone, {report['rounds'] * report['runs']:,} runs each in "
        f"{where}: the median by number of threads (thr.), and the 90th percentile. model, "
        "all: megabytes of memory that the model added to a fresh process, and its peak. "
        f"AP: {report['split']} split, in points. All figures: tflite/benchmark.json.")
    # Where the rounds of a file differ much, something else ran on the machine.
    files = [*report["variants"].values(), *report["against"]]
    ratio = max(times["highest_round"] / times["lowest_round"]
                for row in files for times in row["latency_ms"].values())
    if ratio >= UNSTEADY:
        lines += _wrapped(f"The slowest round took up to {ratio:.1f} times the fastest: something "
                          "else ran on the machine; measure again when it is idle.")
    return lines


def _shared(row: dict) -> str:
    """Return AP on the classes that both sides know, where these are not all."""
    if not row["classes"]["only_in_project"]:
        return ""
    text = f"AP on shared classes {points(row['AP_shared'], '-')}"
    if row["shipped_AP_shared"] is not None:
        text += f"; the shipped file {points(row['shipped_AP_shared'], '-')}"
    return text


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=" " * indent,
                         subsequent_indent=" " * (indent + 2))

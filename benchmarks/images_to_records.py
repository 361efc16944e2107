"""Seconds from label files and images to `.record` files, ours beside the tutorial's way, in turns.

python -m benchmarks.images_to_records [--count 2000] [--runs 5] [--profile]

Each run is a process of its own. Imports are not counted. Ours are the steps `csv` and `records` on
a folder that `organize` has filled; they write more keys, verify the images and read every file
back.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drawn import CLASSES, SHARES, draw_set
from tools.bake import TEMPLATE, bake

SIZE_PX = (500, 375)


def main() -> None:
    """Draw, organize, then print the medians of all runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--profile", action="store_true", help="also print where our time goes, in one more run")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, folder = options.child
        return print(json.dumps(_timed(way, Path(folder), options.profile)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_set(folder / "source", options.count, SIZE_PX)
        bake(folder, project_slug="project", source="folder")
        _call("prepare", folder)
        runs = {"tutorial": [], "ours": []}
        for turn in range(options.runs + 1):
            for way, found in runs.items():
                result = _call(way, folder)
                found += [result] if turn else []  # the first one only warms the disk cache
        _report(options.count, runs)
        if options.profile:
            _call("ours", folder, "--profile")


def _call(way: str, folder: Path, *more: str) -> dict:
    line = [
        sys.executable, "-m", "benchmarks.images_to_records", "--child", way, str(folder), *more]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        line, stdout=subprocess.PIPE, text=True, cwd=TEMPLATE, env=environment, check=True)
    *shown, last = done.stdout.strip().splitlines()
    print("\n".join(shown), end="\n" if shown else "")
    return json.loads(last)


def _report(count: int, runs: dict[str, list[dict]]) -> None:
    """Medians. Processor time is what is left to compare when something else ran on this machine.
    """
    print(
        "            wall s (least to most)   csv  records  processor s   ms an image   found in the files")
    medians = {}
    for way, found in runs.items():
        middle = {key: statistics.median(one[key] for one in found)
                  for key in ("seconds", "csv", "records", "cpu_s")}
        medians[way] = middle
        spread = f"{min(one['seconds'] for one in found):.2f} to {max(one['seconds'] for one in found):.2f}"
        print(f"{way:<9} {middle['seconds']:7.2f} ({spread})      {middle['csv']:6.2f}   {middle['records']:6.2f}"
              f"   {middle['cpu_s']:8.2f}      {1000 * middle['seconds'] / count:8.2f}"
              f"       {found[0]['images']:,} images, {found[0]['boxes']:,} boxes")  # fmt: skip
    for key, text in (("seconds", "wall"), ("cpu_s", "processor")):
        print(
            f"ours is {medians['tutorial'][key] / medians['ours'][key]:.1f} times as fast ({text} time)")


def _timed(way: str, folder: Path, profile: bool) -> dict:
    """Run one way in this process; seconds by step, and what a reader finds in the files."""
    sys.path.insert(0, str(folder / "project"))
    if way == "prepare":
        return _prepare(folder)
    steps = _tutorial(folder) if way == "tutorial" else _ours(folder)
    profiler = _profiler() if profile else None
    seconds, cpu_s = {}, time.process_time()
    for name, step in steps.items():
        started_s = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - started_s
    cpu_s = time.process_time() - cpu_s
    if profiler:
        profiler.disable()
        profiler.print_stats("tottime")
    from scripts.data.examples import count_records

    out = folder / ("by_the_tutorial" if way == "tutorial" else "project/annotations")
    counts = [count_records(path) for path in sorted(out.glob("*.record*"))]
    return {"seconds": sum(seconds.values()), **seconds, "cpu_s": cpu_s,
            "images": sum(one for one, _ in counts),
            "boxes": sum(one for _, one in counts)}  # fmt: skip


def _profiler():
    import cProfile

    profiler = cProfile.Profile()
    profiler.enable()
    return profiler


def _prepare(folder: Path) -> dict:
    from scripts.core.settings import load_settings
    from scripts.steps.labelmap import labelmap
    from scripts.steps.organize import organize

    root = folder / "project"
    settings = load_settings(root, {"INVOKE_SOURCE_PATH": (folder / "source").as_posix()})
    started_s = time.perf_counter()
    organize(root, settings.source, settings.demo, settings.split)
    seconds = time.perf_counter() - started_s
    labelmap(root, list(CLASSES))
    (folder / "by_the_tutorial").mkdir()
    return {"seconds": seconds}


def _tutorial(folder: Path) -> dict:
    import pandas  # noqa: F401
    import tensorflow as tf  # noqa: F401
    from PIL import Image  # noqa: F401

    from benchmarks.by_the_tutorial import csv_to_record, xml_to_csv

    out, ids = folder / "by_the_tutorial", {
        name: number for number, name in enumerate(CLASSES, start=1)}

    def tables():
        for split in SHARES:
            xml_to_csv(folder / "source" / split, out / f"{split}_labels.csv")

    def records():
        for split in SHARES:
            csv_to_record(out / f"{split}_labels.csv", folder / "source" / split,
                          out / f"{split}.record", ids)

    return {"csv": tables, "records": records}


def _ours(folder: Path) -> dict:
    import tensorflow as tf  # noqa: F401
    from scripts.steps.records import records
    from scripts.steps.tables import tables

    root = folder / "project"
    return {"csv": lambda: tables(root), "records": lambda: records(root)}


if __name__ == "__main__":
    main()

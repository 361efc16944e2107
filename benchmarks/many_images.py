"""Time and peak memory of organize, check, labelmap, csv and records on many small images.

python -m benchmarks.many_images [--count 100000] [--out FOLDER] [--profile STEP]

Each step is a process of its own. Its peak is that of the process; beside it that of the largest
worker, and how many there can be. `--out` keeps the drawn images (they take a minute or two for
100,000) and what became of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drawn import draw_set
from tools.bake import TEMPLATE, bake

SIZE_PX = (64, 64)
STEPS = ("organize", "check", "labelmap", "csv", "records")


def main() -> None:
    """Draw what is missing, then run and print each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="folder to keep")
    parser.add_argument("--profile", choices=STEPS, help="print where the time of this step goes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return print(
            json.dumps(_timed(options.child[0], Path(options.child[1]), bool(options.profile))))
    if options.out:
        return _run(options.out.resolve(), options)
    with tempfile.TemporaryDirectory() as name:
        _run(Path(name), options)


def _run(folder: Path, options) -> None:
    started_s = time.perf_counter()
    source = folder / f"source_{options.count}"
    if not source.is_dir():
        draw_set(source.with_name("partial"), options.count, SIZE_PX)
        source.with_name("partial").rename(source)
    shutil.rmtree(folder / "project", ignore_errors=True)
    bake(folder, project_slug="project", source="folder")
    ready_s = time.perf_counter() - started_s
    print(
        f"{options.count:,} images of {SIZE_PX[0]} x {SIZE_PX[1]} pixels, ready after {ready_s:.0f} s")
    print("step          wall s  processor s  ms an image  peak MB  of a worker  what it said")
    for step in STEPS:
        found = _call(step, folder, source, ["--profile", step] if step == options.profile else [])
        each_ms = 1000 * found["seconds"] / options.count
        print(f"{step:<10} {found['seconds']:9.1f} {found['cpu_s']:12.1f} {each_ms:13.3f}"
              f" {found['peak_mb']:8.0f} {found['worker_mb']:12.0f}  {found['said'][:90]}",
              flush=True)  # fmt: skip


def _call(step: str, folder: Path, source: Path, more: list[str]) -> dict:
    line = [sys.executable, "-m", "benchmarks.many_images", "--child", step, str(folder), *more]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
                                "INVOKE_SOURCE_PATH": source.as_posix()}  # fmt: skip
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, cwd=TEMPLATE, env=environment)
    if done.returncode:
        sys.exit(done.stdout + f"{step} failed")
    *shown, last = done.stdout.strip().splitlines()
    if more:
        print("\n".join(shown))
    return json.loads(last)


def _timed(step: str, folder: Path, profile: bool) -> dict:
    import cProfile
    import resource

    project = folder / "project"
    sys.path.insert(0, str(project))
    body = _body(step, project)
    profiler = cProfile.Profile() if profile else None
    started_s, cpu_s = time.perf_counter(), _processor_s()
    said = profiler.runcall(body) if profiler else body()
    seconds, cpu_s = time.perf_counter() - started_s, _processor_s() - cpu_s
    if profiler:
        profiler.print_stats("tottime")
    # On Linux ru_maxrss is in kB; of the children it is that of the largest one.
    peaks = [resource.getrusage(who).ru_maxrss / 1024
             for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peaks[0], "worker_mb": peaks[1],
            "said": str(said)}


def _processor_s() -> float:
    """Seconds of all cores that this process and its ended children have used."""
    return sum(os.times()[:4])


def _body(step: str, root: Path):
    """The body of a step as a function without arguments, its imports done."""
    from scripts.core.settings import load_settings

    settings = load_settings(root)
    if step == "organize":
        from scripts.steps.organize import organize

        return lambda: organize(root, settings.source, settings.demo, settings.split)
    if step == "check":
        from scripts.steps.check import check

        return lambda: check(root, settings.source, settings.check, 256)
    if step == "labelmap":
        from scripts.steps.labelmap import labelmap

        return lambda: labelmap(root, [])
    if step == "csv":
        from scripts.steps.tables import tables

        return lambda: tables(root)
    import tensorflow as tf  # noqa: F401
    from scripts.steps.records import records

    return lambda: records(root)


if __name__ == "__main__":
    main()

"""Rows a second and peak memory of the metadata filter beside `pandas.read_csv` of the whole file,
in the same run.

python -m benchmarks.openimages_filter [--out FOLDER] [--rows 14600000]

The file has the layout and about the size of Open Images' training boxes. It is made once and used
again.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bake import TEMPLATE

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
HEADER = ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
          "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n")
WANTED = ["/m/0a000064", "/m/0a0000c8", "/m/0a00012c"]
CLASSES = 600

OURS = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from scripts.data.openimages.slices import Slice
import numpy, tqdm
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
names = json.loads(sys.argv[4])
part = Slice(Path(sys.argv[3]), "train-boxes", Path(sys.argv[2]).as_uri(), "LabelName", counted=names["all"])
part.ensure(names["wanted"])
seconds = time.perf_counter() - started
rows = part.path.read_bytes().count(b"\\n") - 1
print(json.dumps([seconds, base, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rows]))
"""
PANDAS = """
import json, resource, sys, time
import pandas
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
table = pandas.read_csv(sys.argv[2])
kept = table[table.LabelName.isin(json.loads(sys.argv[4])["wanted"])]
seconds = time.perf_counter() - started
print(json.dumps([seconds, base, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(kept)]))
"""


def make_file(path: Path, rows: int) -> None:
    """Write boxes of made-up classes, common and rare ones as in life, sorted by image; the same
    every time."""
    import numpy as np

    draw = np.random.default_rng(7)
    temporary = path.with_suffix(".partial")
    with temporary.open("w", encoding="ascii") as file:
        file.write(HEADER)
        for begin in range(0, rows, 100_000):
            count = min(100_000, rows - begin)
            classes = np.minimum(draw.zipf(1.3, count), CLASSES).tolist()
            corners = np.sort(draw.random((count, 4)), axis=1)[:, [0, 2, 1, 3]].tolist()
            flags = draw.integers(0, 2, (count, 5)).tolist()
            file.writelines(
                f"{(begin + at) // 8 * 0x9E3779B97:016x},xclick,/m/0a{classes[at]:06x},1,"
                + "{:.6f},{:.6f},{:.6f},{:.6f},".format(*corners[at])
                + "{},{},{},{},{}\n".format(*flags[at])
                for at in range(count)
            )
    temporary.replace(path)


def measure(code: str, file: Path, cache: Path) -> tuple[float, float, float, int]:
    """Seconds, megabytes before and at the peak, and rows that were kept."""
    names = json.dumps(
        {"wanted": WANTED, "all": [f"/m/0a{number:06x}" for number in range(1, CLASSES + 1)]})
    line = [sys.executable, "-c", code, str(PROJECT), str(file), str(cache), names]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, before, peak, kept = json.loads(done.stdout.splitlines()[-1])
    kilobytes = 1000 if sys.platform != "darwin" else 1_000_000
    return seconds, before / kilobytes, peak / kilobytes, kept


def main() -> None:
    """Make the file if it is not there, measure both ways, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()) / "openimages-filter")
    parser.add_argument("--rows", type=int, default=14_600_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"boxes-{options.rows}.csv"
    if not file.exists():
        # In a process of its own: on Linux a child starts with the peak memory of its parent.
        process = multiprocessing.get_context("spawn").Process(
            target=make_file, args=(file, options.rows))
        process.start()
        process.join()
    print(
        f"{options.rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB, {len(WANTED)} of {CLASSES} classes")
    for name, code in (("ours", OURS), ("pandas.read_csv", PANDAS)):
        with tempfile.TemporaryDirectory(dir=options.out) as cache:
            seconds, before, peak, kept = measure(code, file, Path(cache))
        print(f"{name:16} {seconds:6.1f} s   {options.rows / seconds / 1e6:5.2f} million rows/s   "
              f"peak {peak:6,.0f} MB, {peak - before:6,.0f} MB above the start   {kept:,} rows kept")


if __name__ == "__main__":
    main()

"""The whole chain on labeled folders of yours: what a default project reaches on each in the given
minutes.

python -m benchmarks.labeled_sets --minutes 10 --out FOLDER NAME=PATH [NAME=PATH ...] [--set
INVOKE_X=Y ...]

Each set is baked into FOLDER/NAME; a set whose tflite/metrics.json is there is only printed again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tools.bake import bake


def main() -> None:
    """Run what is missing, then print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--set", action="append", default=[], metavar="INVOKE_X=Y", help="one more setting")
    options = parser.parse_args()
    print("| set | train/val/test | findings | steps | minutes | AP | AP50 | AP75 | " +
          "float32 | float16 | int8 | int8 drop | int8 MB | ms |")
    for name, path in (each.split("=", 1) for each in options.sets):
        print(row(name, run(name, Path(path).resolve(), options)), flush=True)


def run(name: str, source: Path, options) -> Path:
    """The project of a set, with everything in it; its output is in `invoke.log`."""
    project = options.out / name
    if (project / "tflite/metrics.json").is_file():
        return project
    if not project.is_dir():
        bake(options.out, project_name=name, project_slug=name, source="folder")
    settings = {"INVOKE_SOURCE_PATH": str(source), "INVOKE_TRAIN_MINUTES": str(options.minutes)}
    settings |= dict(each.split("=", 1) for each in options.set)
    started_s = time.monotonic()
    with (project / "invoke.log").open("a", encoding="utf-8") as log:
        done = subprocess.run([sys.executable, "-m", "invoke", "tflite"], cwd=project,
                              env=os.environ | settings,
                              stdout=log, stderr=subprocess.STDOUT)
        log.write(f"exit {done.returncode}, {time.monotonic() - started_s:.0f} s in all\n")
    return project


def row(name: str, project: Path) -> str:
    """One line of the table; points, not fractions."""
    if not (project / "tflite/metrics.json").is_file():
        return f"| {name} | failed: see {project / 'invoke.log'} |"
    metrics, files, found, training = (json.loads((project / path).read_text(encoding="utf-8"))
                                       for path in (
        "eval/metrics.json", "tflite/metrics.json", "annotations/check.json", "training/run.json"))
    counts = json.loads(
        (project / "annotations/organize.json").read_text(encoding="utf-8"))["counts"]
    variants = files["variants"]
    int8 = variants["int8"]
    cells = [name, str(counts.get("splits", counts)),
             f"E{found['errors']} W{found['warnings']} R{found['repaired']}",
             training["steps"], f"{training['seconds'] / 60:.1f}",
             *(points(metrics[key]) for key in ("AP", "AP50", "AP75")),
             *(points(variants[key]["AP"]) for key in ("float32", "float16", "int8")),
             points(int8["ap_drop"]), f"{int8['bytes'] / 1e6:.1f}",
             f"{int8['latency_ms']['median']:.1f}"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def points(fraction: float | None) -> str:
    """A fraction in points, `-` where undefined."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


if __name__ == "__main__":
    main()

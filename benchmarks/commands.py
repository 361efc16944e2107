"""Seconds of the commands that people type most, beside `invoke --version`, in a project that is up
to date.

python -m benchmarks.commands PROJECT [RUNS]
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = (["--version"], ["--list"], ["status"], ["tflite"])


def main(project: Path, runs: int) -> None:
    """Print the median of `runs` runs of each command, taken in turns so that a busy minute hits
    all of them."""
    seconds: dict[str, list[float]] = {command[0]: [] for command in COMMANDS}
    for _ in range(runs):
        for command in COMMANDS:
            started_s = time.perf_counter()
            line = [sys.executable, "-m", "invoke", *command]
            done = subprocess.run(line, cwd=project, capture_output=True, text=True)
            seconds[command[0]].append(time.perf_counter() - started_s)
            if done.returncode or " ran " in done.stdout:
                sys.exit(
                    f"not up to date: {project}: run invoke tflite there first\n{done.stdout}{done.stderr}")
    base_s = statistics.median(seconds["--version"])
    for command, each in seconds.items():
        median_s = statistics.median(each)
        print(f"invoke {command:<10} {median_s:6.3f} s   {median_s / base_s:4.2f} x --version")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 9)

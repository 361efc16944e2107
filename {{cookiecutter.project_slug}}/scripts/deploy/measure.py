"""Time and memory of a `.tflite`, measured in a process of its own that holds nothing else.

The child knows no contract: it loads any file, puts the given values into its first input, and
runs it: `python -m scripts.deploy.measure MODEL VALUES.npy THREADS RUNS`.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError
from scripts.deploy.reader import latency, times_ms

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each run; the most memory of the process, and the model's part of it."""

    times_ms: list[float]
    peak_bytes: int
    model_bytes: int


def measure(model: Path, values: Path, threads: int, runs: int) -> Measured:
    """Run a model in a fresh process; DetectorError, with its last line, when that ends badly."""
    command = [sys.executable, "-m", "scripts.deploy.measure",
               str(model.resolve()), str(values), str(threads), str(runs)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8",
                          errors="replace")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DetectorError(f"process that times it ended with {done.returncode} "
                            f"({' '.join(lines[-1].split())[:160]}): {model}: "
                            "free memory, or leave this file out")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measured_figures(measured: dict[int, list[Measured]]) -> dict:
    """Return `latency_ms` and `memory` of a file as benchmark.json holds them.

    `measured` has by number of threads what each round gave. `lowest_round` and `highest_round` are
    medians; `memory` is the most that any of the processes held.
    """
    latencies = {}
    for threads, rounds in measured.items():
        medians = [latency(part.times_ms)["median"] for part in rounds]
        pooled = latency([milliseconds for part in rounds for milliseconds in part.times_ms])
        latencies[str(threads)] = {**pooled, "lowest_round": min(medians),
                                   "highest_round": max(medians)}
    parts = [part for rounds in measured.values() for part in rounds]
    return {"latency_ms": latencies,
            "memory": {"process_bytes": max(part.peak_bytes for part in parts),
                       "model_bytes": max(part.model_bytes for part in parts)}}


def peak_bytes() -> int:
    """Return the most physical memory that this process has held.

    On Linux from the process itself: getrusage there also counts what the parent held when it
    started the process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(model: str, values: str, threads: str, runs: str) -> None:
    """Be the child: print a `Measured` as JSON on the last line."""
    from ai_edge_litert.interpreter import Interpreter

    # The input is loaded before the first look at the memory: it is no part of the model.
    image = np.load(values)
    before = peak_bytes()
    interpreter = Interpreter(model_path=model, num_threads=int(threads))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    times = [round(milliseconds, 4) for milliseconds in times_ms(interpreter.invoke, int(runs))]
    peak = peak_bytes()
    print(json.dumps({"times_ms": times, "peak_bytes": peak, "model_bytes": peak - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Time and memory of a `.tflite`, measured in a process of its own that holds nothing else.

The child knows no contract: it loads any file, puts the given values into its first input, and runs it.
    python -m scripts.deploy.clock MODEL VALUES.npy THREADS RUNS
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.deploy.reader import times_ms
from scripts.pipeline.errors import DetectorError

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each run; the most memory that the process held, and how much of it came with the model."""

    times_ms: list[float]
    peak_bytes: int
    model_bytes: int


def measure(model: Path, values: Path, threads: int, runs: int) -> Measured:
    """Runs the model in a fresh process. DetectorError when that ends badly, with the last thing it said."""
    line = [sys.executable, "-m", "scripts.deploy.clock", str(model.resolve()), str(values), str(threads), str(runs)]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = " ".join((done.stderr.strip().splitlines() or ["nothing said"])[-1].split())[:160]
        raise DetectorError(f"process that times it ended with {done.returncode} ({said}): {model}: "
                            "free memory, or leave this file out")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def peak_bytes() -> int:
    """The most physical memory that this process has held.

    On Linux from the process itself: getrusage there also counts what the parent held when it started the process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(model: str, values: str, threads: str, runs: str) -> None:
    """The child: prints a `Measured` as JSON on its last line."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    picture = np.load(values)
    before = peak_bytes()
    interpreter = Interpreter(model_path=model, num_threads=int(threads))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    times = [round(one, 4) for one in times_ms(interpreter.invoke, int(runs))]
    peak = peak_bytes()
    print(json.dumps({"times_ms": times, "peak_bytes": peak, "model_bytes": peak - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How a training survives being killed: ended at random moments again and again, does it end with
the same weights?

python -m benchmarks.kills --kills 20 --out FOLDER [--seed 1]

Two projects on the same drawn images and a small network: one trains undisturbed, the other is
killed (SIGKILL), every second time while it writes a checkpoint. Prints a line a kill and what
differs in the end.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools.bake import bake

# One network of 64 px; a checkpoint every 5 steps and an evaluation every 15, so that a kill has
# much to spoil.
TINY = {
    "task.model.input_size": [64, 64, 3],
    "task.model.max_level": 6,
    "trainer.checkpoint_interval": 5,
    "trainer.validation_interval": 15,
}
SETTINGS = {
    "INVOKE_DEMO_IMAGES": "24", "INVOKE_DEMO_SIZE_PX": "96", "INVOKE_TRAIN_MINUTES": "0",
    "INVOKE_TRAIN_EPOCHS": "15",
    "INVOKE_TRAIN_BATCH_SIZE": "4",
}  # fmt: skip
LONGEST_SESSION_S = 120
LONGEST_RUN_S = 1200


@dataclass(frozen=True)
class Survived:
    """Kills that hit a training, those of them that hit a checkpoint being written, and what
    differs in the end."""

    kills: int
    while_writing: int
    differences: list[str]


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = survive(options.out.resolve(), options.kills, options.seed)
    print(f"{result.kills} kills, {result.while_writing} of them while a checkpoint was written: "
          + ("; ".join(result.differences) or "the same weights, evaluations and best checkpoint"))


def survive(out: Path, kills: int, seed: int) -> Survived:
    """Trains with and without kills in folders of `out`, and compares."""
    undisturbed = tiny_project(out, "undisturbed")
    invoke(undisturbed, "configure", "pretrained")
    disturbed = Path(shutil.copytree(undisturbed, out / "disturbed"))
    invoke(undisturbed, "train")
    dice, hits, while_writing = random.Random(seed), 0, 0
    for number in range(kills):
        writing = kill_once(disturbed, dice, at_checkpoint=number % 2 == 1)
        if writing is None:
            break  # It came to its end before.
        hits, while_writing = hits + 1, while_writing + writing
        print(f"kill {number + 1}: {progress(disturbed)}{', a checkpoint was being written' if writing else ''}",
              flush=True)
    invoke(disturbed, "train")
    return Survived(hits, while_writing, differences(undisturbed, disturbed))


def tiny_project(out: Path, name: str, **overrides) -> Path:
    """A baked project whose training takes seconds."""
    project = bake(out, project_name=name, project_slug=name)
    lines = "".join(
        f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in (TINY | overrides).items())
    with (project / "detector.toml").open("a", encoding="utf-8") as file:
        file.write(lines)
    return project


def start(project: Path, *arguments: str, **settings: str) -> subprocess.Popen:
    """`invoke ARGUMENTS` in a process group of its own; what it says is appended to `invoke.log`.
    """
    with (project / "invoke.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen([sys.executable, "-m", "invoke", *arguments], cwd=project,
                                stdout=log,
                                stderr=subprocess.STDOUT, env=os.environ | SETTINGS | settings,
                                start_new_session=True)


def invoke(project: Path, *arguments: str, **settings: str) -> None:
    """Runs `invoke ARGUMENTS` to its end. Raises RuntimeError with what it said if it fails or does
    not end."""
    process = start(project, *arguments, **settings)
    try:
        process.wait(LONGEST_RUN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError((project / "invoke.log").read_text(encoding="utf-8")[-3000:])


def kill_once(project: Path, dice: random.Random, at_checkpoint: bool) -> bool | None:
    """Starts a training and kills it; whether a checkpoint was being written, None if the training
    ended before."""
    process, training = start(project, "train"), project / "training"
    started_s, known = time.monotonic(), names(training)
    # Either while a checkpoint is being written, the first or a later one, or anywhere in the time
    # of a few.
    skip, until_s = dice.randrange(3), dice.uniform(5, 40)
    while process.poll() is None and time.monotonic() - started_s < LONGEST_SESSION_S:
        now = names(training)
        if at_checkpoint and now - known and any("temp" in name for name in now - known):
            if skip == 0:
                break
            skip -= 1
            known = names(training) | now
        elif not at_checkpoint and time.monotonic() - started_s > until_s:
            break
        time.sleep(0.001)
    if process.poll() is not None:
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return any("temp" in name for name in names(training))


def names(training: Path) -> set[str]:
    """Files below `training/` of the project."""
    return {str(path.relative_to(training)) for path in training.rglob("*")}


def progress(project: Path) -> str:
    """Checkpoints there are, and evaluations that were noted."""
    steps = sorted(
        int(path.stem.rsplit("-", 1)[1]) for path in (project / "training").glob("ckpt-*.index"))
    run = project / "training/run.json"
    noted = len(json.loads(run.read_text(encoding="utf-8"))["evaluations"]) if run.is_file() else 0
    return f"checkpoints {steps}, {noted} evaluations"


def differences(one: Path, other: Path) -> list[str]:
    """What two trained projects do not have in common: weights, optimizer, evaluations, best
    checkpoint."""
    import numpy as np
    import tensorflow as tf

    found = []
    runs = [json.loads((project / "training/run.json").read_text(encoding="utf-8"))
            for project in (one, other)]
    for key in ("steps", "evaluations", "best_checkpoint", "best_AP", "stopped_by"):
        if runs[0][key] != runs[1][key]:
            found.append(f"{key}: {runs[0][key]} and {runs[1][key]}")
    for name in (f"ckpt-{runs[0]['steps']}", f"best/{runs[0]['best_checkpoint']}"):
        first, second = (
            tf.train.load_checkpoint(str(project / "training" / name)) for project in (one, other))
        # Of the best only the network: a session that begins with an evaluation has no optimizer
        # yet to save.
        left_out = ("CHECKPOINTABLE", "save_counter") + (
            ("optimizer/",) if name.startswith("best") else ())
        wanted = [key for key in first.get_variable_to_shape_map()
                  if not any(part in key for part in left_out)]
        for key in wanted:
            if not np.array_equal(first.get_tensor(key), second.get_tensor(key)):
                found.append(f"{name}: {key}")
    return found


if __name__ == "__main__":
    main()

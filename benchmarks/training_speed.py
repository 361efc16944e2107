"""Images a second of `invoke train` beside Model Garden's plain `run_experiment`, in turns, in one
run.

python -m benchmarks.training_speed --out FOLDER [--set PATH] [--model lite0-256] [--steps 60]
[--turns 3]

Both train the same network with the same batch, size and records; Model Garden's side has its own
input, matching, losses and loop. Our recipe's frozen groups are frozen on both sides, but for the
last row. Speed is what both loops write for TensorBoard, the median over all turns, so that start
and graph building are left out; both evaluate and save only at the end.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.recipe import invoke, prepare

# Runs in the project, with its code: the task is Model Garden's, everything that it is told is
# ours.
PLAIN = """
import sys
from pathlib import Path
from official.common import distribute_utils
from official.core import train_lib
from official.vision.tasks import retinanet
from scripts.modeling.experiment import read_experiment, with_absolute_paths
root, folder, variant = Path.cwd(), sys.argv[1], sys.argv[2]
experiment = with_absolute_paths(read_experiment(root / "training/experiment.yaml"), root)
experiment.task.init_checkpoint, experiment.task.train_data.cache = "", variant == "cache"
if variant == "nothing frozen":
    experiment.task.model.backbone.get().frozen_groups = 0
strategy = distribute_utils.get_distribution_strategy("one_device", num_gpus=0)
with strategy.scope():
    task = retinanet.RetinaNetTask(experiment.task, logging_dir=folder)
train_lib.run_experiment(distribution_strategy=strategy, task=task, mode="train", params=experiment, model_dir=folder)
"""
INTERVALS = ("validation_interval", "checkpoint_interval")
SIDES = (
    "invoke train", "run_experiment", "run_experiment, cache", "run_experiment, nothing frozen")


def main() -> None:
    """Run both sides in turns and print their medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--set", type=Path, help="a folder of labeled images; the demo's if not given")
    parser.add_argument("--model", default="lite0-256")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    project = options.out.resolve() / "project"
    prepare(project, options.set.resolve() if options.set else None)
    # Its last table is [overrides].
    with (project / "detector.toml").open("a", encoding="utf-8") as file:
        file.writelines(f'"trainer.{interval}" = 1000000\n' for interval in INTERVALS)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(options.turns):
        for side in SIDES:
            speeds[side] += one_turn(
                project, side, options, f"{side.replace(' ', '-').replace(',', '')}-{turn}")
            print(f"turn {turn + 1}, {side}: {statistics.median(speeds[side]):.1f} images/s so far",
                  flush=True)
    plain = statistics.median(speeds["run_experiment"])
    print("| loop | images/s | ratio |\n|---|---|---|")
    for side in SIDES:
        median = statistics.median(speeds[side])
        print(f"| {side} | {median:.1f} | {median / plain:.2f} |")


def one_turn(project: Path, side: str, options, name: str) -> list[float]:
    """Images a second of each loop of a training from its beginning, the first two loops left out.
    """
    images = sum(1 for _ in (project / "images/train").glob("*.xml"))
    settings = {"INVOKE_TRAIN_MINUTES": "0",
                "INVOKE_TRAIN_EPOCHS": str(max(1, round(options.steps * 8 / images))),
                "INVOKE_MODEL_ID": options.model}
    invoke(project, ["forget", "train"], settings)
    invoke(project, ["configure", "pretrained"], settings)
    if side == "invoke train":
        invoke(project, ["train"], settings)
        return loop_speeds(project / "training/train")
    folder = project / "training/plain" / name
    with (project / "invoke.log").open("a", encoding="utf-8") as log:
        subprocess.run([sys.executable, "-c", PLAIN, str(folder), side.rpartition(", ")[2]],
                       cwd=project, stdout=log,
                       stderr=log, check=True, env=os.environ | {"PYTHONPATH": str(project)})
    return loop_speeds(folder / "train")


def loop_speeds(folder: Path) -> list[float]:
    """Images a second, loop by loop, from TensorBoard's events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder)).Reload().Tensors("steps_per_second")
    return [8 * float(make_ndarray(event.tensor_proto)) for event in events[2:]]


if __name__ == "__main__":
    main()

"""Trials of training recipes: what each variant reaches on labeled sets for the same computing
time.

python -m benchmarks.recipe --out FOLDER NAME=PATH [NAME=PATH ...] [--trials A,B] [--seeds 7,8]
[--cores 0,1] [--table]

A trial is a number of training steps: those that five minutes give on two idle cores, divided by
what the variant's step costs. A busy machine makes a trial slow and changes nothing else. One
process a core. What is done is in FOLDER/results.jsonl and is not done again; `--table` only prints
it.
"""

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tools.bake import TEMPLATE, bake

# cookiecutter changes the working directory of the process.
BAKING = threading.Lock()
# Of 256 px, batch 8, three frozen groups: 5 minutes less start and evaluations, at 0.31 s a step.
STEPS = 800


@dataclass(frozen=True)
class Trial:
    """A variant: settings of the environment, `[overrides]`, and what its step costs beside the
    default's."""

    settings: dict = field(default_factory=dict)
    overrides: dict = field(default_factory=dict)
    cost: float = 1.0


def parser_keys(**values) -> dict:
    """Overrides of the augmentation."""
    return {f"task.train_data.parser.{key}": value for key, value in values.items()}


FROZEN = "task.model.backbone.inverted_bottleneck.frozen_groups"
ANCHOR = "task.model.anchor"
AVERAGE = "trainer.optimizer_config.ema"
WARM_UP = "trainer.optimizer_config.warmup.linear.warmup_steps"
MOMENTUM = "task.model.norm_activation.norm_momentum"
TRIALS = {
    "default": Trial(),
    "nine-anchors": Trial(overrides={f"{ANCHOR}.num_scales": 3,
                                     f"{ANCHOR}.aspect_ratios": [0.5, 1.0, 2.0],
                                     f"{ANCHOR}.anchor_size": 3.0}, cost=1.05),
    "frozen-0": Trial(overrides={FROZEN: 0}, cost=1.45),
    "frozen-5": Trial(overrides={FROZEN: 5}, cost=0.77),
    "zoom": Trial(overrides=parser_keys(aug_scale_min=0.6, aug_scale_max=1.6)),
    "color": Trial(overrides=parser_keys(aug_color=0.5)),
    "zoom-aspect-color": Trial(overrides=parser_keys(aug_scale_min=0.6, aug_scale_max=1.6,
                                                     aug_aspect=1.4,
                                                      aug_color=0.5)),
    "mosaic": Trial(overrides=parser_keys(aug_scale_min=0.6, aug_scale_max=1.6, aug_aspect=1.4,
                                          aug_color=0.5,
                                          aug_mosaic=0.5)),
    "lr-3": Trial(settings={"INVOKE_TRAIN_LEARNING_RATE": "0.003"}),
    "lr-2": Trial(settings={"INVOKE_TRAIN_LEARNING_RATE": "0.002"}),
    "lr-0.8": Trial(settings={"INVOKE_TRAIN_LEARNING_RATE": "0.0008"}),
    # Model Garden's decay is (1 + step) / (10 + step) at most: a limit above 0.989 is not reached
    # in these steps.
    "ema-0.95": Trial(overrides={f"{AVERAGE}.average_decay": 0.95}),
    "ema-fixed-0.995": Trial(overrides={f"{AVERAGE}.average_decay": 0.995,
                                        f"{AVERAGE}.dynamic_decay": False,
                                        f"{AVERAGE}.start_step": 80}),
    # The default's warm-up is a tenth of the steps, from a hundredth of the learning rate.
    "warmup-none": Trial(overrides={WARM_UP: 1}),
    "warmup-0.3": Trial(overrides={WARM_UP: 240}),
    "bn-0.9": Trial(overrides={MOMENTUM: 0.9}),
    "bn-0.99": Trial(overrides={MOMENTUM: 0.99}),
}


def main() -> None:
    """Run what is missing, then print all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", default=",".join(TRIALS))
    parser.add_argument("--seeds", default="7,8")
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--table", action="store_true", help="only print what is done")
    options = parser.parse_args()
    options.out = options.out.resolve()
    if not options.table:
        sets = dict(each.split("=", 1) for each in options.sets)
        for name, path in sets.items():
            prepare(options.out / "base" / name, Path(path).resolve())
        run_missing(options, list(sets))
    print_table(options.out)


def prepare(project: Path, source: Path | None) -> None:
    """A baked project with records of the images in `source` (None: the demo's), once for all
    trials of a set."""
    if (project / "prepared").is_file():
        return
    if not project.is_dir():
        kind = "folder" if source else "demo"
        bake(project.parent, project_name=project.name, project_slug=project.name, source=kind)
    text = (project / "detector.toml").read_text(encoding="utf-8")
    if source:
        text = text.replace('path = ""', f"path = {json.dumps(str(source))}", 1)
    (project / "detector.toml").write_text(text, encoding="utf-8")
    invoke(project, ["records"], {})
    (project / "prepared").touch()


def invoke(project: Path, arguments: list[str], settings: dict, prefix: tuple = ()) -> None:
    """Runs `invoke` in the project; what it says goes to `invoke.log`."""
    with (project / "invoke.log").open("a", encoding="utf-8") as log:
        subprocess.run([*prefix, sys.executable, "-m", "invoke", *arguments], cwd=project,
                       env=os.environ | settings,
                       stdout=log, stderr=subprocess.STDOUT, check=True)


def results(out: Path) -> list[dict]:
    """What is done, in order."""
    path = out / "results.jsonl"
    return [json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def run_missing(options, sets: list[str]) -> None:
    """All trials that are not in the results, one process a core."""
    done = {(row["trial"], row["set"], row["seed"]) for row in results(options.out)}
    waiting: queue.Queue = queue.Queue()
    for seed in (int(seed) for seed in options.seeds.split(",")):
        for trial in options.trials.split(","):
            for name in sets:
                if (trial, name, seed) not in done:
                    waiting.put((trial, name, seed))
    lock, stopping = threading.Lock(), threading.Event()

    def work(core: str) -> None:
        while not stopping.is_set():
            try:
                trial, name, seed = waiting.get_nowait()
            except queue.Empty:
                return
            row = run(options.out, trial, name, seed, core)
            if stopping.is_set() and "failed" in row:  # Ctrl-C ended it: it is still to be made.
                return
            with lock, (options.out / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    threads = [threading.Thread(target=work, args=(core,)) for core in options.cores.split(",")]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stopping.set()
        raise


def run(out: Path, trial_name: str, name: str, seed: int, core: str) -> dict:
    """Trains and scores one variant; the row of the results."""
    trial, project = TRIALS[trial_name], out / f"{trial_name}-{name}-{seed}".replace(".", "_")
    shutil.rmtree(project, ignore_errors=True)
    with BAKING:
        bake(out, project_name=project.name, project_slug=project.name, source="folder")
    base = out / "base" / name
    for part in ("images", "annotations", ".steps"):
        shutil.copytree(base / part, project / part, dirs_exist_ok=True)
    text = (base / "detector.toml").read_text(encoding="utf-8")
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in trial.overrides.items()]
    (project / "detector.toml").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    images = sum(1 for _ in (project / "images/train").glob("*.xml"))
    settings = {"INVOKE_TRAIN_MINUTES": "0",
                "INVOKE_TRAIN_EPOCHS": str(round(STEPS / trial.cost * 8 / images)),
                "INVOKE_TRAIN_SEED": str(seed), "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1"}
    row = {"trial": trial_name, "set": name, "seed": seed, "commit": commit()}
    started_s = time.monotonic()
    try:
        invoke(project, ["evaluate"], settings | trial.settings, ("taskset", "-c", core))
    except subprocess.CalledProcessError as error:
        return row | {"failed": f"exit {error.returncode}, see {project.name}/invoke.log"}
    training, metrics = (json.loads((project / path).read_text(encoding="utf-8"))
                         for path in ("training/run.json", "eval/metrics.json"))
    row |= {"steps": training["steps"], "validation_AP": training["best_AP"],
            "best": training["best_checkpoint"],
            "seconds": round(time.monotonic() - started_s)}
    return row | {key: metrics[key] for key in ("AP", "AP50", "AP75", "APs", "AR100")}


def commit() -> str:
    """The short name of the commit that trains."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=TEMPLATE,
                          capture_output=True,
                          text=True).stdout.strip()


def print_table(out: Path) -> None:
    """One line a trial, in points."""
    print("| trial | set | seed | steps | validation AP | AP | AP50 | AP75 | commit |\n"
          + "|---" * 9 + "|")
    for row in results(out):
        cells = [f"{100 * row[key]:.1f}" if row.get(key) is not None else "failed"
                 for key in ("validation_AP", "AP", "AP50", "AP75")]
        print(f"| {row['trial']} | {row['set']} | {row['seed']} | {row.get('steps', '-')} | " +
              " | ".join(cells) + f" | {row['commit']} |")


if __name__ == "__main__":
    main()

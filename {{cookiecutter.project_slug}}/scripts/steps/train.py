"""The `train` step: run `training/experiment.yaml` with Model Garden's runner, so that it may stop
and continue."""

import json
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside
from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.label_map import read_label_map
from scripts.data.manifest import read_manifest
from scripts.modeling.experiment import read_experiment, with_absolute_paths
from scripts.modeling.zoo import zoo_entry
from scripts.steps.configure import read_configured
from scripts.training.run_file import may_continue, new_run, read_run, write_run
from scripts.training.runner import Session, run_experiment

# A training whose steps took less than this share of the planned time could have been a good deal
# longer.
QUICK_SHARE = 0.6
# What a training leaves in training/; everything else there is the user's or belongs to
# `configure`.
OUTPUTS = ("run.json", "train.log", "train", "validation", "best", "ema_checkpoints", "checkpoint")


@dataclass(frozen=True)
class TrainCounts:
    """Steps made in all, the best AP on validation (0..1; None: not yet measured), what ended it.
    """

    steps: int
    best_ap: float | None
    best_checkpoint: str | None
    stopped_by: str
    note: str = ""
    advice: str = ""

    def __str__(self):
        best = "none yet"
        if self.best_ap is not None:
            best = f"{100 * self.best_ap:.1f} at {self.best_checkpoint}"
        note = f"{self.note}, " if self.note else ""
        advice = f"; {self.advice}" if self.advice else ""
        return (f"{note}{self.steps:,} steps, best validation AP {best}, stopped by "
                f"{self.stopped_by}{advice}")


def train(root: Path, model_id: str, runtime, patience: int = 0,
          finish: bool = False) -> TrainCounts:
    """Train, or continue, until the steps of the experiment are made.

    Args:
        root: The project.
        model_id: The setting model.id.
        runtime: `[runtime]` of the settings.
        patience: Stop after so many evaluations without a better AP, 0 for never.
        finish: Accept the best checkpoint so far as the result.

    Raises:
        DetectorError: A run that does not fit the settings, a loss that explodes, or a batch too
            large for the memory.
        KeyboardInterrupt: Ctrl-C; everything is saved.
    """
    if runtime.worker_hosts and runtime.task_index:
        raise DetectorError(f"runtime.task_index = {runtime.task_index}: detector.toml: the machine"
                            " with index 0 types invoke train, this one joins it with invoke "
                            "worker")
    layout = Layout(root)
    old = read_run(layout.run)
    if finish:
        return _finish(layout, old)
    experiment = _experiment(layout, "type invoke configure")
    names = read_label_map(layout.label_map)

    # Continue the run that is there, or move it out of the way.
    records = [path for split in ("train", "validation") for path in layout.records(split)]
    facts = layout.pretrained_facts(model_id)
    weights = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else None
    source = read_manifest(layout.manifest)["source"]
    run = new_run(zoo_entry(model_id), experiment, list(names.values()), source, records, weights)
    note = ""
    if old:
        continues, reason = may_continue(old, run)
        if continues:
            run = old | {"settings": run["settings"], "stopped_by": None}
        else:
            note = ": ".join(filter(None, [f"started anew ({reason})", set_aside(root)]))
    write_run(layout.run, run)

    session = _train(layout, with_absolute_paths(experiment, root), runtime, names, run, patience)
    if session.started_at and not note:
        note = f"continued at step {session.started_at:,}"
    advice = ""
    if session.stopped_by == "budget":
        advice = spare_time(session.step_s, read_configured(layout.configured).get("step_s"))
    return TrainCounts(run["steps"], run["best_AP"], run["best_checkpoint"], run["stopped_by"],
                       note, advice)


def join(root: Path, runtime) -> str:
    """Do the work of a machine other than the first of `runtime.worker_hosts`; write nothing.

    Raises:
        DetectorError: This is no such machine, or the first one trains something else.
    """
    hosts = [host for host in runtime.worker_hosts.split(",") if host]
    several = runtime.distribution_strategy == "multi_worker_mirrored"
    if not several or not 0 < runtime.task_index < len(hosts):
        raise DetectorError(f"runtime.task_index = {runtime.task_index} of {len(hosts)} "
                            f"worker_hosts with {runtime.distribution_strategy!r}: detector.toml: "
                            "a worker needs multi_worker_mirrored, all hosts, and an index from 1")
    layout = Layout(root)
    experiment = _experiment(layout, "type invoke train on the first machine, then invoke worker")
    with _stop_on_signal() as asked_to_stop:
        session = run_experiment(
            with_absolute_paths(experiment, root), layout.training, runtime,
            read_label_map(layout.label_map), patience=0, evaluations=[], keep=lambda *_: None,
            asked_to_stop=asked_to_stop)
    return (f"worker {runtime.task_index}: training ended at step {session.steps:,}, stopped by "
            f"{session.stopped_by}")


def _experiment(layout: Layout, advice: str):
    if not layout.experiment.is_file():
        raise DetectorError(f"no experiment: {layout.shown(layout.experiment)}: {advice}")
    return read_experiment(layout.experiment)


def _finish(layout: Layout, run: dict | None) -> TrainCounts:
    if not run or not run["best_checkpoint"]:
        raise DetectorError("no checkpoint to accept: training/best: type invoke train and let it "
                            "reach an evaluation")
    run |= {"stopped_by": run["stopped_by"] or "user"}
    write_run(layout.run, run)
    return TrainCounts(run["steps"], run["best_AP"], run["best_checkpoint"], run["stopped_by"])


def _train(layout: Layout, experiment, runtime, names: dict[int, str], run: dict,
           patience: int) -> Session:
    """Train, and keep `run` and `run.json` up to date. `train` says what it raises."""
    started_s, seconds_before = time.monotonic(), run["seconds"]

    def keep(steps: int, best: tuple[str | None, float | None], evaluations: list[dict],
             stopped_by: str | None = None) -> None:
        seconds = round(seconds_before + time.monotonic() - started_s, 1)
        run.update(steps=steps, best_checkpoint=best[0], best_AP=best[1], evaluations=evaluations,
                   stopped_by=stopped_by, seconds=seconds)
        write_run(layout.run, run)

    with _stop_on_signal() as asked_to_stop:
        session = run_experiment(experiment, layout.training, runtime, names, patience,
                                 run.get("evaluations", []), keep, asked_to_stop)
    keep(session.steps, (run["best_checkpoint"], run["best_AP"]), run.get("evaluations", []),
         session.stopped_by)
    if session.stopped_by == "user":
        raise KeyboardInterrupt(f"saved at step {session.steps:,}: invoke train continues, invoke "
                                "train --finish accepts the best")
    return session


def set_aside(root: Path) -> str:
    """Move the run in `training/` to `training/previous`, replacing an older one there.

    A run without a checkpoint has nothing to keep: it is removed, and what is in
    `training/previous` stays.

    Returns:
        A line that says so, or "".
    """
    training = Layout(root).training
    found = [path for name in OUTPUTS for path in training.glob(name)]
    found += training.glob("ckpt-*")
    if not any(path.suffix == ".index" for path in found):
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return ""
    temporary = temporary_beside(training / "previous")
    temporary.mkdir()
    for path in found:
        shutil.move(str(path), str(temporary / path.name))
    replace_dir(temporary, training / "previous")
    return "the run that was in training/ is now in training/previous"


def spare_time(step_s: float, planned_step_s: float | None) -> str:
    """Return what to do when steps took far less than `invoke configure` measured, "" otherwise.

    It measured on a busier machine then, and `train.minutes` bought fewer steps than it could.
    """
    if not planned_step_s or not step_s or step_s > QUICK_SHARE * planned_step_s:
        return ""
    return (f"a step took {step_s:.2f} s, not the {planned_step_s:.2f} s that invoke configure "
            f"measured, maybe on a busy machine: {planned_step_s / step_s:.1f} times the "
            "train.minutes uses the time that you gave, and invoke train goes on from here")


class _stop_on_signal:
    """Note the first Ctrl-C or SIGTERM, so that training can ask for it; the second interrupts."""

    def __enter__(self):
        self.asked = False
        self.before = {number: signal.signal(number, self._ask)
                       for number in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self.asked

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt("stopped at once: invoke train continues at the last "
                                    "checkpoint")
        self.asked = True

    def __exit__(self, *_exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

"""The `train` step: runs `training/experiment.yaml` with Model Garden's runner, so that it may stop
and go on."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.core.text import DetectorError
from scripts.modeling.experiment import EXPERIMENT, read_experiment
from scripts.modeling.zoo import zoo_entry
from scripts.steps.configure import read_configured
from scripts.training.run_file import may_continue, new_run, read_run, set_aside, write_run
from scripts.training.runner import run_experiment

# Of the planned time of a step: a training whose steps took less could have been a good deal
# longer.
QUICK_SHARE = 0.6


@dataclass(frozen=True)
class TrainCounts:
    """Steps made in all, the best AP on validation (0..1, None: not yet measured) and why training
    ended."""

    steps: int
    best_ap: float | None
    best_checkpoint: str | None
    stopped_by: str
    note: str = ""
    advice: str = ""

    def __str__(self):
        best = "none yet" if self.best_ap is None else f"{100 * self.best_ap:.1f} at {self.best_checkpoint}"
        note = f"{self.note}, " if self.note else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{note}{self.steps:,} steps, best validation AP {best}, stopped by {self.stopped_by}{advice}"


def train(root: Path, model_id: str, runtime, patience: int = 0, finish: bool = False) -> TrainCounts:
    """Trains, or continues, until the steps of the experiment are made.

    `runtime`: `[runtime]` of the settings. `patience`: stop after so many evaluations without a
    better AP, 0 for never. `finish`: accept the best checkpoint so far as the result. Raises
    DetectorError for a run that does not fit the settings, a loss that explodes or a batch too
    large for the memory, KeyboardInterrupt after Ctrl-C with everything saved.
    """
    if runtime.worker_hosts and runtime.task_index:
        raise DetectorError(f"runtime.task_index = {runtime.task_index}: detector.toml: the machine with index 0 types "
                            "invoke train, this one joins it with invoke worker")
    old = read_run(root)
    if finish:
        return _finish(root, old)
    if not (root / EXPERIMENT).is_file():
        raise DetectorError(f"no experiment: {EXPERIMENT}: type invoke configure")
    experiment = read_experiment(root / EXPERIMENT)
    run, note = new_run(root, zoo_entry(model_id), experiment), ""
    if old:
        goes_on, reason = may_continue(old, run)
        if goes_on:
            run = old | {"settings": run["settings"], "stopped_by": None}
        else:
            note = ": ".join(filter(None, [f"started anew ({reason})", set_aside(root)]))
    write_run(root, run)
    session = _run(root, runtime, run, patience)
    note = note or (f"continued at step {session.started_at:,}" if session.started_at else "")
    planned_step_s = read_configured(root).get("step_s") if session.stopped_by == "budget" else None
    return TrainCounts(run["steps"], run["best_AP"], run["best_checkpoint"], run["stopped_by"], note,
                       spare_time(session.step_s, planned_step_s))


def spare_time(step_s: float, planned_step_s: float | None) -> str:
    """What to do when steps took far less than `invoke configure` measured, on a busier machine: ""
    if they did not.

    `train.minutes` then bought fewer steps than it could.
    """
    if not planned_step_s or not step_s or step_s > QUICK_SHARE * planned_step_s:
        return ""
    return (f"a step took {step_s:.2f} s, not the {planned_step_s:.2f} s that invoke configure measured, maybe on a "
            f"busy machine: {planned_step_s / step_s:.1f} times the train.minutes uses the time that you gave, and "
            "invoke train goes on from here")


def join(root: Path, runtime) -> str:
    """The work of a machine other than the first of `runtime.worker_hosts`; writes nothing.

    Raises DetectorError if this is no such machine, or if the first one trains something else.
    """
    hosts = [host for host in runtime.worker_hosts.split(",") if host]
    if runtime.distribution_strategy != "multi_worker_mirrored" or not 0 < runtime.task_index < len(hosts):
        raise DetectorError(f"runtime.task_index = {runtime.task_index} of {len(hosts)} worker_hosts with "
                            f"{runtime.distribution_strategy!r}: detector.toml: a worker needs multi_worker_mirrored, "
                            "all hosts, and an index from 1")
    if not (root / EXPERIMENT).is_file():
        raise DetectorError(f"no experiment: {EXPERIMENT}: type invoke train on the first machine, then invoke worker")
    with _stop_on_signal() as asked_to_stop:
        session = run_experiment(root, runtime, 0, [], lambda *_: None, asked_to_stop)
    return f"worker {runtime.task_index}: training ended at step {session.steps:,}, stopped by {session.stopped_by}"


def _finish(root: Path, run: dict | None) -> TrainCounts:
    if not run or not run["best_checkpoint"]:
        raise DetectorError("no checkpoint to accept: training/best: type invoke train and let it reach an evaluation")
    run |= {"stopped_by": run["stopped_by"] or "user"}
    write_run(root, run)
    return TrainCounts(run["steps"], run["best_AP"], run["best_checkpoint"], run["stopped_by"])


def _run(root: Path, runtime, run: dict, patience: int):
    """Trains and keeps `run` and `run.json` up to date; the `Session`. See `train` for what it
    raises."""
    started_s, seconds_before = time.monotonic(), run["seconds"]

    def keep(steps: int, best: tuple[str | None, float | None], evaluations: list[dict],
             stopped_by: str | None = None) -> None:
        run.update(steps=steps, best_checkpoint=best[0], best_AP=best[1], evaluations=evaluations,
                   stopped_by=stopped_by, seconds=round(seconds_before + time.monotonic() - started_s, 1))
        write_run(root, run)

    with _stop_on_signal() as asked_to_stop:
        session = run_experiment(root, runtime, patience, run.get("evaluations", []), keep, asked_to_stop)
    keep(session.steps, (run["best_checkpoint"], run["best_AP"]), run.get("evaluations", []), session.stopped_by)
    if session.stopped_by == "user":
        raise KeyboardInterrupt(f"saved at step {session.steps:,}: invoke train continues, invoke train --finish "
                                "accepts the best")
    return session


class _stop_on_signal:
    """Turns the first Ctrl-C or SIGTERM into a wish that training asks for; a second one interrupts
    at once."""

    def __enter__(self):
        self.asked = False
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self.asked

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt("stopped at once: invoke train continues at the last checkpoint")
        self.asked = True

    def __exit__(self, *_exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

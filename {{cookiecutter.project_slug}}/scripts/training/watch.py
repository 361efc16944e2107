"""What a person sees of a training while it runs, and when it ends early."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from scripts.training.checkpoints import best_checkpoint
from scripts.training.events import PICTURES_PER_SECOND, EvaluationEvents

PLAIN_LINE_EVERY_S = 60.0


class StopTraining(Exception):
    """Training ends before its budget is used up; `stopped_by` is `patience` or `user`."""

    def __init__(self, stopped_by: str):
        super().__init__(stopped_by)
        self.stopped_by = stopped_by


class Watch:
    """Progress line, plain lines without a terminal, what TensorBoard shows, patience and the wish to stop.

    `evaluations` are those that were made before: `{"step", "AP"}` each, AP 0..1 or None. `keep(steps, best,
    evaluations)` is called after each evaluation; `asked_to_stop()` is asked every few steps.
    """

    def __init__(self, experiment, training: Path, events: EvaluationEvents, patience: int, evaluations: list[dict],
                 keep: Callable, asked_to_stop: Callable[[], bool], silent: bool = False):
        self.experiment, self.training, self.events, self.patience = experiment, training, events, patience
        self.evaluations, self.keep, self.asked_to_stop, self.silent = list(evaluations), keep, asked_to_stop, silent
        self.runner = self.bar = None
        self.loss = math.nan

    def start(self, runner) -> None:
        """Opens the progress line where the restored checkpoint stands; forgets evaluations after it."""
        self.runner = runner
        self.evaluations = [each for each in self.evaluations if each["step"] <= self.steps]
        self.bar = tqdm(total=self.experiment.trainer.train_steps, initial=self.steps, unit="step", desc="train",
                        disable=True if self.silent else None, leave=False, file=sys.stderr, dynamic_ncols=True)
        self.first_step, self.training_s, self.mark_s = self.steps, None, time.monotonic()
        self.line_s, self.mark_step = self.mark_s, self.steps

    @property
    def steps(self) -> int:
        """Training steps made, over all sittings."""
        return int(self.runner.trainer.global_step.numpy())

    def is_evaluated(self) -> bool:
        """Whether the weights as they are were evaluated, in this sitting or before."""
        return any(each["step"] == self.steps for each in self.evaluations)

    def after_loop(self, output) -> None:
        """Called after every few steps."""
        now_s = time.monotonic()
        if self.training_s is None:  # The first loop builds the graph: it says nothing about speed.
            self.training_s, self.first_step = 0.0, self.steps
        else:
            loop_s = now_s - self.mark_s
            self.training_s += loop_s
            output[PICTURES_PER_SECOND] = (self.steps - self.mark_step) * self._batch_size / loop_s
        self.mark_s, self.mark_step = now_s, self.steps
        self.loss = float(output["training_loss"])
        self.bar.update(self.steps - self.bar.n)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {self.pictures_per_s:.1f} pictures/s", refresh=False)
        if self.bar.disable and now_s - self.line_s > PLAIN_LINE_EVERY_S:
            self._say("")
        if self.runner.machines.any(self.asked_to_stop()):
            self.runner.save()
            raise StopTraining("user")

    @property
    def pictures_per_s(self) -> float:
        """Training pictures a second in this sitting, evaluations not counted."""
        return self._batch_size / self.step_s if self.step_s else 0.0

    @property
    def step_s(self) -> float:
        """Seconds of a training step in this sitting, evaluations not counted; 0 before the first loops are made."""
        steps = self.steps - self.first_step
        return self.training_s / steps if steps and self.training_s else 0.0

    @property
    def _batch_size(self) -> int:
        return self.experiment.task.train_data.global_batch_size

    def after_evaluation(self, output) -> None:
        """Called after every evaluation on the validation split, when its best checkpoint is on disk."""
        average_precision = float(output["AP"])
        defined = average_precision >= 0
        is_best = self._is_best(average_precision)
        self.evaluations.append({"step": self.steps, "AP": average_precision if defined else None})
        shown = f"{100 * average_precision:.1f}" if defined else "undefined"
        self._say(f", validation AP {shown}{' (best so far)' if is_best else ''}")
        if not self.silent:
            self._write_events()
            self.keep(self.steps, best_checkpoint(self.training), self.evaluations)
        self.mark_s = time.monotonic()

    def is_out_of_patience(self) -> bool:
        """Whether so many evaluations as `patience` says were no better than one before them."""
        figures = [-1.0 if each["AP"] is None else each["AP"] for each in self.evaluations]
        return bool(self.patience and figures) and len(figures) - 1 - figures.index(max(figures)) >= self.patience

    def _is_best(self, average_precision: float) -> bool:
        before = [-1.0 if each["AP"] is None else each["AP"] for each in self.evaluations]
        return not before or average_precision > max(before)

    def _say(self, more: str) -> None:
        """One plain line: where training is, how it goes, how long it takes."""
        if self.silent:
            return
        speed, total = self.pictures_per_s, self.experiment.trainer.train_steps
        left = ""
        if speed and self.steps < total:
            left_s = (total - self.steps) * self._batch_size / speed
            left = f", {duration(left_s)} left"
        tqdm.write(f"train: step {self.steps:,} of {total:,}, loss {self.loss:.3f}{more}, {speed:.1f} pictures/s{left}",
                   file=sys.stderr)
        self.line_s = time.monotonic()

    def _write_events(self) -> None:
        """What there is by class, and pictures, for TensorBoard. Holds no detections after that."""
        metric = self.runner.task.coco_metric
        self.events.write(self.runner.controller.eval_summary_manager.summary_writer(), self.steps, metric.evaluation)
        metric.evaluation = None


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

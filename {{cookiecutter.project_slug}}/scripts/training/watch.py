"""What a person sees of a training while it runs, and what ends it early.

That is Ctrl-C, patience, or an error of TensorFlow, which is explained in one line.
"""

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from scripts.core.text import DetectorError
from scripts.data.examples import record_names
from scripts.training.losses import EXPLODED_MARK
from scripts.training.run_file import best_checkpoint
from scripts.training.summaries import IMAGES_PER_SECOND, EvaluationEvents

PLAIN_LINE_EVERY_S = 60.0


class StopTraining(Exception):
    """Training ends before its budget is used up; `stopped_by` is `patience` or `user`."""

    def __init__(self, stopped_by: str):
        super().__init__(stopped_by)
        self.stopped_by = stopped_by


class Watch:
    """Progress line, plain lines without a terminal, TensorBoard, patience and the wish to stop.

    Args:
        experiment: The Model Garden experiment that is trained.
        training: The folder of the checkpoints.
        events: Writes the figures of an evaluation for TensorBoard.
        patience: Stop after so many evaluations without a better AP, 0 for never.
        evaluations: Those made before: `{"step", "AP"}` each, AP 0..1 or None.
        keep: Called after each evaluation as `keep(steps, best, evaluations)`; `best` is what
            `best_checkpoint` returns.
        asked_to_stop: Asked every few steps.
        silent: Print, write and keep nothing (on all machines but the first).
    """

    def __init__(self, experiment, training: Path, events: EvaluationEvents, patience: int,
                 evaluations: list[dict], keep: Callable, asked_to_stop: Callable[[], bool],
                 silent: bool = False):
        self.experiment, self.training, self.events = experiment, training, events
        self.patience, self.evaluations, self.keep = patience, list(evaluations), keep
        self.asked_to_stop, self.silent = asked_to_stop, silent
        self.runner = self.bar = None
        self.loss = math.nan

    def start(self, runner) -> None:
        """Open the progress line where the restored checkpoint stands; forget later evaluations."""
        self.runner = runner
        self.evaluations = [made for made in self.evaluations if made["step"] <= self.steps]
        self.bar = tqdm(total=self.experiment.trainer.train_steps, initial=self.steps, unit="step",
                        desc="train", disable=True if self.silent else None, leave=False,
                        file=sys.stderr, dynamic_ncols=True)
        self.first_step, self.training_s, self.mark_s = self.steps, None, time.monotonic()
        self.line_s, self.mark_step = self.mark_s, self.steps

    @property
    def steps(self) -> int:
        """Training steps made, over all sessions."""
        return int(self.runner.trainer.global_step.numpy())

    @property
    def step_s(self) -> float:
        """Seconds of a training step in this session, evaluations not counted.

        0 before the first loops are made.
        """
        steps = self.steps - self.first_step
        return self.training_s / steps if steps and self.training_s else 0.0

    @property
    def images_per_s(self) -> float:
        """Training images a second in this session, evaluations not counted."""
        return self._batch_size / self.step_s if self.step_s else 0.0

    @property
    def _batch_size(self) -> int:
        return self.experiment.task.train_data.global_batch_size

    def is_evaluated(self) -> bool:
        """Return whether the weights as they are were evaluated, in this session or before."""
        return any(made["step"] == self.steps for made in self.evaluations)

    def is_out_of_patience(self) -> bool:
        """Return whether the last `patience` evaluations were no better than one before them."""
        figures = self._figures()
        since_best = len(figures) - 1 - figures.index(max(figures)) if figures else 0
        return bool(self.patience) and bool(figures) and since_best >= self.patience

    def _figures(self) -> list[float]:
        """Return the AP of all evaluations; an undefined one is worse than any other."""
        return [-1.0 if made["AP"] is None else made["AP"] for made in self.evaluations]

    def after_loop(self, output: dict) -> None:
        """Show how training goes; called with the metrics of every few steps."""
        now_s = time.monotonic()
        if self.training_s is None:
            # The first loop builds the graph: it says nothing about speed.
            self.training_s, self.first_step = 0.0, self.steps
        else:
            loop_s = now_s - self.mark_s
            self.training_s += loop_s
            loop_images = (self.steps - self.mark_step) * self._batch_size
            output[IMAGES_PER_SECOND] = loop_images / loop_s
        self.mark_s, self.mark_step = now_s, self.steps
        self.loss = float(output["training_loss"])
        self.bar.update(self.steps - self.bar.n)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {self.images_per_s:.1f} images/s",
                                 refresh=False)
        if self.bar.disable and now_s - self.line_s > PLAIN_LINE_EVERY_S:
            self._say("")
        if self.runner.machines.any(self.asked_to_stop()):
            self.runner.save()
            raise StopTraining("user")

    def after_evaluation(self, output: dict) -> None:
        """Note an evaluation on the validation split, whose best checkpoint is on disk."""
        average_precision = float(output["AP"])
        defined = average_precision >= 0
        is_best = average_precision > max(self._figures(), default=-math.inf)
        self.evaluations.append({"step": self.steps, "AP": average_precision if defined else None})
        shown = f"{100 * average_precision:.1f}" if defined else "undefined"
        self._say(f", validation AP {shown}{' (best so far)' if is_best else ''}")
        if not self.silent:
            self._write_events()
            self.keep(self.steps, best_checkpoint(self.training), self.evaluations)
        self.mark_s = time.monotonic()

    def _say(self, more: str) -> None:
        """Print one plain line: where training is, how it goes, how long it takes."""
        if self.silent:
            return
        speed, total = self.images_per_s, self.experiment.trainer.train_steps
        left = ""
        if speed and self.steps < total:
            left_s = (total - self.steps) * self._batch_size / speed
            left = f", {duration(left_s)} left"
        tqdm.write(f"train: step {self.steps:,} of {total:,}, loss {self.loss:.3f}{more}, "
                   f"{speed:.1f} images/s{left}", file=sys.stderr)
        self.line_s = time.monotonic()

    def _write_events(self) -> None:
        """Write figures by class and images for TensorBoard; drop the detections after that."""
        metric = self.runner.task.coco_metric
        writer = self.runner.controller.eval_summary_manager.summary_writer()
        self.events.write(writer, self.steps, metric.evaluation)
        metric.evaluation = None


def duration(seconds: float) -> str:
    """Return `40 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# What may go wrong inside TensorFlow, as one line that says what to type next.

MOST_NAMES = 8
# Lines of TensorFlow's errors that name places in code.
PLACES = ("[[", "File ", "Detected at", "Additional GRPC")


@contextmanager
def explained(experiment, steps: Callable[[], int]) -> Iterator[None]:
    """Turn TensorFlow's errors of a training into DetectorError.

    Args:
        experiment: The experiment that is trained, with absolute paths.
        steps: Gives the number of steps made so far.
    """
    batch_size = experiment.task.train_data.global_batch_size
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if EXPLODED_MARK not in str(error):
            raise
        raise DetectorError(_explosion(str(error), steps(), experiment)) from None
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error) or "ENOSPC" in str(error):
            raise DetectorError("no space left on the disk: training/: free some, then invoke "
                                "train continues at the last checkpoint") from None
        raise DetectorError(f"a step of {batch_size} images does not fit into the device's memory: "
                            "detector.toml: try train.batch_size = "
                            f"{max(1, batch_size // 2)}") from None
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError) as error:
        raise DetectorError(f"another machine stopped or cannot be reached ({cause(error)}): "
                            "[runtime] in detector.toml: start invoke train on all of them again, "
                            "it continues at the last checkpoint") from None


def cause(error: Exception) -> str:
    """Return the line of TensorFlow's long text that says what happened.

    That is the last one that names no place in code.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(PLACES)]
    return said[-1][:160] if said else type(error).__name__


def _explosion(text: str, steps: int, experiment) -> str:
    """Name the images of the batch; `text` is the error of `check_loss`."""
    pattern = re.escape(EXPLODED_MARK) + r"\W*\[([\d ]*)\]\W*loss\W*([-\w.+]+)"
    numbers, loss = re.search(pattern, text).groups()
    wanted = {int(number) for number in numbers.split()}
    files = sorted(map(Path, tf.io.gfile.glob(experiment.task.train_data.input_path)))
    names = [name for number, name in enumerate(record_names(files)) if number in wanted]
    shown = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        shown += f" and {len(names) - MOST_NAMES} more"
    schedule = experiment.trainer.optimizer_config.learning_rate.get().as_dict()
    rate = schedule.get("initial_learning_rate")
    lower = f" (it is {rate})" if rate else ""
    return (f"the loss is {loss} at step {steps + 1:,}: images of that batch: {shown}: look at "
            f"their boxes with invoke preview, or try a lower train.learning_rate{lower} or a "
            "larger train.batch_size in detector.toml; the last checkpoint is as it was")

"""What goes wrong inside TensorFlow while training, as one line that says what to type next."""

import math
import shutil
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import orbit
import tensorflow as tf
import tf_keras
from official.core import train_lib
from tqdm import tqdm

from scripts.core.layout import Layout
from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.modeling.experiment import EXPERIMENT, read_experiment, with_absolute_paths
from scripts.training import task as detector
from scripts.training.devices import Machines, check_batch_fits, open_machines
from scripts.training.failures import explained
from scripts.training.run_file import BestExporter, best_checkpoint, readable_step
from scripts.training.summaries import IMAGES_PER_SECOND, DefinedSummaries, EvaluationEvents

# What a person sees of a training while it runs, and when it ends early.

PLAIN_LINE_EVERY_S = 60.0


class StopTraining(Exception):
    """Training ends before its budget is used up; `stopped_by` is `patience` or `user`."""

    def __init__(self, stopped_by: str):
        super().__init__(stopped_by)
        self.stopped_by = stopped_by


class Watch:
    """Progress line, plain lines without a terminal, what TensorBoard shows, patience and the wish
    to stop.

    `evaluations` are those that were made before: `{"step", "AP"}` each, AP 0..1 or None.
    `keep(steps, best, evaluations)` is called after each evaluation; `asked_to_stop()` is asked
    every few steps.
    """

    def __init__(self, experiment, training: Path, events: EvaluationEvents, patience: int, evaluations: list[dict],
                 keep: Callable, asked_to_stop: Callable[[], bool], silent: bool = False):
        self.experiment, self.training, self.events, self.patience = experiment, training, events, patience
        self.evaluations, self.keep, self.asked_to_stop, self.silent = list(evaluations), keep, asked_to_stop, silent
        self.runner = self.bar = None
        self.loss = math.nan

    def start(self, runner) -> None:
        """Opens the progress line where the restored checkpoint stands; forgets evaluations after
        it."""
        self.runner = runner
        self.evaluations = [each for each in self.evaluations if each["step"] <= self.steps]
        self.bar = tqdm(total=self.experiment.trainer.train_steps, initial=self.steps, unit="step", desc="train",
                        disable=True if self.silent else None, leave=False, file=sys.stderr, dynamic_ncols=True)
        self.first_step, self.training_s, self.mark_s = self.steps, None, time.monotonic()
        self.line_s, self.mark_step = self.mark_s, self.steps

    @property
    def steps(self) -> int:
        """Training steps made, over all sessions."""
        return int(self.runner.trainer.global_step.numpy())

    def is_evaluated(self) -> bool:
        """Whether the weights as they are were evaluated, in this session or before."""
        return any(each["step"] == self.steps for each in self.evaluations)

    def after_loop(self, output) -> None:
        """Called after every few steps."""
        now_s = time.monotonic()
        if self.training_s is None:  # The first loop builds the graph: it says nothing about speed.
            self.training_s, self.first_step = 0.0, self.steps
        else:
            loop_s = now_s - self.mark_s
            self.training_s += loop_s
            output[IMAGES_PER_SECOND] = (self.steps - self.mark_step) * self._batch_size / loop_s
        self.mark_s, self.mark_step = now_s, self.steps
        self.loss = float(output["training_loss"])
        self.bar.update(self.steps - self.bar.n)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {self.images_per_s:.1f} images/s", refresh=False)
        if self.bar.disable and now_s - self.line_s > PLAIN_LINE_EVERY_S:
            self._say("")
        if self.runner.machines.any(self.asked_to_stop()):
            self.runner.save()
            raise StopTraining("user")

    @property
    def images_per_s(self) -> float:
        """Training images a second in this session, evaluations not counted."""
        return self._batch_size / self.step_s if self.step_s else 0.0

    @property
    def step_s(self) -> float:
        """Seconds of a training step in this session, evaluations not counted; 0 before the first
        loops are made."""
        steps = self.steps - self.first_step
        return self.training_s / steps if steps and self.training_s else 0.0

    @property
    def _batch_size(self) -> int:
        return self.experiment.task.train_data.global_batch_size

    def after_evaluation(self, output) -> None:
        """Called after every evaluation on the validation split, when its best checkpoint is on
        disk."""
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
        speed, total = self.images_per_s, self.experiment.trainer.train_steps
        left = ""
        if speed and self.steps < total:
            left_s = (total - self.steps) * self._batch_size / speed
            left = f", {duration(left_s)} left"
        tqdm.write(f"train: step {self.steps:,} of {total:,}, loss {self.loss:.3f}{more}, {speed:.1f} images/s{left}",
                   file=sys.stderr)
        self.line_s = time.monotonic()

    def _write_events(self) -> None:
        """What there is by class, and images, for TensorBoard. Holds no detections after that."""
        metric = self.runner.task.coco_metric
        self.events.write(self.runner.controller.eval_summary_manager.summary_writer(), self.steps, metric.evaluation)
        metric.evaluation = None


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# Model Garden's runner, so driven that a training may be ended at any moment and goes on as if it
# had not been.

class Session(NamedTuple):
    """One run of `invoke train`: step at which it began, steps made in all, `budget`, `patience` or
    `user`, and the seconds of a step (0: too few to tell)."""

    started_at: int
    steps: int
    stopped_by: str
    step_s: float


class Runner(train_lib.OrbitExperimentRunner):
    """`OrbitExperimentRunner` that evaluates at the same steps however often it was stopped, and
    saves before."""

    def __init__(self, machines: Machines, task, experiment, training: Path, watch: Watch):
        self.machines, self.task, self.watch = machines, task, watch
        super().__init__(distribution_strategy=machines.strategy, task=task, mode="train_and_eval", params=experiment,
                         model_dir=str(training), train_actions=[watch.after_loop], controller_cls=orbit.Controller,
                         save_summary=machines.is_first)

    def _build_controller(self, *machinery, save_summary=True, **options):
        trainer, step = self.params.trainer, self.trainer.global_step
        folders = [Path(self.model_dir) / name if save_summary else None
                   for name in ("train", trainer.validation_summary_subdir)]
        self._summary_manager, self._eval_summary_manager = (DefinedSummaries(folder, step) for folder in folders)
        return super()._build_controller(*machinery, save_summary=save_summary, **options)

    def _build_best_checkpoint_exporter(self):
        trainer = self.params.trainer
        return BestExporter(str(Path(self.model_dir) / trainer.best_checkpoint_export_subdir),
                            trainer.best_checkpoint_eval_metric, trainer.best_checkpoint_metric_comp)

    def save(self) -> None:
        """Saves a checkpoint of the step, unless it is there: one that is written twice could be
        lost."""
        step = int(self.trainer.global_step.numpy())
        if (self.checkpoint_manager.latest_checkpoint or "").endswith(f"ckpt-{step}"):
            return
        self.checkpoint_manager.save(checkpoint_number=step, check_interval=False)

    def run(self) -> None:
        """Trains until the budget is used up; StopTraining may come earlier."""
        trainer = self.params.trainer
        while True:
            step = int(self.trainer.global_step.numpy())
            due = step and (step % trainer.validation_interval == 0 or step >= trainer.train_steps)
            evaluated, = self.machines.agreed([float(self.watch.is_evaluated())])
            if due and not evaluated:  # An evaluation that was cut off is made now.
                self.save()
                self.watch.after_evaluation(self.controller.evaluate(trainer.validation_steps))
            if step >= trainer.train_steps:
                return
            if self.machines.agreed([float(self.watch.is_out_of_patience())])[0]:
                raise StopTraining("patience")
            until = min(trainer.train_steps, (step // trainer.validation_interval + 1) * trainer.validation_interval)
            self.controller.train(until, checkpoint_at_completion=False)


def run_experiment(root: Path, runtime, patience: int, evaluations: list[dict], keep: Callable,
                   asked_to_stop: Callable[[], bool]) -> Session:
    """Trains and evaluates `training/experiment.yaml`.

    `runtime` is `[runtime]` of the settings; see `Watch` for the rest. Raises DetectorError for
    what a person can mend.
    """
    training = root / "training"
    experiment = with_runtime(read_experiment(root / EXPERIMENT), runtime)
    batch_size = experiment.task.train_data.global_batch_size
    machines = open_machines(experiment.runtime, batch_size)
    with silence_libraries():
        first_step, damaged = readable_step(training) if machines.is_first else (0, [])
    for name in damaged:
        print(f"train: training/{name} cannot be read and is removed", flush=True)
    first_step = _agreed_start(machines, experiment, first_step)
    with ExitStack() as stack:
        folder = training if machines.is_first else Path(tempfile.mkdtemp())
        if machines.is_first:
            log = stack.enter_context((training / "train.log").open("a", encoding="utf-8"))
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            log = None
        stack.enter_context(silence_libraries(log))
        # A network of its own: what is shared among devices tells less of itself.
        check_batch_fits(detector.DetectorTask(experiment.task).build_model(), batch_size // machines.replicas)
        stack.enter_context(machines.strategy.scope())
        make_repeatable(experiment.task.train_data.seed)
        events = EvaluationEvents("validation", read_label_map(root / LABEL_MAP), Layout(root).records("validation"))
        watch = Watch(experiment, folder, events, patience, evaluations, keep, asked_to_stop,
                      silent=not machines.is_first)
        stack.enter_context(explained(root, experiment, lambda: watch.steps if watch.runner else first_step))
        absolute = with_absolute_paths(experiment, root)
        task = detector.DetectorTask(absolute.task, logging_dir=str(folder), first_step=first_step,
                                     agreed=machines.agreed)
        runner = Runner(machines, task, absolute, folder, watch)
        if first_step and not machines.is_first:
            runner.controller.restore_checkpoint(str(training / f"ckpt-{first_step}"))
        watch.start(runner)
        try:
            runner.run()
        except StopTraining as stop:
            return Session(first_step, watch.steps, stop.stopped_by, watch.step_s)
        finally:
            watch.bar.close()
    return Session(first_step, watch.steps, "budget", watch.step_s)


def with_runtime(experiment, runtime):
    """The experiment with the machines of `[runtime]`, which may differ from one session, and
    machine, to the next."""
    experiment.runtime.override({"distribution_strategy": runtime.distribution_strategy,
                                 "worker_hosts": runtime.worker_hosts or None, "task_index": runtime.task_index})
    several = runtime.distribution_strategy not in ("one_device", "off")
    # Statistics of all devices together, as one device would see them.
    experiment.task.model.norm_activation.use_sync_bn |= several
    return experiment


def make_repeatable(seed: int) -> None:
    """The same weights from the same images, on a CPU, in every process.

    TensorFlow's arithmetic optimization joins additions of gradients in an order that differs from
    run to run.
    """
    tf_keras.utils.set_random_seed(seed)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _agreed_start(machines: Machines, experiment, first_step: int) -> int:
    """The first machine's step to start at. Raises DetectorError if this one was told to train
    something else."""
    mine = float(zlib.crc32(repr((experiment.task.as_dict(), experiment.trainer.as_dict())).encode()) % 2**23)
    theirs, step = machines.agreed([mine, float(first_step)])
    if mine != theirs:
        raise DetectorError(f"this machine's {EXPERIMENT} is not that of the first machine: all have to see one "
                            "project folder: share it, then start invoke train on the first machine first")
    return int(step)


WARM_UP_STEPS = 3


TIMED_STEPS = 9



def check_experiment_fits(experiment) -> None:
    """Raises DetectorError for a batch that does not fit into memory on one device."""
    with silence_libraries():
        model = detector.DetectorTask(experiment.task).build_model()
        check_batch_fits(model, experiment.task.train_data.global_batch_size)



def measure_step_s(experiment, root: Path) -> float:
    """Seconds a step: the median of a few real steps on the real records, with fresh weights that
    are thrown away.

    Raises DetectorError for a batch that does not fit into memory.
    """
    import tensorflow as tf

    with silence_libraries():
        task_config = with_absolute_paths(experiment, root).task
        task = detector.DetectorTask(task_config)
        model = task.build_model()
        check_batch_fits(model, task_config.train_data.global_batch_size)
        optimizer = task.create_optimizer(experiment.trainer.optimizer_config, experiment.runtime)
        if hasattr(optimizer, "shadow_copy"):  # Model Garden's trainer does this for moving averages.
            optimizer.shadow_copy(model)
        step = tf.function(lambda inputs: task.train_step(inputs, model=model, optimizer=optimizer)["loss"])
        seconds, started_s = [], time.perf_counter()
        for inputs in task.build_inputs(task_config.train_data).take(WARM_UP_STEPS + TIMED_STEPS):
            step(inputs).numpy()
            seconds.append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
    return round(statistics.median(seconds[WARM_UP_STEPS:] or seconds), 4)

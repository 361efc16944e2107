"""Model Garden's runner, so driven that a training may be ended at any moment and goes on as if it had not been."""

import shutil
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import orbit
import tensorflow as tf
import tf_keras
from official.core import train_lib

from scripts.pipeline.errors import DetectorError
from scripts.records.label_map import LABEL_MAP, read_label_map
from scripts.records.records import record_files
from scripts.training import detector
from scripts.training.checkpoints import BestExporter, readable_step
from scripts.training.configure import EXPERIMENT
from scripts.training.events import DefinedSummaries, EvaluationEvents
from scripts.training.experiment import read_experiment, with_absolute_paths
from scripts.training.machines import Machines, open_machines
from scripts.training.memory import refuse_large_batch
from scripts.training.quiet import quiet_libraries
from scripts.training.trouble import explained
from scripts.training.watch import StopTraining, Watch


class Sitting(NamedTuple):
    """One run of `invoke train`: step at which it began, steps made in all, `budget`, `patience` or `user`, and the
    seconds of a step (0: too few to tell)."""

    started_at: int
    steps: int
    stopped_by: str
    step_s: float


class Runner(train_lib.OrbitExperimentRunner):
    """`OrbitExperimentRunner` that evaluates at the same steps however often it was stopped, and saves before."""

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
        """Saves a checkpoint of the step, unless it is there: one that is written twice could be lost."""
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
                   asked_to_stop: Callable[[], bool]) -> Sitting:
    """Trains and evaluates `training/experiment.yaml`.

    `runtime` is `[runtime]` of the settings; see `Watch` for the rest. Raises DetectorError for what a person can mend.
    """
    training = root / "training"
    experiment = with_runtime(read_experiment(root / EXPERIMENT), runtime)
    batch_size = experiment.task.train_data.global_batch_size
    machines = open_machines(experiment.runtime, batch_size)
    with quiet_libraries():
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
        stack.enter_context(quiet_libraries(log))
        # A network of its own: what is shared among devices tells less of itself.
        refuse_large_batch(detector.DetectorTask(experiment.task).build_model(), batch_size // machines.replicas)
        stack.enter_context(machines.strategy.scope())
        make_repeatable(experiment.task.train_data.seed)
        events = EvaluationEvents("validation", read_label_map(root / LABEL_MAP), record_files(root, "validation"))
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
            return Sitting(first_step, watch.steps, stop.stopped_by, watch.step_s)
        finally:
            watch.bar.close()
    return Sitting(first_step, watch.steps, "budget", watch.step_s)


def with_runtime(experiment, runtime):
    """The experiment with the machines of `[runtime]`, which may differ from one sitting, and machine, to the next."""
    experiment.runtime.override({"distribution_strategy": runtime.distribution_strategy,
                                 "worker_hosts": runtime.worker_hosts or None, "task_index": runtime.task_index})
    several = runtime.distribution_strategy not in ("one_device", "off")
    # Statistics of all devices together, as one device would see them.
    experiment.task.model.norm_activation.use_sync_bn |= several
    return experiment


def make_repeatable(seed: int) -> None:
    """The same weights from the same pictures, on a CPU, in every process.

    TensorFlow's arithmetic optimisation joins additions of gradients in an order that differs from run to run.
    """
    tf_keras.utils.set_random_seed(seed)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _agreed_start(machines: Machines, experiment, first_step: int) -> int:
    """The first machine's step to start at. Raises DetectorError if this one was told to train something else."""
    mine = float(zlib.crc32(repr((experiment.task.as_dict(), experiment.trainer.as_dict())).encode()) % 2**23)
    theirs, step = machines.agreed([mine, float(first_step)])
    if mine != theirs:
        raise DetectorError(f"this machine's {EXPERIMENT} is not that of the first machine: all have to see one "
                            "project folder: share it, then start invoke train on the first machine first")
    return int(step)

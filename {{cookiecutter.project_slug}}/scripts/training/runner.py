"""Run a training with Model Garden's runner, so that it may end at any moment and continue.

A training that was stopped and continued computes what one in a single session would have.
"""

import math
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NamedTuple

import orbit
import tensorflow as tf
import tf_keras
from official.core import train_lib, train_utils

from scripts.core.files import write_json
from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.modeling.experiment import PATHS, dotted_values
from scripts.training import task as detector
from scripts.training.devices import Machines, check_batch_fits, open_machines
from scripts.training.run_file import BEST_FACTS, readable_step
from scripts.training.summaries import DefinedSummaries, EvaluationEvents
from scripts.training.watch import StopTraining, Watch, explained

WARM_UP_STEPS = 3
TIMED_STEPS = 9


class Session(NamedTuple):
    """What one run of `invoke train` did.

    Attributes:
        started_at: The step at which it began.
        steps: Steps made in all, over all sessions.
        stopped_by: `budget`, `patience` or `user`.
        step_s: Seconds of a step (0: too few to tell).
    """

    started_at: int
    steps: int
    stopped_by: str
    step_s: float


class BestExporter(train_utils.BestCheckpointExporter):
    """Model Garden's exporter of the best checkpoint, safe against a kill at any moment.

    `info.json` names a checkpoint after it is on disk, and the one before stays until the next.
    """

    def maybe_export_checkpoint(self, checkpoint, eval_logs, global_step, write_logs=True) -> bool:
        """Save the checkpoint if its metric is the best so far; return whether it is."""
        best = self._best_ckpt_logs
        if best is not None and not self._new_metric_is_better(best, eval_logs):
            return False
        self._best_ckpt_logs = eval_logs
        self._get_checkpoint_manager(checkpoint).save(checkpoint_number=global_step)
        if write_logs:
            self.export_best_eval_metric(eval_logs, global_step)
        return True

    def _get_checkpoint_manager(self, checkpoint):
        if self._checkpoint_manager is None:
            self._checkpoint_manager = tf.train.CheckpointManager(
                checkpoint, directory=self._export_dir, max_to_keep=2, checkpoint_name="best_ckpt")
        return self._checkpoint_manager

    def export_best_eval_metric(self, eval_logs, global_step) -> None:
        """Write the figures of the best checkpoint, all or nothing."""
        facts = {key: float(value) for key, value in eval_logs.items()
                 if math.isfinite(float(value))}
        write_json(Path(self._export_dir) / BEST_FACTS,
                   facts | {"best_ckpt_global_step": float(global_step)})


class Runner(train_lib.OrbitExperimentRunner):
    """`OrbitExperimentRunner` that evaluates at the same steps however often it was stopped.

    It saves a checkpoint before each evaluation.
    """

    def __init__(self, machines: Machines, task, experiment, training: Path, watch: Watch):
        self.machines, self.task, self.watch = machines, task, watch
        super().__init__(distribution_strategy=machines.strategy, task=task, mode="train_and_eval",
                         params=experiment, model_dir=str(training),
                         train_actions=[watch.after_loop], controller_cls=orbit.Controller,
                         save_summary=machines.is_first)

    def _build_controller(self, *machinery, save_summary=True, **options):
        trainer, step = self.params.trainer, self.trainer.global_step
        folders = [Path(self.model_dir) / name if save_summary else None
                   for name in ("train", trainer.validation_summary_subdir)]
        self._summary_manager, self._eval_summary_manager = (
            DefinedSummaries(folder, step) for folder in folders)
        return super()._build_controller(*machinery, save_summary=save_summary, **options)

    def _build_best_checkpoint_exporter(self):
        trainer = self.params.trainer
        folder = Path(self.model_dir) / trainer.best_checkpoint_export_subdir
        return BestExporter(str(folder), trainer.best_checkpoint_eval_metric,
                            trainer.best_checkpoint_metric_comp)

    def save(self) -> None:
        """Save a checkpoint of the step, unless it is there.

        A checkpoint that is written a second time could be lost.
        """
        step = int(self.trainer.global_step.numpy())
        if (self.checkpoint_manager.latest_checkpoint or "").endswith(f"ckpt-{step}"):
            return
        self.checkpoint_manager.save(checkpoint_number=step, check_interval=False)

    def run(self) -> None:
        """Train until the budget is used up; StopTraining may come earlier."""
        trainer = self.params.trainer
        interval = trainer.validation_interval
        while True:
            step = int(self.trainer.global_step.numpy())
            due = step and (step % interval == 0 or step >= trainer.train_steps)
            evaluated, = self.machines.agreed([float(self.watch.is_evaluated())])
            if due and not evaluated:  # Also one that was cut off in the session before.
                self.save()
                self.watch.after_evaluation(self.controller.evaluate(trainer.validation_steps))
            if step >= trainer.train_steps:
                return
            if self.machines.agreed([float(self.watch.is_out_of_patience())])[0]:
                raise StopTraining("patience")
            until = min(trainer.train_steps, (step // interval + 1) * interval)
            self.controller.train(until, checkpoint_at_completion=False)


def run_experiment(experiment, training: Path, runtime, names: dict[int, str], patience: int,
                   evaluations: list[dict], keep: Callable,
                   asked_to_stop: Callable[[], bool]) -> Session:
    """Train and evaluate an experiment.

    Args:
        experiment: An `ExperimentConfig` with absolute paths; its devices are set here.
        training: The folder of the checkpoints and of `train.log`.
        runtime: `[runtime]` of the settings.
        names: Class names by label map id.
        patience, evaluations, keep, asked_to_stop: See `Watch`.

    Raises:
        DetectorError: Something that a person can repair: devices, memory, the loss, the disk.
    """
    experiment = with_runtime(experiment, runtime)
    batch_size = experiment.task.train_data.global_batch_size
    machines = open_machines(experiment.runtime, batch_size)
    with silence_libraries():
        first_step, damaged = readable_step(training) if machines.is_first else (0, [])
    for name in damaged:
        print(f"train: training/{name} cannot be read and is removed", flush=True)
    first_step = _agreed_start(machines, experiment, first_step)
    with _output_folder(training, machines.is_first) as folder:
        # Asked of a network outside the strategy: in one shared among devices shapes are missing.
        check_batch_fits(detector.DetectorTask(experiment.task).build_model(),
                         batch_size // machines.replicas)
        with machines.strategy.scope(), explained(experiment, lambda: watch.steps):
            make_repeatable(experiment.task.train_data.seed)
            records = tf.io.gfile.glob(experiment.task.validation_data.input_path)
            events = EvaluationEvents("validation", names, sorted(map(Path, records)))
            watch = Watch(experiment, folder, events, patience, evaluations, keep, asked_to_stop,
                          silent=not machines.is_first)
            task = detector.DetectorTask(experiment.task, logging_dir=str(folder),
                                         first_step=first_step, agreed=machines.agreed)
            runner = Runner(machines, task, experiment, folder, watch)
            if first_step and not machines.is_first:
                runner.controller.restore_checkpoint(str(training / f"ckpt-{first_step}"))
            watch.start(runner)
            stopped_by = _stopped_by(runner)
            return Session(first_step, watch.steps, stopped_by, watch.step_s)


@contextmanager
def _output_folder(training: Path, is_first: bool) -> Iterator[Path]:
    """Give the folder to write to: only the first machine writes into the project.

    What libraries print meanwhile goes into its log.
    """
    if is_first:
        with (training / "train.log").open("a", encoding="utf-8") as log, silence_libraries(log):
            yield training
    else:
        with (tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
              silence_libraries()):
            yield Path(folder)


def _stopped_by(runner: Runner) -> str:
    """Train; return what ended it."""
    try:
        runner.run()
        return "budget"
    except StopTraining as stop:
        return stop.stopped_by
    finally:
        runner.watch.bar.close()


def with_runtime(experiment, runtime):
    """Set the devices of `[runtime]`, which may differ from session to session; return it."""
    experiment.runtime.override({"distribution_strategy": runtime.distribution_strategy,
                                 "worker_hosts": runtime.worker_hosts or None,
                                 "task_index": runtime.task_index})
    several = runtime.distribution_strategy not in ("one_device", "off")
    # Statistics of all devices together, as one device would see them.
    experiment.task.model.norm_activation.use_sync_bn |= several
    return experiment


def make_repeatable(seed: int) -> None:
    """Make a training give the same weights from the same images, on a CPU, in every process.

    TensorFlow's arithmetic optimization joins additions of gradients in an order that differs from
    run to run.
    """
    tf_keras.utils.set_random_seed(seed)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _agreed_start(machines: Machines, experiment, first_step: int) -> int:
    """Return the first machine's step to start at.

    Raises DetectorError if this machine was told to train something else.
    """
    settings = dotted_values({"task": experiment.task.as_dict(),
                              "trainer": experiment.trainer.as_dict()})
    # Each machine may see the project under another path.
    settings |= {key: PurePath(settings[key] or "").name for key in PATHS}
    own = float(zlib.crc32(repr(settings).encode()) % 2**23)
    first, step = machines.agreed([own, float(first_step)])
    if own != first:
        raise DetectorError("this machine's training/experiment.yaml is not that of the first "
                            "machine: all have to see one project folder: share it, then start "
                            "invoke train on the first machine first")
    return int(step)


def check_experiment_fits(experiment) -> None:
    """Raise DetectorError for a batch that does not fit into memory on one device."""
    with silence_libraries():
        model = detector.DetectorTask(experiment.task).build_model()
        check_batch_fits(model, experiment.task.train_data.global_batch_size)


def measure_step_s(experiment) -> float:
    """Return the seconds of a training step: the median of a few on the real records.

    `experiment` has absolute paths. The weights are fresh ones that are thrown away.

    Raises:
        DetectorError: A batch does not fit into memory.
    """
    with silence_libraries():
        task = detector.DetectorTask(experiment.task)
        model = task.build_model()
        check_batch_fits(model, experiment.task.train_data.global_batch_size)
        optimizer = task.create_optimizer(experiment.trainer.optimizer_config, experiment.runtime)
        if hasattr(optimizer, "shadow_copy"):  # Model Garden's trainer does this too.
            optimizer.shadow_copy(model)

        @tf.function
        def step(inputs):
            return task.train_step(inputs, model=model, optimizer=optimizer)["loss"]

        seconds, started_s = [], time.perf_counter()
        batches = task.build_inputs(experiment.task.train_data)
        for inputs in batches.take(WARM_UP_STEPS + TIMED_STEPS):
            step(inputs).numpy()
            seconds.append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
    return round(statistics.median(seconds[WARM_UP_STEPS:] or seconds), 4)

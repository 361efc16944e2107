"""Model Garden's runner with our eyes and hands: a progress line, a safe best checkpoint, stops that lose nothing."""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orbit
import tensorflow as tf
from official.common import distribute_utils
from official.core import train_lib, train_utils
from tqdm import tqdm

from scripts.pipeline.errors import DetectorError
from scripts.training import detector
from scripts.training.experiment import with_absolute_paths
from scripts.training.quiet import quiet_libraries


class StopTraining(Exception):
    """Training ends here: steps made, best (checkpoint name, AP or None) and `budget`, `patience` or `user`."""

    def __init__(self, steps: int, best: tuple[str | None, float | None], stopped_by: str):
        super().__init__(stopped_by)
        self.steps, self.best, self.stopped_by = steps, best, stopped_by


class SafeBestExporter(train_utils.BestCheckpointExporter):
    """Model Garden's keeper of the best checkpoint, which announces a checkpoint only after it is on disk."""

    def maybe_export_checkpoint(self, checkpoint, eval_logs, global_step, write_logs=True) -> bool:
        """Saves the checkpoint if its metric is the best so far; says whether it was."""
        if self._best_ckpt_logs is not None and not self._new_metric_is_better(self._best_ckpt_logs, eval_logs):
            return False
        self._best_ckpt_logs = eval_logs
        self._get_checkpoint_manager(checkpoint).save(checkpoint_number=global_step)
        if write_logs:
            self.export_best_eval_metric(eval_logs, global_step)
        return True


class Runner(train_lib.OrbitExperimentRunner):
    """`OrbitExperimentRunner` with the exporter above."""

    def _build_best_checkpoint_exporter(self):
        trainer = self.params.trainer
        return SafeBestExporter(str(Path(self.model_dir) / trainer.best_checkpoint_export_subdir),
                                trainer.best_checkpoint_eval_metric, trainer.best_checkpoint_metric_comp)


class Watch:
    """Follows a training: the progress line, `run.json`, patience and the wish to stop."""

    def __init__(self, experiment, model_dir: Path, patience: int, keep: Callable, asked_to_stop: Callable[[], bool]):
        self.experiment, self.model_dir, self.patience = experiment, model_dir, patience
        self.keep, self.asked_to_stop = keep, asked_to_stop
        self.evaluations_since_best = 0
        self.runner = self.bar = None
        self.loss = math.nan

    def start(self, runner: Runner) -> None:
        """Opens the progress line where the restored checkpoint stands."""
        self.runner = runner
        self.bar = tqdm(total=self.experiment.trainer.train_steps, initial=self.steps, unit="step", desc="train",
                        disable=None, leave=False, file=sys.stderr, dynamic_ncols=True)
        self.first_step, self.training_s, self.mark_s = self.steps, None, time.monotonic()

    @property
    def steps(self) -> int:
        """Training steps made, over all sittings."""
        return int(self.runner.trainer.global_step.numpy())

    @property
    def best(self) -> tuple[str | None, float | None]:
        """Name of the best checkpoint and its AP (0..1, None if pycocotools called it undefined)."""
        info = self.model_dir / "best" / "info.json"
        if not info.is_file():
            return None, None
        facts = json.loads(info.read_text(encoding="utf-8"))
        return f"best_ckpt-{int(facts['best_ckpt_global_step'])}", facts["AP"] if facts["AP"] >= 0 else None

    def after_loop(self, output) -> None:
        """Called after every few steps."""
        now_s = time.monotonic()
        if self.training_s is None:  # The first loop builds the graph: it says nothing about speed.
            self.training_s, self.first_step = 0.0, self.steps
        else:
            self.training_s += now_s - self.mark_s
        self.mark_s = now_s
        self.loss = float(output["training_loss"])
        if not math.isfinite(self.loss):
            raise DetectorError(f"the loss is {self.loss} after step {self.steps}: training: try a lower "
                                "train.learning_rate in detector.toml, then invoke forget train and invoke train")
        self.bar.update(self.steps - self.bar.n)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {self.pictures_per_s:.1f} pictures/s", refresh=False)
        if self.asked_to_stop():
            self.runner.checkpoint_manager.save(checkpoint_number=self.steps)
            raise StopTraining(self.steps, self.best, "user")

    @property
    def pictures_per_s(self) -> float:
        """Training pictures a second in this sitting, evaluations not counted."""
        pictures = (self.steps - self.first_step) * self.experiment.task.train_data.global_batch_size
        return pictures / self.training_s if self.training_s else 0.0

    def after_evaluation(self, output) -> None:
        """Called after every evaluation on the validation split."""
        average_precision = float(output["AP"])
        shown = f"{100 * average_precision:.1f}" if average_precision >= 0 else "undefined"
        name, _ = self.best
        is_best = name == f"best_ckpt-{self.steps}"
        tqdm.write(f"train: step {self.steps:,} of {self.bar.total:,}, loss {self.loss:.3f}, validation AP {shown}"
                   f"{' (best so far)' if is_best else ''}, {self.pictures_per_s:.1f} pictures/s", file=sys.stderr)
        self.keep(self.steps, self.best, None)
        self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1
        self.mark_s = time.monotonic()
        if self.patience and self.evaluations_since_best >= self.patience:
            raise StopTraining(self.steps, self.best, "patience")


def run_experiment(root: Path, experiment, patience: int, keep: Callable, asked_to_stop: Callable[[], bool]) -> None:
    """Trains and evaluates in `training/` of the project; always ends with StopTraining, or DetectorError.

    `keep(steps, best, stopped_by)` is called after each evaluation; `asked_to_stop()` is asked every few steps.
    """
    runtime, model_dir = experiment.runtime, root / "training"
    tf.random.set_seed(experiment.task.train_data.seed)
    distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    strategy = distribute_utils.get_distribution_strategy(
        distribution_strategy=runtime.distribution_strategy, all_reduce_alg=runtime.all_reduce_alg,
        num_gpus=_gpus(runtime), tpu_address=runtime.tpu)
    watch = Watch(experiment, model_dir, patience, keep, asked_to_stop)
    experiment = with_absolute_paths(experiment, root)
    with (model_dir / "train.log").open("a", encoding="utf-8") as log, quiet_libraries(log), strategy.scope():
        runner = Runner(
            distribution_strategy=strategy,
            task=detector.DetectorTask(experiment.task, logging_dir=str(model_dir), first_step=_first_step(model_dir)),
            mode="train_and_eval", params=experiment, model_dir=str(model_dir),
            train_actions=[watch.after_loop], eval_actions=[watch.after_evaluation], controller_cls=orbit.Controller)
        watch.start(runner)
        runner.run()
    raise StopTraining(watch.steps, watch.best, "budget")


def _first_step(model_dir: Path) -> int:
    """The step of the checkpoint from which training goes on, so that its pictures go on there too; 0 without one."""
    last = tf.train.latest_checkpoint(str(model_dir))
    return int(last.rsplit("-", 1)[1]) if last else 0


def _gpus(runtime) -> int:
    """GPUs to use: those of `[overrides]`, else all there are, or one where the strategy takes no more."""
    found = runtime.num_gpus or len(tf.config.list_physical_devices("GPU"))
    return min(found, 1) if runtime.distribution_strategy in ("one_device", "off") else found

"""Checkpoints in `training/` that survive a kill at any moment: which of them can be read, which is the best."""

import json
import math
import re
import shutil
from pathlib import Path

import tensorflow as tf
from official.core import train_utils

from scripts.pipeline.files import write_json

BEST_FACTS = "info.json"


def readable_step(training: Path) -> tuple[int, list[str]]:
    """The step of the newest checkpoint of which every tensor can be read (0: there is none), and what was removed.

    A power cut may leave files that are there and not whole, a kill files that nothing names: they are removed, and
    training goes on at the one before. TensorFlow's own list (`training/checkpoint`) is set to those that stay.
    """
    for unfinished in training.glob("ckpt-*_temp"):
        shutil.rmtree(unfinished)
    steps, damaged = sorted(_by_step(training)), []
    while steps and not _readable(training / f"ckpt-{steps[-1]}"):
        damaged.append(f"ckpt-{steps.pop()}")
        for path in training.glob(f"{damaged[-1]}.*"):
            path.unlink()
    if steps:
        names = [f"ckpt-{step}" for step in steps]
        # Times of writing, and none to be preserved: without them the old ones would never be deleted.
        times_s = [(training / f"{name}.index").stat().st_mtime for name in names]
        tf.compat.v1.train.update_checkpoint_state(str(training), names[-1], names, None, times_s, 0.0)
    else:
        (training / "checkpoint").unlink(missing_ok=True)
    return (steps[-1] if steps else 0), damaged


def _readable(prefix: Path) -> bool:
    """Reads every tensor: TensorFlow checks their sums while it does."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError):
        return False
    return True


def _by_step(folder: Path) -> dict[int, Path]:
    """Step -> prefix of the checkpoints that have an index."""
    prefixes = (path.with_suffix("") for path in folder.glob("*.index"))
    return {int(re.search(r"-(\d+)$", prefix.name)[1]): prefix for prefix in prefixes}


def averaged_checkpoints(training: Path) -> dict[int, Path]:
    """Step -> prefix of the checkpoints of evaluations, with averaged weights."""
    return _by_step(training / "ema_checkpoints")


def best_checkpoint(training: Path) -> tuple[str | None, float | None]:
    """Name and AP (0..1, None if pycocotools called it undefined) of the best checkpoint; (None, None) without one."""
    path = training / "best" / BEST_FACTS
    if not path.is_file():
        return None, None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return f"best_ckpt-{int(facts['best_ckpt_global_step'])}", facts["AP"] if facts["AP"] >= 0 else None


class BestExporter(train_utils.BestCheckpointExporter):
    """Model Garden's keeper of the best checkpoint, which a kill at any moment leaves with a whole one.

    A checkpoint is announced after it is on disk, and the one before stays until the next.
    """

    def maybe_export_checkpoint(self, checkpoint, eval_logs, global_step, write_logs=True) -> bool:
        """Saves the checkpoint if its metric is the best so far; says whether it was."""
        if self._best_ckpt_logs is not None and not self._new_metric_is_better(self._best_ckpt_logs, eval_logs):
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
        """Writes the figures of the best checkpoint, whole or not at all."""
        facts = {key: float(value) for key, value in eval_logs.items() if math.isfinite(float(value))}
        write_json(Path(self._export_dir) / BEST_FACTS, facts | {"best_ckpt_global_step": float(global_step)})

"""The checkpoints of a training: which can be read, which is the best, and how it is kept.

A kill or a power cut at any moment leaves a checkpoint from which training continues.
"""

import json
import math
import re
import shutil
from pathlib import Path

import tensorflow as tf
from official.core import train_utils

from scripts.core.files import write_json

BEST_FACTS = "info.json"


def readable_step(training: Path) -> tuple[int, list[str]]:
    """Remove damaged checkpoints from the folder `training`; find the newest one that is left.

    A power cut may leave incomplete files, a kill may leave files that no list names. Training
    continues at the checkpoint before. TensorFlow's own list (`training/checkpoint`) is set to
    those that stay.

    Returns:
        The step of the newest checkpoint of which every tensor can be read (0: there is none), and
        the names of those that were removed.
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
        # With times and nothing to preserve: without them TensorFlow never deletes the old ones.
        times_s = [(training / f"{name}.index").stat().st_mtime for name in names]
        tf.compat.v1.train.update_checkpoint_state(str(training), names[-1], names, None, times_s,
                                                   0.0)
    else:
        (training / "checkpoint").unlink(missing_ok=True)
    return (steps[-1] if steps else 0), damaged


def _readable(prefix: Path) -> bool:
    """Read every tensor: TensorFlow compares their checksums while it does."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError):
        return False
    return True


def _by_step(folder: Path) -> dict[int, Path]:
    """Return the prefixes of the checkpoints that have an index, by step."""
    prefixes = (path.with_suffix("") for path in folder.glob("*.index"))
    return {int(re.search(r"-(\d+)$", prefix.name)[1]): prefix for prefix in prefixes}


def averaged_checkpoints(training: Path) -> dict[int, Path]:
    """Return the prefixes of the checkpoints of evaluations, with averaged weights, by step."""
    return _by_step(training / "ema_checkpoints")


def best_checkpoint(training: Path) -> tuple[str | None, float | None]:
    """Return name and AP of the best checkpoint in `training/best`; (None, None) without one.

    The AP is 0..1, or None where pycocotools calls it undefined.
    """
    path = training / "best" / BEST_FACTS
    if not path.is_file():
        return None, None
    facts = json.loads(path.read_text(encoding="utf-8"))
    name = f"best_ckpt-{int(facts['best_ckpt_global_step'])}"
    return name, facts["AP"] if facts["AP"] >= 0 else None


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

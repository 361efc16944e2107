"""Checkpoints in `training/` that survive a kill at any moment: which of them can be read, which is
the best."""

import json
import math
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import tensorflow as tf
from official.core import train_utils

from scripts.core.files import replace_dir, sha256_file, temporary_beside, write_json
from scripts.core.text import DetectorError
from scripts.data.demo.scene import CLASSES
from scripts.data.examples import record_files
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.modeling.experiment import dotted_values
from scripts.modeling.weight_sources import weights_facts
from scripts.modeling.zoo import ZooEntry

BEST_FACTS = "info.json"


def readable_step(training: Path) -> tuple[int, list[str]]:
    """The step of the newest checkpoint of which every tensor can be read (0: there is none), and
    what was removed.

    A power cut may leave files that are there and not whole, a kill files that nothing names: they
    are removed, and training goes on at the one before. TensorFlow's own list
    (`training/checkpoint`) is set to those that stay.
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
        # Times of writing, and none to be preserved: without them the old ones would never be
        # deleted.
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
    """Name and AP (0..1, None if pycocotools called it undefined) of the best checkpoint; (None,
    None) without one."""
    path = training / "best" / BEST_FACTS
    if not path.is_file():
        return None, None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return f"best_ckpt-{int(facts['best_ckpt_global_step'])}", facts["AP"] if facts["AP"] >= 0 else None


class BestExporter(train_utils.BestCheckpointExporter):
    """Model Garden's keeper of the best checkpoint, which a kill at any moment leaves with a whole
    one.

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


# `training/run.json`: what a training was asked for, how far it came, and whether it may be
# continued.

RUN = "training/run.json"
# What a training leaves behind; everything else in training/ is the user's or belongs to
# `configure`.
LEFT_BEHIND = ("run.json", "train.log", "train", "validation", "best", "ema_checkpoints", "checkpoint")
PACKAGES = ("tensorflow", "tensorflow-cpu", "tf-models-official", "tf-keras", "numpy", "pycocotools")

# Keys of an experiment that follow from the budget; a raised budget continues.
BUDGET_KEYS = ("trainer.train_steps", "trainer.validation_interval", "trainer.checkpoint_interval",
               "trainer.optimizer_config.learning_rate.cosine.decay_steps",
               "trainer.optimizer_config.warmup.linear.warmup_steps")


def new_run(root: Path, entry: ZooEntry, experiment) -> dict:
    """The content of `run.json` before the first step."""
    return {
        "schema": 1,
        "settings": dotted_values(experiment.as_dict()),
        "model": entry.id,
        "input_px": entry.input_px,
        "classes": list(read_label_map(root / LABEL_MAP).values()),
        "versions": installed_versions(),
        "data_sha256": data_sha256(root),
        "weights": weights_facts(root, entry),
        "seed": experiment.task.train_data.seed,
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
        "seconds": 0.0, "steps": 0, "stopped_by": None, "best_checkpoint": None, "best_AP": None,
        "evaluations": [],
    }


def installed_versions() -> dict:
    """Python and the packages that decide what a training computes."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def data_sha256(root: Path) -> dict:
    """Hash of each record shard of train and validation, by file name."""
    return {path.name: sha256_file(path) for split in ("train", "validation") for path in record_files(root, split)}


def read_run(root: Path) -> dict | None:
    """The run in `training/`, None if there is none. Raises DetectorError if its file is damaged.
    """
    path = root / RUN
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DetectorError(f"damaged: {RUN}: type invoke forget train to start a new run") from None


def write_run(root: Path, run: dict) -> None:
    """Writes `run.json` whole or not at all."""
    write_json(root / RUN, run)


def may_continue(old: dict, new: dict) -> tuple[bool, str]:
    """Whether checkpoints of `old` go on into `new`, and if not, what differs.

    Raises DetectorError when the model itself is another one: its checkpoints would not fit.
    """
    if old["classes"] != new["classes"] and set(old["classes"]) <= set(CLASSES):
        # No refusal: whoever goes from the demo to own images has said what is wanted in
        # detector.toml.
        return False, f"the classes were {_shown(old['classes'])}"
    for key, what in (("model", "model"), ("input_px", "input size"), ("classes", "classes")):
        if old[key] != new[key]:
            raise DetectorError(
                f"training/ holds a run with {what} {_shown(old[key])}, the settings now say {_shown(new[key])}: "
                f"{RUN}: type invoke forget train (the old run moves to training/previous), then invoke train"
            )
    if old["data_sha256"] != new["data_sha256"]:
        return False, "the images or boxes changed"
    if old.get("weights") != new.get("weights"):
        return False, "the pre-trained weights changed"
    differing = [key for key, value in new["settings"].items()
                 if key not in BUDGET_KEYS and old["settings"].get(key) != value]
    if differing:
        return False, f"{differing[0]} changed"
    if new["settings"]["trainer.train_steps"] < old["steps"]:
        return False, "fewer steps are asked for than were made"
    return True, ""


def _shown(value) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def set_aside(root: Path) -> str:
    """Moves the run in `training/` to `training/previous`, replacing an older one there; says so,
    or "".

    A run without a checkpoint has nothing to keep: it is removed, and what is in
    `training/previous` stays.
    """
    training = root / "training"
    found = [path for name in LEFT_BEHIND for path in training.glob(name)] + list(training.glob("ckpt-*"))
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

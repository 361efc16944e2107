"""What a training leaves in `training/`: `run.json` and checkpoints; whether it may continue.

A kill or a power cut at any moment leaves a checkpoint from which training continues. Imports
TensorFlow only to read checkpoints: `invoke runs` and the report read `run.json` too.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from scripts.core.files import sha256_file, write_json
from scripts.core.text import DetectorError
from scripts.modeling.experiment import dotted_values
from scripts.modeling.zoo import ZooEntry

PACKAGES = ("tensorflow", "tensorflow-cpu", "tf-models-official", "tf-keras", "numpy",
            "pycocotools")

# Keys of an experiment that follow from the budget: a larger budget continues the run.
BUDGET_KEYS = ("trainer.train_steps", "trainer.validation_interval", "trainer.checkpoint_interval",
               "trainer.optimizer_config.learning_rate.cosine.decay_steps",
               "trainer.optimizer_config.warmup.linear.warmup_steps")

# The file beside the best checkpoint that holds its figures.
BEST_FACTS = "info.json"


def new_run(entry: ZooEntry, experiment, classes: list[str], source: dict,
            records: Iterable[Path], weights: dict | None) -> dict:
    """Return the content of `run.json` before the first step.

    Args:
        entry: The model.
        experiment: A Model Garden `ExperimentConfig` with paths relative to the project.
        classes: Class names in the order of their ids.
        source: What the manifest says of the source of the images.
        records: The record files of the train and the validation split.
        weights: What `weights.json` says of the pre-trained weights, None without such a file.
    """
    return {
        "schema": 1,
        "settings": dotted_values(experiment.as_dict()),
        "model": entry.id,
        "input_px": entry.input_px,
        "classes": classes,
        "source": source,
        "versions": installed_versions(),
        "data_sha256": data_sha256(records),
        "weights": weights,
        "seed": experiment.task.train_data.seed,
        "hardware": {"machine": platform.machine(), "system": platform.system(),
                     "cores": os.cpu_count()},
        "seconds": 0.0, "steps": 0, "stopped_by": None, "best_checkpoint": None, "best_AP": None,
        "evaluations": [],
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a training computes."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def data_sha256(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each record file by file name."""
    return {path.name: sha256_file(path) for path in files}


def read_run(path: Path) -> dict | None:
    """Return the run of the file `path`, None if it is not there.

    Raises:
        DetectorError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DetectorError(f"damaged: training/{path.name}: type invoke forget train to start a "
                            "new run") from None


def write_run(path: Path, run: dict) -> None:
    """Write the file `path` at once, so that a kill leaves the old or the new content."""
    write_json(path, run)


def may_continue(old: dict, new: dict) -> tuple[bool, str]:
    """Return whether the checkpoints of run `old` continue as run `new`, and if not, what differs.

    Raises:
        DetectorError: The model itself is another one, so its checkpoints do not fit.
    """
    if old["classes"] != new["classes"] and old.get("source") != new["source"]:
        # Not an error: a user who names another source in detector.toml wants its classes.
        return False, f"the classes were {_shown(old['classes'])}"
    for key, name in (("model", "model"), ("input_px", "input size"), ("classes", "classes")):
        if old[key] != new[key]:
            raise DetectorError(
                f"training/ holds a run with {name} {_shown(old[key])}, the settings now say "
                f"{_shown(new[key])}: training/run.json: type invoke forget train (the old run "
                "moves to training/previous), then invoke train")
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


# Checkpoints: which can be read, and which is the best.

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
        import tensorflow as tf

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
    import tensorflow as tf

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

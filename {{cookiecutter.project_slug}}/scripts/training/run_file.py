"""`training/run.json`: what a training was asked for, how far it came, and whether it may continue.

Imports nothing heavy: `invoke runs` and the report read the file too.
"""

import json
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from scripts.core.files import sha256_file, write_json
from scripts.core.text import DetectorError
from scripts.data.demo.scene import CLASSES
from scripts.modeling.experiment import dotted_values
from scripts.modeling.zoo import ZooEntry

PACKAGES = ("tensorflow", "tensorflow-cpu", "tf-models-official", "tf-keras", "numpy",
            "pycocotools")

# Keys of an experiment that follow from the budget: a larger budget continues the run.
BUDGET_KEYS = ("trainer.train_steps", "trainer.validation_interval", "trainer.checkpoint_interval",
               "trainer.optimizer_config.learning_rate.cosine.decay_steps",
               "trainer.optimizer_config.warmup.linear.warmup_steps")


def new_run(entry: ZooEntry, experiment, classes: list[str], records: Iterable[Path],
            weights: dict | None) -> dict:
    """Return the content of `run.json` before the first step.

    Args:
        entry: The model.
        experiment: A Model Garden `ExperimentConfig` with paths relative to the project.
        classes: Class names in the order of their ids.
        records: The record files of the train and the validation split.
        weights: What `weights.json` says of the pre-trained weights, None without such a file.
    """
    return {
        "schema": 1,
        "settings": dotted_values(experiment.as_dict()),
        "model": entry.id,
        "input_px": entry.input_px,
        "classes": classes,
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
    if old["classes"] != new["classes"] and set(old["classes"]) <= set(CLASSES):
        # Not an error: a user who replaces the demo by own images said so in detector.toml.
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

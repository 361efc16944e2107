"""`training/run.json`: what a training was asked for, how far it came, and whether it may be continued."""

import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import replace_dir, sha256_file, temporary_beside, write_json
from scripts.records.label_map import LABEL_MAP, read_label_map
from scripts.records.records import record_files
from scripts.training.experiment import dotted_values
from scripts.training.weights import weights_facts
from scripts.training.zoo import ZooEntry

RUN = "training/run.json"
# What a training leaves behind; everything else in training/ is the user's or belongs to `configure`.
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
    """The run in `training/`, None if there is none. Raises DetectorError if its file is damaged."""
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
    from scripts.pictures.demo_scene import CLASSES

    if old["classes"] != new["classes"] and set(old["classes"]) <= set(CLASSES):
        # No refusal: whoever goes from the demo to own pictures has said what is wanted in detector.toml.
        return False, f"the classes were {_shown(old['classes'])}"
    for key, what in (("model", "model"), ("input_px", "input size"), ("classes", "classes")):
        if old[key] != new[key]:
            raise DetectorError(
                f"training/ holds a run with {what} {_shown(old[key])}, the settings now say {_shown(new[key])}: "
                f"{RUN}: type invoke forget train (the old run moves to training/previous), then invoke train"
            )
    if old["data_sha256"] != new["data_sha256"]:
        return False, "the pictures or boxes changed"
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
    """Moves the run in `training/` to `training/previous`, replacing an older one there; says so, or "".

    A run without a checkpoint has nothing to keep: it is removed, and what is in `training/previous` stays.
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

"""The `configure` step: writes `training/experiment.yaml`, the Model Garden experiment that `train`
runs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.core.files import sha256_file, write_json, write_text
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.box_table import read_table
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.modeling.experiment import (
    EVALUATIONS,
    EXPERIMENT,
    DataFacts,
    build_experiment,
    dotted_values,
)
from scripts.modeling.zoo import ZooEntry, zoo_entry

CONFIGURED = "training/configured.json"

# Seconds of a training that are not steps: building the graphs, and scoring after each evaluation.
START_S = 20.0
SCORING_S = 1.5


@dataclass(frozen=True)
class ConfigureCounts:
    """The length of the training that was configured."""

    model: str
    steps: int
    epochs: float
    classes: int
    step_s: float | None

    def __str__(self):
        speed = f", {self.step_s:.2f} s a step here" if self.step_s else ""
        classes, steps = counted(self.classes, "class", "classes"), counted(self.steps, "step", "steps")
        return f"{self.model}, {classes}, {steps} = {self.epochs:.1f} epochs{speed}"


def configure(root: Path, settings) -> ConfigureCounts:
    """Writes the experiment for `settings` (a `Settings`) and the records of the project.

    Raises DetectorError for an unknown model or key, for splits without images, for a batch beyond
    the memory, and when the file in place was edited by hand; the message then holds the lines for
    `[overrides]`.
    """
    entry = zoo_entry(settings.model.id)
    _refuse_edited(root)
    data = data_facts(root)
    step_s = None
    if settings.train.minutes > 0:
        step_s = _seconds_per_step(root, entry, settings, data)
    steps = training_steps(settings.train, data, step_s)
    experiment = build_experiment(entry, settings.train, settings.overrides, data, steps)
    if step_s is None and settings.runtime.distribution_strategy in ("one_device", "off"):
        # Before training sets an older run aside; the probe has asked already, several devices are
        # asked by `train`.
        from scripts.training.runner import check_experiment_fits

        check_experiment_fits(experiment)
    _write(root, experiment.as_dict(), _speed_key(entry, settings), step_s)
    epochs = steps * settings.train.batch_size / data.train_images
    return ConfigureCounts(entry.id, steps, epochs, len(read_label_map(root / LABEL_MAP)), step_s)


def data_facts(root: Path) -> DataFacts:
    """What the CSV tables and the label map say. Raises DetectorError for a split without images.
    """
    tables = {split: read_table(Layout(root).table(split)) for split in ("train", "validation")}
    for split, images in tables.items():
        if not images:
            raise DetectorError(f"no images in split {split}: annotations/{split}_labels.csv: add images or change "
                                "[split] in detector.toml, then invoke organize")
    boxes = max(len(image.boxes) for images in tables.values() for image in images)
    ids = read_label_map(root / LABEL_MAP)
    return DataFacts(max(ids), len(tables["train"]), len(tables["validation"]), boxes)


def training_steps(train, data: DataFacts, step_s: float | None) -> int:
    """Steps of `epochs`, or those that fit into `minutes` beside start and evaluations; 1 at least.
    """
    if step_s is None:
        return max(1, math.ceil(train.epochs * data.train_images / train.batch_size))
    validation_s = EVALUATIONS * (SCORING_S + 0.6 * step_s * math.ceil(data.validation_images / train.batch_size))
    return max(10, int((train.minutes * 60 - START_S - validation_s) / step_s))


def _speed_key(entry: ZooEntry, settings) -> dict:
    return {"model": entry.id, "frozen_groups": entry.frozen_groups, "batch_size": settings.train.batch_size,
            "overrides": settings.overrides}


def _seconds_per_step(root: Path, entry: ZooEntry, settings, data: DataFacts) -> float:
    """The measured speed; an earlier measure of the same step is kept, so that steps stay the same.
    """
    known = read_configured(root)
    if known.get("speed_key") == _speed_key(entry, settings) and known.get("step_s"):
        return known["step_s"]
    from scripts.training.runner import measure_step_s

    return measure_step_s(build_experiment(entry, settings.train, settings.overrides, data, 1000), root)


def read_configured(root: Path) -> dict:
    """What `configure` remembers beside the experiment: hash as written and measured speed; {} at
    first."""
    path = root / CONFIGURED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _refuse_edited(root: Path) -> None:
    path, known = root / EXPERIMENT, read_configured(root)
    if not path.is_file() or not known or sha256_file(path) == known["experiment_sha256"]:
        return
    try:
        edited = dotted_values(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, AttributeError) as error:
        raise DetectorError(f"edited by hand and no longer yaml ({str(error).splitlines()[0]}): {EXPERIMENT}: "
                            "delete it, then invoke configure") from None
    written = dotted_values(yaml.safe_load(known["experiment"]))
    changed = [f'"{key}" = {json.dumps(value)}' for key, value in edited.items() if written.get(key) != value]
    raise DetectorError(f"edited by hand: {EXPERIMENT}: put {' and '.join(changed) or 'the change'} under [overrides] "
                        f"in detector.toml, delete {EXPERIMENT}, then invoke configure")


def _write(root: Path, experiment: dict, speed_key: dict, step_s: float | None) -> None:
    text = ("# A Model Garden experiment, written by `invoke configure`. Change it through [overrides] in\n"
            "# detector.toml: an edit here is refused. Paths are relative to the project.\n"
            + yaml.safe_dump(experiment, sort_keys=False, default_flow_style=None, width=100))
    write_text(root / EXPERIMENT, text)
    write_json(root / CONFIGURED, {
        "schema": 1, "experiment_sha256": sha256_file(root / EXPERIMENT), "experiment": text,
        "speed_key": speed_key, "step_s": step_s,
    })

"""The `configure` step: write `training/experiment.yaml`, the Model Garden experiment that `train`
runs."""

import json
import math
from pathlib import Path

import yaml

from scripts.core.files import sha256_file, write_json, write_text
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.box_table import read_table
from scripts.data.label_map import read_label_map
from scripts.modeling.experiment import (
    EVALUATIONS,
    DataFacts,
    build_experiment,
    dotted_values,
    with_absolute_paths,
)
from scripts.modeling.zoo import ZooEntry, zoo_entry
from scripts.training.runner import check_experiment_fits, measure_step_s

# Seconds of a training that are not steps: building the graphs, and scoring after each evaluation.
START_S = 20.0
SCORING_S = 1.5
# Time of an image in validation, as a share of its time in training.
VALIDATION_SHARE = 0.6
FEWEST_STEPS = 10

HEADER = """\
# A Model Garden experiment, written by `invoke configure`. Change it through [overrides] in
# detector.toml: an edit here is refused. Paths are relative to the project.
"""


def configure(root: Path, settings) -> str:
    """Write the experiment for the settings and the records of the project.

    `settings` is a `Settings`. What was measured stands beside it, in `training/configured.json`.

    Raises:
        DetectorError: An unknown model or key, a split without images, a batch beyond the memory,
            or a file that was edited by hand; the message then holds the lines for `[overrides]`.
    """
    layout = Layout(root)
    entry, train = zoo_entry(settings.model.id), settings.train
    known = read_configured(layout.configured)
    if layout.experiment.is_file() and known:
        require_unedited(layout.experiment, known)
    classes = read_label_map(layout.label_map)
    data = data_facts(layout, entry, classes)

    # Turn minutes into steps by the speed of this machine. An earlier measure of the same step is
    # kept, so that the number of steps stays the same.
    step_s = None
    speed_key = {"model": entry.id, "frozen_groups": entry.frozen_groups,
                 "batch_size": train.batch_size, "overrides": settings.overrides}
    if train.minutes > 0:
        step_s = known.get("step_s") if known.get("speed_key") == speed_key else None
        if not step_s:
            trial = build_experiment(entry, train, settings.overrides, data, steps=1000)
            step_s = measure_step_s(with_absolute_paths(trial, root))
    steps = training_steps(train, data, step_s)

    experiment = build_experiment(entry, train, settings.overrides, data, steps)
    if step_s is None and settings.runtime.distribution_strategy in ("one_device", "off"):
        # Asked before training sets an older run aside. Measuring asks this too; of several
        # devices `train` asks.
        check_experiment_fits(experiment)

    text = HEADER + yaml.safe_dump(experiment.as_dict(), sort_keys=False, default_flow_style=None,
                                   width=100)
    write_text(layout.experiment, text)
    write_json(layout.configured, {
        "schema": 1, "experiment_sha256": sha256_file(layout.experiment), "experiment": text,
        "speed_key": speed_key, "step_s": step_s})
    epochs = steps * train.batch_size / data.train_images
    speed = f", {step_s:.2f} s a step here" if step_s else ""
    return (f"{entry.id}, {counted(len(classes), 'class', 'classes')}, {counted(steps, 'step')} = "
            f"{epochs:.1f} epochs{speed}")


def data_facts(layout: Layout, entry: ZooEntry, classes: dict[int, str]) -> DataFacts:
    """Return what the experiment has to know of the tables, the records and the weights.

    Raises:
        DetectorError: A split has no images.
    """
    tables = {split: read_table(layout.table(split)) for split in ("train", "validation")}
    for split, images in tables.items():
        if not images:
            raise DetectorError(f"no images in split {split}: {layout.shown(layout.table(split))}: "
                                "add images or change [split] in detector.toml, then invoke "
                                "organize")
    records = {split: layout.shown(layout.annotations / f"{split}.record-*") for split in tables}
    return DataFacts(
        classes=max(classes),
        train_images=len(tables["train"]),
        validation_images=len(tables["validation"]),
        max_boxes=max(len(image.boxes) for images in tables.values() for image in images),
        train_records=records["train"],
        validation_records=records["validation"],
        weights=layout.shown(layout.pretrained(entry.id)))


def training_steps(train, data: DataFacts, step_s: float | None) -> int:
    """Return the steps of `train.epochs`, or those that fit into `train.minutes`.

    Start and evaluations take a part of the minutes. `step_s` is the time of a step, None where
    `train.epochs` counts.
    """
    if step_s is None:
        return max(1, math.ceil(train.epochs * data.train_images / train.batch_size))
    batches = math.ceil(data.validation_images / train.batch_size)
    validation_s = EVALUATIONS * (SCORING_S + VALIDATION_SHARE * step_s * batches)
    return max(FEWEST_STEPS, int((train.minutes * 60 - START_S - validation_s) / step_s))


def read_configured(path: Path) -> dict:
    """Return what `configure` notes beside the experiment: its hash and the measured speed.

    {} before the first run.
    """
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def require_unedited(path: Path, known: dict) -> None:
    """Raise DetectorError if the experiment in `path` is not the one that `configure` wrote.

    `known` is what `read_configured` returns. The message names the `[overrides]` that do the same.
    """
    if sha256_file(path) == known["experiment_sha256"]:
        return
    name = f"training/{path.name}"
    try:
        edited = dotted_values(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, AttributeError) as error:
        raise DetectorError(f"edited by hand and no longer yaml ({str(error).splitlines()[0]}): "
                            f"{name}: delete it, then invoke configure") from None
    written = dotted_values(yaml.safe_load(known["experiment"]))
    changed = [f'"{key}" = {json.dumps(value)}' for key, value in edited.items()
               if written.get(key) != value]
    raise DetectorError(f"edited by hand: {name}: put {' and '.join(changed) or 'the change'} "
                        f"under [overrides] in detector.toml, delete {name}, then invoke configure")

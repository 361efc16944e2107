"""The Model Garden experiment of a training (`training/experiment.yaml`) and its network.

Paths in the file are relative to the project, so that a moved project stays configured; `train`
makes them absolute.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.core.text import DetectorError, nearest
from scripts.modeling.zoo import ZooEntry

# Steps between two looks at the clock: Ctrl-C and the progress line react within seconds.
STEPS_PER_LOOP = 5
EVALUATIONS = 10
MAX_STEPS_BETWEEN_EVALUATIONS = 2000
MAX_STEPS_BETWEEN_CHECKPOINTS = 500
# A detection that overlaps a better one more than this is dropped: in training, of a checkpoint,
# and in the shipped file.
SUPPRESSION_IOU = 0.6

# `train.augment` -> `task.train_data.parser`
AUGMENTATIONS = {
    "none": {},
    "flip": {"aug_rand_hflip": True},
    "flip_scale": {"aug_rand_hflip": True, "aug_scale_min": 0.8, "aug_scale_max": 1.25},
}

# Keys of an experiment whose values are paths.
PATHS = ("task.init_checkpoint", "task.train_data.input_path", "task.validation_data.input_path")


@dataclass(frozen=True)
class DataFacts:
    """What an experiment has to know of the data and the weights.

    Attributes:
        classes: Classes, background not counted.
        train_images, validation_images: Images of the splits.
        max_boxes: Most boxes in an image.
        train_records, validation_records: Patterns of the record files, relative to the project.
        weights: Prefix of the checkpoint with the pre-trained weights, relative to the project.
    """

    classes: int
    train_images: int
    validation_images: int
    max_boxes: int
    train_records: str
    validation_records: str
    weights: str


def build_experiment(entry: ZooEntry, train, overrides: dict, data: DataFacts, steps: int):
    """Return the `ExperimentConfig` of a training of `steps` steps.

    Args:
        entry: The model.
        train: `[train]` of the settings.
        overrides: `[overrides]` of the settings: values by dotted key.
        data: What the records hold.
        steps: Training steps, of `train.batch_size` images each.

    Raises:
        DetectorError: `[overrides]` has a key that Model Garden does not have.
    """
    from scripts.training import task as detector

    experiment = detector.detector_experiment()
    values = {
        # Devices are set when training starts: they may be others each time, and on each machine.
        "runtime": {"distribution_strategy": "one_device", "num_gpus": 0,
                    "mixed_precision_dtype": "float32"},
        "task": {
            "init_checkpoint": data.weights,
            "model": model_config(entry, data.classes),
            "losses": {"l2_weight_decay": 0.0},
            "train_data": _data(data.train_records, train, data, is_training=True),
            "validation_data": _data(data.validation_records, train, data, is_training=False),
            "per_category_metrics": False,
        },
        "trainer": _trainer(train, steps),
    }
    experiment.override(values, is_strict=False)
    apply_overrides(experiment, overrides)
    experiment.validate()
    return experiment


def model_config(entry: ZooEntry, classes: int) -> dict:
    """Return `task.model` of an experiment for so many classes without background."""
    return {
        "num_classes": classes + 1,  # Model Garden counts the background.
        "input_size": [entry.input_px, entry.input_px, 3],
        "min_level": entry.min_level,
        "max_level": entry.max_level,
        "anchor": {"num_scales": entry.anchor_scales, "aspect_ratios": list(entry.anchor_aspects),
                   "anchor_size": entry.anchor_size},
        "backbone": _backbone_config(entry),
        "decoder": {"type": "fpn", "fpn": {"num_filters": entry.filters, "use_separable_conv": True,
                                           "use_keras_layer": True}},
        "head": {"num_convs": entry.head_convs, "num_filters": entry.filters,
                 "use_separable_conv": True},
        "norm_activation": {"activation": "relu6", "norm_momentum": 0.97, "norm_epsilon": 0.001,
                            "use_sync_bn": False},
        # Model Garden's rule, per class: during training it only chooses the best checkpoint.
        "detection_generator": {"nms_version": "batched", "pre_nms_score_threshold": 0.01,
                                "nms_iou_threshold": SUPPRESSION_IOU, "max_num_detections": 100},
    }


def _backbone_config(entry: ZooEntry) -> dict:
    if entry.experimental:  # Weights of Model Garden's own backbone fit no other.
        return {"type": "mobilenet", "mobilenet": {"model_id": entry.backbone}}
    return {"type": "inverted_bottleneck",
            "inverted_bottleneck": {"model_id": entry.backbone,
                                    "frozen_groups": entry.frozen_groups}}


def _data(records: str, train, data: DataFacts, is_training: bool) -> dict:
    return {
        "input_path": records,
        "is_training": is_training,
        "global_batch_size": train.batch_size,
        "dtype": "float32",
        "drop_remainder": is_training,
        "seed": train.seed if is_training else None,
        "deterministic": True,
        "cache": is_training,
        "parser": (AUGMENTATIONS[train.augment] if is_training else {}) | {
            "skip_crowd_during_training": True,
            "max_num_instances": max(100, data.max_boxes),
            # A phone's client stretches the image to the input, so training does the same.
            "keep_aspect_ratio": False,
            "pad": False,
        },
    }


def _trainer(train, steps: int) -> dict:
    interval = min(math.ceil(steps / EVALUATIONS), MAX_STEPS_BETWEEN_EVALUATIONS)
    interval = math.ceil(interval / STEPS_PER_LOOP) * STEPS_PER_LOOP
    return {
        "train_steps": steps,
        "steps_per_loop": STEPS_PER_LOOP,
        "summary_interval": STEPS_PER_LOOP * 2,
        "checkpoint_interval": min(interval, MAX_STEPS_BETWEEN_CHECKPOINTS),
        "max_to_keep": 2,
        "validation_steps": -1,
        "validation_interval": interval,
        "best_checkpoint_export_subdir": "best",
        "best_checkpoint_eval_metric": "AP",
        "best_checkpoint_metric_comp": "higher",
        "preemption_on_demand_checkpoint": False,
        "optimizer_config": {
            "optimizer": {"type": "adam", "adam": {"global_clipnorm": 10.0}},
            "learning_rate": {"type": "cosine", "cosine": {
                "initial_learning_rate": train.learning_rate, "decay_steps": steps, "alpha": 0.01}},
            "warmup": {"type": "linear", "linear": {
                "warmup_steps": max(1, min(steps // 10, 500)),
                "warmup_learning_rate": train.learning_rate / 100}},
            "ema": {"average_decay": 0.998, "trainable_weights_only": False},
        },
    }


def apply_overrides(experiment, overrides: dict) -> None:
    """Set dotted Model Garden keys in place.

    Raises:
        DetectorError: A key does not exist (the message names the nearest one), or its value has
            another type.
    """
    known = dotted_values(experiment.as_dict())
    for key, value in overrides.items():
        if key not in known and not any(name.startswith(key + ".") for name in known):
            near = nearest(key, known)
            hint = f"nearest: {near!r}" if near else "see training/experiment.yaml for the keys"
            raise DetectorError(f"unknown Model Garden key {key!r}: [overrides] in detector.toml: "
                                f"{hint}")
        if not _same_type(known.get(key), value):
            raise DetectorError(f"{key} = {value!r} is refused: [overrides] in detector.toml: use "
                                f"a value such as {known[key]!r}, as in training/experiment.yaml")
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        try:
            experiment.override(nested, is_strict=True)
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorError(f"{key} = {value!r} is refused ({error}): [overrides] in "
                                "detector.toml: use a value of the type shown in "
                                "training/experiment.yaml") from None


def _same_type(current, value) -> bool:
    """Return whether a value may stand where `current` stands; Model Garden does not look.

    None takes anything, a float takes an int.
    """
    if current is None or isinstance(current, float) and type(value) is int:
        return True
    return isinstance(value, type(current)) and isinstance(value, bool) is isinstance(current, bool)


def dotted_values(tree: dict, prefix: str = "") -> dict:
    """Return nested dicts as one flat dict of dotted keys, leaves only."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= dotted_values(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_experiment(path: Path):
    """Return the experiment of a yaml file.

    Raises:
        DetectorError: The file holds none.
    """
    from scripts.training import task as detector

    experiment = detector.detector_experiment()
    try:
        with open(path, encoding="utf-8") as file:
            experiment.override(yaml.safe_load(file), is_strict=True)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DetectorError(f"not an experiment ({error}): {path}: delete it and run invoke "
                            "configure") from None
    return experiment


def with_absolute_paths(experiment, folder: Path):
    """Return a copy of the experiment whose paths, relative to `folder`, are absolute."""
    experiment = copy.deepcopy(experiment)
    task = experiment.task
    for data in (task.train_data, task.validation_data):
        data.input_path = str(folder / data.input_path)
    if task.init_checkpoint:
        task.init_checkpoint = str(folder / task.init_checkpoint)
    return experiment


def build_network(entry: ZooEntry, classes: int):
    """Return (RetinaNet with fresh weights, its configuration) of a zoo entry.

    Model Garden's factory builds it, as for an experiment. `classes` does not count the background.
    """
    import tf_keras
    from official.vision.modeling import factory

    from scripts.training import task as detector

    config = detector.DetectorModel()
    config.override(model_config(entry, classes), is_strict=False)
    specs = tf_keras.layers.InputSpec(shape=[None, *config.input_size])
    return factory.build_retinanet(input_specs=specs, model_config=config), config

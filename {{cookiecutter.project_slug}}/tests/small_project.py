"""The settings of a project on 24 drawn images whose training takes two steps, and the steps that
tests call."""

import io
from dataclasses import fields

import numpy as np
from PIL import Image

SMALL = {
    "INVOKE_SOURCE_KIND": "demo", "INVOKE_SOURCE_LABELS": "[]", "INVOKE_DEMO_IMAGES": "24",
    "INVOKE_DEMO_SIZE_PX": "128", "INVOKE_MODEL_ID": "lite0-256", "INVOKE_TRAIN_EPOCHS": "1",
    "INVOKE_TRAIN_BATCH_SIZE": "8", "INVOKE_EXPORT_CHECKPOINT": "best", "INVOKE_OVERRIDES": "{}",
    "INVOKE_TFLITE_CALIBRATION_IMAGES": "8", "INVOKE_TFLITE_VARIANTS": "float32,int8",
    "INVOKE_TFLITE_SHIP": "int8", "INVOKE_TFLITE_MAX_AP_DROP": "1.0",
}  # fmt: skip


def settings_text(**given) -> str:
    """Return a detector.toml of example values: that of the project belongs to its user.

    `given` are values by name, such as `source__kind="folder"`.
    """
    from scripts.core.schema import toml
    from scripts.core.settings import TABLES

    lines = []
    for table, kind in TABLES.items():
        lines.append(f"[{table}]")
        for field in fields(kind):
            value = given.get(f"{table}__{field.name}", field.metadata["rule"].example)
            lines.append(f"{field.name} = {toml(value)}")
    return "\n".join([*lines, "[overrides]", ""])


def settings_of(root, **changes):
    from scripts.core.settings import load_settings

    return load_settings(root, SMALL | changes)


def configure_small(root, **changes):
    from scripts.steps.configure import configure

    return configure(root, settings_of(root, **changes))


def train_small(root, **options):
    from scripts.steps.train import train

    return train(root, "lite0-256", settings_of(root).runtime, **options)


def model_of(root, which="best"):
    """The model of a checkpoint."""
    from scripts.core.layout import Layout
    from scripts.evaluation.detector import checkpoint_path, load_model

    layout = Layout(root)
    return load_model(layout.experiment, checkpoint_path(layout.training, which))


def calibration_of(root, side_px, count):
    """Training images as the converter gets them."""
    from scripts.core.layout import Layout
    from scripts.deploy.conversion import calibration_images
    from scripts.evaluation.detections import record_images

    images = list(record_images(Layout(root).records("train")))
    return calibration_images(images, len(images), side_px, count)


# TensorBoard's event files, read as TensorBoard reads them.


def read_events(folder) -> dict:
    """Tag -> {step: array} of all event files of a folder; an array of an image is width, height,
    encoded images."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    read = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: {event.step: make_ndarray(event.tensor_proto) for event in read.Tensors(tag)}
            for tag in read.Tags()["tensors"]}


def group(events: dict, name: str) -> dict:
    """The tags of a group without its name."""
    return {tag.removeprefix(f"{name}/"): steps for tag, steps in events.items()
            if tag.startswith(f"{name}/")}


def decoded(array):
    """The first image of an image event: uint8 [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(array[2])).convert("RGB"))

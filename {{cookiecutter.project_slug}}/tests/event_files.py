"""TensorBoard's event files, read as TensorBoard reads them."""

import io

import numpy as np
from PIL import Image


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

"""The tables of detector.toml as frozen dataclasses, and what each setting may be.

Meanings and units stand in detector.toml, on the line of each setting. Who adds one adds it here
and there, and in docs/settings.md.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
    tuple: "a list of texts",
}


@dataclass(frozen=True)
class Rule:
    """The limits of a setting.

    Attributes:
        example: A value that keeps them; messages show it.
        choices: All values that a text, or an item of a list, may have; () for any.
        least: The smallest number.
        most: The largest number.
        open_ends: `least` and `most` themselves are not allowed.
        form: A regular expression that matches the complete text.
    """

    example: Any
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    open_ends: bool = False
    form: str = ""


def setting(example: Any, **limits: Any) -> Any:
    """Return a dataclass field that carries its `Rule`, and no default: detector.toml has those."""
    return field(metadata={"rule": Rule(example, **limits)})


def base_kind(kind: Any) -> type:
    """Return int, float, bool, str or tuple for the annotation of a field."""
    return getattr(kind, "__origin__", kind)


def fit(value: Any, kind: Any, rule: Rule) -> Any:
    """Return `value` as the type of its field: a whole number as a float, a list as a tuple.

    Raises:
        ValueError: with what is wanted instead, in words.
    """
    plain = base_kind(kind)
    if plain is tuple and isinstance(value, list):
        value = tuple(value)
    if plain is float and type(value) is int:
        value = float(value)
    # `type` and not isinstance: to Python, true is a whole number.
    if type(value) is not plain or not _within(value, rule):
        raise ValueError(wanted(plain, rule))
    return value


def _within(value: Any, rule: Rule) -> bool:
    if isinstance(value, tuple):
        texts = all(isinstance(item, str) and item for item in value)
        return texts and len(set(value)) == len(value) and (
            not rule.choices or set(value) <= set(rule.choices))
    if isinstance(value, str):
        if rule.choices:
            return value in rule.choices
        return not rule.form or re.fullmatch(rule.form, value) is not None
    if isinstance(value, bool):
        return True
    # NaN and infinity, which TOML can write, keep no limit.
    if rule.open_ends:
        return rule.least < value < rule.most
    return math.isfinite(value) and rule.least <= value <= rule.most


def wanted(plain: type, rule: Rule) -> str:
    """Return in words what a setting may be: `a whole number, 0 or more`."""
    words = NAMES[plain]
    if rule.choices:
        once = ", each once and one of " if plain is tuple else ", one of "
        return words + once + ", ".join(rule.choices)
    if plain is tuple:
        return words + ", each once and not empty"
    # An infinite limit is no limit: it is not shown.
    low, high = (f"{end:g}" if math.isfinite(end) else "" for end in (rule.least, rule.most))
    if low and high:
        return f"{words} between {low} and {high}" + (", both excluded" if rule.open_ends else "")
    if low:
        return f"{words} above {low}" if rule.open_ends else f"{words}, {low} or more"
    return words


def toml(value: Any) -> str:
    """Return `value` as it is written in detector.toml."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # the same escapes, line feeds included
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)


FORMATS = ("auto", "voc", "coco", "yolo", "csv", "oidv4", "labelstudio")


@dataclass(frozen=True)
class Source:
    """Where labeled images come from, and what to do with those that need a decision."""

    kind: str = setting("demo", choices=("demo", "folder", "openimages"))
    path: str = setting("")
    format: str = setting("auto", choices=FORMATS)
    labels: tuple[str, ...] = setting([])
    unlabeled: str = setting("error", choices=("error", "negative", "skip"))
    exif: str = setting("error", choices=("error", "displayed", "stored"))
    merge_validation: bool = setting(False)


@dataclass(frozen=True)
class Demo:
    """The images that the project draws itself."""

    images: int = setting(320, least=1)
    size_px: int = setting(384, least=64, most=4096)
    seed: int = setting(7, least=0)


_SPLITS = ("train", "validation", "test")
_FILTER = ("any", "only", "exclude")
_ADDRESS = r"(https?|file)://.+"


@dataclass(frozen=True)
class Openimages:
    """The images of Open Images that show the classes of `source.labels`."""

    version: str = setting("v7", choices=("v4", "v5", "v6", "v7"))
    splits: tuple[str, ...] = setting(list(_SPLITS), choices=_SPLITS)
    limit: int = setting(200, least=0)
    seed: int = setting(7, least=0)
    descendants: bool = setting(False)
    occluded: str = setting("any", choices=_FILTER)
    truncated: str = setting("any", choices=_FILTER)
    group_of: str = setting("any", choices=_FILTER)
    depiction: str = setting("any", choices=_FILTER)
    inside: str = setting("any", choices=_FILTER)
    unknown: str = setting("keep", choices=("keep", "drop"))
    metadata_url: str = setting("https://storage.googleapis.com/openimages", form=_ADDRESS)
    images_url: str = setting("https://open-images-dataset.s3.amazonaws.com", form=_ADDRESS)


@dataclass(frozen=True)
class Split:
    """How images are dealt to train, validation and test; the two shares are fractions of all."""

    mode: str = setting("auto", choices=("auto", "source", "hash"))
    validation: float = setting(0.15, least=0, most=1, open_ends=True)
    test: float = setting(0.15, least=0, most=1, open_ends=True)
    seed: int = setting(7, least=0)


@dataclass(frozen=True)
class Check:
    """What `invoke check` lets pass."""

    accept: tuple[str, ...] = setting([])
    min_box_px: float = setting(1, least=0)


@dataclass(frozen=True)
class Model:
    """The network."""

    id: str = setting("lite0-256", form=".+")
    weights: str = setting("")


@dataclass(frozen=True)
class Train:
    """The length and the manner of training; exactly one of `epochs` and `minutes` is above 0."""

    epochs: int = setting(0, least=0)
    minutes: float = setting(4.0, least=0)
    batch_size: int = setting(8, least=1)
    learning_rate: float = setting(0.0015, least=0, open_ends=True)
    patience: int = setting(0, least=0)
    augment: str = setting("flip_scale", choices=("none", "flip", "flip_scale"))
    seed: int = setting(7, least=0)


SLOTS = 100
"""Detections in the outputs of the exported models."""


@dataclass(frozen=True)
class Evaluate:
    """Which detections are scored, and what a missed box costs."""

    score_threshold: float = setting(0.01, least=0, most=1)
    max_detections: int = setting(SLOTS, least=1, most=SLOTS)
    miss_cost: float = setting(1.0, least=0, open_ends=True)


@dataclass(frozen=True)
class Export:
    """Which checkpoint is exported: best, last, or the number of a training step."""

    checkpoint: str = setting("best", form="best|last|[0-9]+")


VARIANTS = ("float32", "float16", "dynamic", "int8", "int8_qat", "int8_raw")


@dataclass(frozen=True)
class Tflite:
    """The files for phones and the gate that one of them has to pass."""

    variants: tuple[str, ...] = setting(["float32", "float16", "int8"], choices=VARIANTS)
    ship: str = setting("int8", choices=VARIANTS)
    max_ap_drop: float = setting(0.01, least=0, most=1)
    calibration_images: int = setting(200, least=1)
    qat_share: float = setting(0.1, least=0, most=1)
    threads: int = setting(2, least=1)


STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored", "off")


@dataclass(frozen=True)
class Runtime:
    """The machines that train."""

    distribution_strategy: str = setting("one_device", choices=STRATEGIES)
    worker_hosts: str = setting("")
    task_index: int = setting(0, least=0)

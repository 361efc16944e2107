"""What the input of a foreign detector gets of a picture: its size, its numbers, its normalisation."""

from dataclasses import dataclass, replace

from scripts.deploy.resize import stretch_to
from scripts.deploy.tflite_file import TfliteFile, dtype_name, metadata_schema
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.words import counted

SEEN_STEPS = 2
"""Rounding moves a uint8 by one step; from two on the input means something else than the raw pixel."""


@dataclass(frozen=True)
class Normalization:
    """The network was trained on (pixel - `mean`) / `std`, one number or one for each channel; `how` we know."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    how: str

    def __str__(self) -> str:
        mean, std = (", ".join(f"{one:g}" for one in part) for part in (self.mean, self.std))
        return f"mean {mean}, deviation {std} {self.how}"

    def of(self, pixels):
        """Normalised pixels float32 [..., 3] of pixels 0..255."""
        import numpy as np

        return (pixels - np.float32(self.mean)) / np.float32(self.std)


@dataclass(frozen=True)
class InputPlan:
    """An input of `kind` (uint8, int8, float32) and [1, height, width, 3]; without `normalization` it gets raw pixels.

    `scale` and `zero_point` are its quantisation (0 for none), `note` says in words what was decided.
    """

    kind: str
    size_px: tuple[int, int]
    scale: float
    zero_point: int
    normalization: Normalization | None
    note: str = ""

    def values(self, rgb):
        """A picture uint8 [height, width, 3], stretched, as the input takes it: [1, H, W, 3]."""
        import numpy as np

        pixels = stretch_to(rgb, *self.size_px)
        if self.normalization is not None:
            pixels = self.normalization.of(pixels)
            if self.kind != "float32":
                pixels = pixels / self.scale + self.zero_point
        elif self.kind == "int8":
            pixels = pixels - 128.0
        if self.kind != "float32":
            limits = np.iinfo(self.kind)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return pixels.astype(self.kind)[None]


def plan_input(file: TfliteFile, given: Normalization | None) -> InputPlan:
    """The plan for the input of the file; `given` goes before the metadata.

    uint8 gets the raw pixel whatever the metadata says, as MediaPipe and the Task Library do it. DetectorError when the
    input is no picture of a fixed size, or nothing says how a float32 input is normalised.
    """
    kind, size_px, scale, zero_point = input_form(file)
    told = given or metadata_normalization(file)
    if kind == "float32" and told is None:
        raise DetectorError(f"float32 input, and no metadata says how pixels are normalised: {file.path}: "
                            "give --mean 127.5 --std 127.5 (SSD), or --mean 0 --std 1 (raw pixels)")
    if kind != "float32" and given and not scale:
        raise DetectorError(f"{kind} input without a scale cannot hold normalised pixels: {file.path}: "
                            "leave out --mean and --std")
    used = told if kind == "float32" or given or (kind == "int8" and scale) else None
    plan = InputPlan(kind, size_px, scale, zero_point, used)
    words = str(used) if used else "raw pixels" + _doubt(plan, told)
    if kind == "int8" and used is None:
        words = "pixel - 128, since nothing says how pixels are normalised"
    return replace(plan, note=f"input {kind} [1, {size_px[0]}, {size_px[1]}, 3]: {words}")


def input_form(file: TfliteFile) -> tuple[str, tuple[int, int], float, int]:
    """Number type, (height, width), scale and zero point of the input, read before anything is run.

    DetectorError when it is not one picture of a fixed size.
    """
    graph, path = file.network.subgraphs[0], file.path
    if graph.inputs is None or len(graph.inputs) != 1:
        count = 0 if graph.inputs is None else len(graph.inputs)
        raise DetectorError(f"{counted(count, 'input')}, not one picture: {path}: give a detector of single pictures")
    tensor = graph.tensors[graph.inputs[0]]
    kind, free = dtype_name(tensor.type), tensor.shapeSignature
    shape = [int(side) for side in (tensor.shape if free is None or not len(free) else free)]
    if any(side < 1 for side in shape):
        raise DetectorError(f"input {kind} {shape} has no fixed size (-1): {path}: convert it with a fixed input size")
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or min(shape[1:3]) < 2:
        raise DetectorError(f"input {kind} {shape} is not [1, height, width, 3]: {path}: convert it to such an input")
    if kind not in ("uint8", "int8", "float32"):
        raise DetectorError(f"input {kind} {shape} is not uint8, int8 or float32: {path}: convert it to one of them")
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return kind, (shape[1], shape[2]), 0.0, 0
    points = quantization.zeroPoint
    zero_point = int(points[0]) if points is not None and len(points) else 0
    return kind, (shape[1], shape[2]), float(quantization.scale[0]), zero_point


def _doubt(plan: InputPlan, told: Normalization | None) -> str:
    """A warning where metadata and quantisation of a uint8 input mean something else than the raw pixel."""
    import numpy as np

    if told is None or not plan.scale:
        return ""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, 1)
    steps = float(np.abs(np.clip(told.of(ramp) / plan.scale + plan.zero_point, 0, 255) - ramp).max())
    if steps < SEEN_STEPS:
        return ""
    return (f", as MediaPipe feeds it; by {told} and its scale a value would differ by up to {steps:.0f} of 255: "
            "compare with --mean and --std")


def metadata_normalization(file: TfliteFile) -> Normalization | None:
    """What the metadata says of the first input."""
    graphs = (file.metadata.subgraphMetadata or []) if file.metadata else []
    tensors = (graphs[0].inputTensorMetadata or []) if graphs else []
    wanted = metadata_schema().ProcessUnitOptions.NormalizationOptions
    for unit in (tensors[0].processUnits or []) if tensors else []:
        if unit.optionsType == wanted and unit.options.mean is not None and unit.options.std is not None:
            mean, std = (tuple(map(float, part)) for part in (unit.options.mean, unit.options.std))
            if len(mean) in (1, 3) and len(std) in (1, 3) and all(std):
                return Normalization(mean, std, "from the metadata")
    return None


def given_normalization(mean: str, std: str) -> Normalization | None:
    """What `--mean` and `--std` say (texts; "" for nothing). DetectorError for one without the other, or no numbers."""
    if not mean and not std:
        return None
    if not mean or not std:
        raise DetectorError(f"only one of --mean '{mean}' and --std '{std}': arguments: give both, such as "
                            "--mean 127.5 --std 127.5")
    return Normalization(_numbers(mean, "--mean"), _numbers(std, "--std"), "as given")


def _numbers(text: str, option: str) -> tuple[float, ...]:
    advice = "give one number, or three for red, green and blue, such as 123.7,116.3,103.5"
    try:
        numbers = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        raise DetectorError(f"'{text}' is no number: {option}: {advice}") from None
    if len(numbers) not in (1, 3) or not all(abs(number) < float("inf") for number in numbers):
        raise DetectorError(f"'{text}' is not one number or three: {option}: {advice}")
    if option == "--std" and not all(number > 0 for number in numbers):
        raise DetectorError(f"'{text}' is not above 0: {option}: {advice}")
    return numbers

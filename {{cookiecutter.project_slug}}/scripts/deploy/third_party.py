"""A detector made by other tools, run as files of the project are: SSD, EfficientDet-Lite and such.

What its input gets follows from the file: its size, its numbers, its normalization. What its
outputs mean is found by `third_party_outputs`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError, counted
from scripts.deploy.reader import TfliteDetector, first_slots, real_numbers, stretch_to
from scripts.deploy.tflite_file import (
    TfliteFile,
    dtype_name,
    metadata_schema,
    read_tflite,
    reporting_damage,
    tensor_metadata,
)
from scripts.deploy.third_party_classes import label_files, read_labels, without_background
from scripts.deploy.third_party_outputs import (
    ROLES,
    anchors,
    box_edges,
    find_roles,
    post_process_options,
    rows_each,
)
from scripts.evaluation.detections import Detections

# Anchors in fractions of the image have their center inside it; those in pixels go far beyond.
FRACTIONS_UP_TO = 1.5
# A difference of the input that a detector notices, in steps of 255.
SEEN_STEPS = 2


# The input.

@dataclass(frozen=True)
class Normalization:
    """The network was trained on (pixel - `mean`) / `std`, one number or one for each channel.

    `source` says where that is known from.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in part) for part in (self.mean, self.std))
        return f"mean {mean}, deviation {std} {self.source}"

    def of(self, pixels):
        """Return normalized pixels float32 [..., 3] of pixels 0..255."""
        return (pixels - np.float32(self.mean)) / np.float32(self.std)


@dataclass(frozen=True)
class InputForm:
    """An input [1, height, width, 3] of `kind` uint8, int8 or float32.

    `size_px` is (height, width); `scale` and `zero_point` are its quantization (0 for none).
    """

    kind: str
    size_px: tuple[int, int]
    scale: float
    zero_point: int

    def values(self, rgb, normalization: Normalization | None):
        """Return an image uint8 [height, width, 3] as the input takes it: [1, H, W, 3]."""
        pixels = stretch_to(rgb, *self.size_px)
        if normalization is not None:
            pixels = normalization.of(pixels)
            if self.kind != "float32":
                pixels = pixels / self.scale + self.zero_point
        elif self.kind == "int8":
            pixels = pixels - 128.0
        if self.kind != "float32":
            limits = np.iinfo(self.kind)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        return pixels.astype(self.kind)[None]


def input_form(file: TfliteFile) -> InputForm:
    """Return the form of the input, read before anything is run.

    Raises DetectorError when it is not one image of a fixed size.
    """
    graph, path = file.network.subgraphs[0], file.path
    inputs = 0 if graph.inputs is None else len(graph.inputs)
    if inputs != 1:
        raise DetectorError(f"{counted(inputs, 'input')}, not one image: {path}: give a detector "
                            "of single images")
    tensor = graph.tensors[graph.inputs[0]]
    kind, free = dtype_name(tensor.type), tensor.shapeSignature
    shape = [int(side) for side in (tensor.shape if free is None or not len(free) else free)]
    if any(side < 1 for side in shape):
        raise DetectorError(f"input {kind} {shape} has no fixed size (-1): {path}: convert it with "
                            "a fixed input size")
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or min(shape[1:3]) < 2:
        raise DetectorError(f"input {kind} {shape} is not [1, height, width, 3]: {path}: convert "
                            "it to such an input")
    if kind not in ("uint8", "int8", "float32"):
        raise DetectorError(f"input {kind} {shape} is not uint8, int8 or float32: {path}: convert "
                            "it to one of them")
    # A quantized input without a scale takes plain numbers.
    quantization, scale, zero_point = tensor.quantization, 0.0, 0
    if quantization is not None and quantization.scale is not None and len(quantization.scale):
        scale, offsets = float(quantization.scale[0]), quantization.zeroPoint
        zero_point = int(offsets[0]) if offsets is not None and len(offsets) else 0
    return InputForm(kind, (shape[1], shape[2]), scale, zero_point)


def choose_normalization(file: TfliteFile, form: InputForm,
                         given: Normalization | None) -> tuple[Normalization | None, str]:
    """Return the normalization to use (None: raw pixels), and in words what was decided.

    `given` goes before the metadata. uint8 gets the raw pixel whatever the metadata says, as
    MediaPipe and the Task Library do it. Raises DetectorError when nothing says how a float32 input
    is normalized.
    """
    kind, known = form.kind, given or metadata_normalization(file)
    if kind == "float32" and known is None:
        raise DetectorError(
            f"float32 input, and no metadata says how pixels are normalized: {file.path}: "
            "give --mean 127.5 --std 127.5 (SSD), or --mean 0 --std 1 (raw pixels)")
    if kind != "float32" and given and not form.scale:
        raise DetectorError(f"{kind} input without a scale cannot hold normalized pixels: "
                            f"{file.path}: leave out --mean and --std")
    used = known if kind == "float32" or given or (kind == "int8" and form.scale) else None
    words = str(used) if used else "raw pixels" + _doubt(form, known)
    if kind == "int8" and not used:
        words = "pixel - 128, since nothing says how pixels are normalized"
    height_px, width_px = form.size_px
    return used, f"input {kind} [1, {height_px}, {width_px}, 3]: {words}"


def _doubt(form: InputForm, known: Normalization | None) -> str:
    """Return a warning if metadata and scale of a uint8 input mean something else than raw pixels.
    """
    if known is None or not form.scale:
        return ""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, 1)
    quantized = np.clip(known.of(ramp) / form.scale + form.zero_point, 0, 255)
    largest = float(np.abs(quantized - ramp).max())
    if largest < SEEN_STEPS:
        return ""
    return (f", as MediaPipe feeds it; by {known} and its scale a value would differ by up to "
            f"{largest:.0f} of 255: compare with --mean and --std")


def metadata_normalization(file: TfliteFile) -> Normalization | None:
    """Return what the metadata says of the first input."""
    tensors = tensor_metadata(file.metadata, "input")
    wanted = metadata_schema().ProcessUnitOptions.NormalizationOptions
    for unit in (tensors[0].processUnits or []) if tensors else []:
        options = unit.options
        if unit.optionsType == wanted and options.mean is not None and options.std is not None:
            mean, std = (tuple(map(float, part)) for part in (options.mean, options.std))
            if len(mean) in (1, 3) and len(std) in (1, 3) and all(std):
                return Normalization(mean, std, "from the metadata")
    return None


def given_normalization(mean: str, std: str) -> Normalization | None:
    """Return what `--mean` and `--std` say as texts, None for "" and "".

    Raises DetectorError for one without the other, or for texts that are no numbers.
    """
    if not mean and not std:
        return None
    if not mean or not std:
        raise DetectorError(f"only one of --mean '{mean}' and --std '{std}': arguments: give both, "
                            "such as --mean 127.5 --std 127.5")
    return Normalization(_numbers(mean, "--mean"), _numbers(std, "--std"), "as given")


def _numbers(text: str, option: str) -> tuple[float, ...]:
    advice = "give one number, or three for red, green and blue, such as 123.7,116.3,103.5"
    try:
        numbers = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        raise DetectorError(f"'{text}' is no number: {option}: {advice}") from None
    if len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
        raise DetectorError(f"'{text}' is not one number or three: {option}: {advice}")
    if option == "--std" and min(numbers) <= 0:
        raise DetectorError(f"'{text}' is not above 0: {option}: {advice}")
    return numbers


# The detector.

class ThirdPartyDetector(TfliteDetector):
    """Any `.tflite` with a fixed input and boxes, classes, scores and count as outputs.

    Args:
        path: the file.
        threads: of LiteRT.
        mean, std: texts such as `127.5` or `123.7,116.3,103.5`, "" for what the metadata says.
        labels: a file of class names, None for those inside.

    `notes` are sentences on what was decided. Raises DetectorError, with the reason, for a file
    that cannot be scored.
    """

    advice = "give a .tflite that LiteRT can run on the CPU"

    def __init__(self, path: Path, threads: int = 2, mean: str = "", std: str = "",
                 labels: Path | None = None):
        given = given_normalization(mean, std)
        self.file = read_tflite(path)
        with reporting_damage(path):
            # First: LiteRT may not even load a file whose input has no fixed size.
            self._form = input_form(self.file)
        super().__init__(path, threads)
        with reporting_damage(path):
            self._normalization, note = choose_normalization(self.file, self._form, given)
            self.notes = [note, f"outputs: told by {self._told_by}"]
            self._edges, self._scale_px = box_edges(self.file), self._boxes_in_pixels()
            self._rows_each = rows_each(self.file)
            self._labels = self._find_labels(labels)

    @property
    def labels(self) -> list[str]:
        """Class names by the class id of the file."""
        return self._labels

    def pixels(self, rgb):
        """Return what the input tensor gets of an image uint8 [height, width, 3]."""
        return self._form.values(rgb, self._normalization)

    def detect(self, rgb) -> Detections:
        """Detect in an image uint8 [height, width, 3], best first, with class ids of the file."""
        self.prepare(rgb)
        self.invoke()
        boxes, classes, scores, count = (
            real_numbers(self._interpreter.get_tensor(index), *self._quantizations[index])
            for index in self._outputs)
        # Of the rows of each counted detection only the first may be filled.
        rows, filled = self._rows_each
        classes, scores = (part.reshape(-1, rows)[:, :filled].reshape(1, -1)
                           for part in (classes, scores))
        boxes = boxes.reshape(-1, rows, 4)[:, :filled].reshape(1, -1, 4)
        found = first_slots(boxes, classes, scores, count * filled)
        order = np.argsort(-found.scores, kind="stable")
        boxes = found.yxyx_norm[order][:, self._edges] / np.float32(self._scale_px * 2)
        return Detections(boxes, found.class_ids[order], found.scores[order])

    def _only_input(self) -> dict:
        return self._interpreter.get_input_details()[0]

    def _reading(self):
        """Return the tensor indices of boxes, classes, scores and count; `detect` reads them."""
        details = self._interpreter.get_output_details()
        self._quantizations = {detail["index"]: detail["quantization"] for detail in details}
        shapes = {detail["index"]: tuple(map(int, detail["shape"])) for detail in details}
        with reporting_damage(self.path):
            roles, self._told_by = find_roles(self.file, shapes)
        return [roles[role] for role in ROLES], None

    def _boxes_in_pixels(self) -> tuple[float, float]:
        """Return the divisors of y and x: 1, or the sides of the input if anchors are in pixels."""
        values = anchors(self.file)
        if values is None or values[:, :2].max(initial=0) <= FRACTIONS_UP_TO:
            return 1.0, 1.0
        self.notes.append("boxes: in pixels of the input, as its anchors are; clients expect "
                          "fractions")
        height_px, width_px = self._form.size_px
        return float(height_px), float(width_px)

    def _find_labels(self, path: Path | None) -> list[str]:
        inside = label_files(self.file)
        labels = read_labels(path) if path else next(iter(inside.values()), [])
        if not labels:
            raise DetectorError(f"no labels inside: {self.path}: give them with --labels FILE, one "
                                "class name a line")
        classes = post_process_options(self.file).get("num_classes")
        labels, note = without_background(labels, classes)
        self.notes += [note] if note else []
        return labels

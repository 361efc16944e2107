"""What the input of a third-party detector gets of an image: its size, its numbers, its
normalization."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError, counted
from scripts.data.label_map import parse_text_format, read_label_map
from scripts.deploy.metadata import parse_labels
from scripts.deploy.reader import TfliteDetector, first_slots, stretch_to
from scripts.deploy.roles import (
    ROLES,
    anchors,
    box_edges,
    find_roles,
    post_process_options,
    rows_each,
)
from scripts.deploy.schema_tables import (
    TfliteFile,
    decoded,
    dtype_name,
    metadata_schema,
    read_tflite,
    whole,
)
from scripts.evaluation.detections import Detections

SEEN_STEPS = 2
"""Rounding moves a uint8 by one step; from two on the input means something else than the raw
pixel."""


@dataclass(frozen=True)
class Normalization:
    """The network was trained on (pixel - `mean`) / `std`, one number or one for each channel;
    `how` we know."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    how: str

    def __str__(self) -> str:
        mean, std = (", ".join(f"{one:g}" for one in part) for part in (self.mean, self.std))
        return f"mean {mean}, deviation {std} {self.how}"

    def of(self, pixels):
        """Normalized pixels float32 [..., 3] of pixels 0..255."""
        return (pixels - np.float32(self.mean)) / np.float32(self.std)


@dataclass(frozen=True)
class InputPlan:
    """An input of `kind` (uint8, int8, float32) and [1, height, width, 3]; without `normalization`
    it gets raw pixels.

    `scale` and `zero_point` are its quantization (0 for none), `note` says in words what was
    decided.
    """

    kind: str
    size_px: tuple[int, int]
    scale: float
    zero_point: int
    normalization: Normalization | None
    note: str = ""

    def values(self, rgb):
        """An image uint8 [height, width, 3], stretched, as the input takes it: [1, H, W, 3]."""
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

    uint8 gets the raw pixel whatever the metadata says, as MediaPipe and the Task Library do it.
    DetectorError when the input is no image of a fixed size, or nothing says how a float32 input is
    normalized.
    """
    kind, size_px, scale, zero_point = input_form(file)
    told = given or metadata_normalization(file)
    if kind == "float32" and told is None:
        raise DetectorError(f"float32 input, and no metadata says how pixels are normalized: {file.path}: "
                            "give --mean 127.5 --std 127.5 (SSD), or --mean 0 --std 1 (raw pixels)")
    if kind != "float32" and given and not scale:
        raise DetectorError(f"{kind} input without a scale cannot hold normalized pixels: {file.path}: "
                            "leave out --mean and --std")
    used = told if kind == "float32" or given or (kind == "int8" and scale) else None
    plan = InputPlan(kind, size_px, scale, zero_point, used)
    words = str(used) if used else "raw pixels" + _doubt(plan, told)
    if kind == "int8" and used is None:
        words = "pixel - 128, since nothing says how pixels are normalized"
    return replace(plan, note=f"input {kind} [1, {size_px[0]}, {size_px[1]}, 3]: {words}")


def input_form(file: TfliteFile) -> tuple[str, tuple[int, int], float, int]:
    """Number type, (height, width), scale and zero point of the input, read before anything is run.

    DetectorError when it is not one image of a fixed size.
    """
    graph, path = file.network.subgraphs[0], file.path
    if graph.inputs is None or len(graph.inputs) != 1:
        count = 0 if graph.inputs is None else len(graph.inputs)
        raise DetectorError(f"{counted(count, 'input')}, not one image: {path}: give a detector of single images")
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
    """A warning where metadata and quantization of a uint8 input mean something else than the raw
    pixel."""
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
    """What `--mean` and `--std` say (texts; "" for nothing). DetectorError for one without the
    other, or no numbers."""
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


# Class names of a third-party detector, and which of them are classes of ours.

BACKGROUND = ("???", "background", "__background__", "unlabeled")
"""How label files call what is no class: a first line that shifts all others by one."""


@dataclass(frozen=True)
class ClassMap:
    """`ids`: their 0-based class id -> our label map id. Names that only one side knows are not
    lost."""

    ids: dict[int, int]
    shared: tuple[str, ...]
    only_theirs: tuple[str, ...]
    only_ours: tuple[str, ...]


def label_files(file: TfliteFile) -> dict[str, list[str]]:
    """Lines of each packed file that the metadata calls labels, then of every `*label*.txt`."""
    named = [name for name in _named_labels(file.metadata) if name in file.files]
    others = [name for name in file.files if re.fullmatch(r".*label.*\.txt", name, re.IGNORECASE) and name not in named]
    return {name: parse_labels(file.files[name].decode("utf-8", "replace")) for name in [*named, *others]}


def _named_labels(metadata) -> list[str]:
    """Names of label files; those that belong to an output first."""
    if metadata is None:
        return []
    types = metadata_schema().AssociatedFileType
    graphs = metadata.subgraphMetadata or []
    holders = [tensor for graph in graphs for tensor in graph.outputTensorMetadata or []] + [*graphs, metadata]
    files = [file for holder in holders for file in holder.associatedFiles or []]
    wanted = (types.TENSOR_VALUE_LABELS, types.TENSOR_AXIS_LABELS)
    return list(dict.fromkeys(decoded(file.name) for file in files if file.type in wanted))


def read_labels(path: Path) -> list[str]:
    """Class names by 0-based id: of a text file with one a line (`0 person` and `0: person` too),
    or of a `.pbtxt`.

    DetectorError when it cannot be read or names nothing.
    """
    if path.suffix.lower() == ".pbtxt":
        ids = read_label_map(path) | _display_names(path)
        return [ids.get(number, BACKGROUND[0]) for number in range(1, max(ids) + 1)]
    try:
        lines = parse_labels(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DetectorError(f"labels cannot be opened ({error.strerror}): {path}: --labels names a text file") from None
    except UnicodeDecodeError:
        raise DetectorError(f"labels are not UTF-8: {path}: save the file as UTF-8") from None
    if not lines:
        raise DetectorError(f"no labels in the file: {path}: one class name a line, line 1 is class 0")
    numbered = [re.fullmatch(r"\s*(\d+)[\s:,]+(.*\S)\s*", line) for line in lines if line.strip()]
    if not all(numbered):
        return lines
    names = {int(match[1]): match[2] for match in numbered}
    return [names.get(number, BACKGROUND[0]) for number in range(max(names) + 1)]


def _display_names(path: Path) -> dict[int, str]:
    """Names for people by id, which the map of COCO has beside names such as `/m/01g317`."""
    found = {}
    for item in parse_text_format(path.read_text("utf-8-sig")):
        fields = {field.name: field.value for field in item.value} if item.kind == "message" else {}
        if fields.get("display_name"):
            found[int(fields["id"], 0)] = fields["display_name"]
    return found


def without_background(labels: list[str], classes: int | None) -> tuple[list[str], str]:
    """The labels without a first line for the background, if the network has one class less, and a
    note on them.

    `classes`: how many the network tells apart, None if unknown.
    """
    if classes == len(labels) - 1 and labels[0].strip().casefold() in BACKGROUND:
        return labels[1:], f"labels: line 1, '{labels[0]}', is the background and no class"
    if classes is not None and classes != len(labels):
        return labels, f"labels: {len(labels)} for {classes} classes of the network; line 1 is taken for class 0"
    return labels, ""


def class_map(theirs: list[str], ours: dict[int, str]) -> ClassMap:
    """Pairs classes by name, case and spaces ignored; `ours` is a label map. `???` and empty lines
    are no classes."""
    numbers = {_folded(name): number for number, name in reversed(ours.items())}
    names = {class_id: name for class_id, name in enumerate(theirs) if name.strip() and name.strip() not in BACKGROUND}
    ids = {class_id: numbers[_folded(name)] for class_id, name in names.items() if _folded(name) in numbers}
    # Two classes of ours that differ in case only: each takes the name that is exactly its own.
    exact = {name: number for number, name in ours.items()}
    ids |= {class_id: exact[name] for class_id, name in names.items() if name in exact}
    reached = set(ids.values())
    return ClassMap(
        ids, shared=tuple(ours[number] for number in sorted(reached)),
        only_theirs=tuple(dict.fromkeys(name for class_id, name in names.items() if class_id not in ids)),
        only_ours=tuple(name for number, name in ours.items() if number not in reached))


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()


# A detector of somebody else, run by our clock and scored by our scorer: SSD, EfficientDet-Lite and
# their like.

FRACTIONS_UP_TO = 1.5
"""Anchors in fractions of the image have their center inside it; those in pixels reach its last
pixel."""


class ThirdPartyDetector(TfliteDetector):
    """Any `.tflite` detector with a fixed input and boxes, classes, scores and count as outputs, in
    whatever order.

    `mean` and `std` are texts such as `127.5` or `123.7,116.3,103.5`, "" for what the metadata
    says; `labels` a file of class names, None for those inside. `notes` are sentences on what was
    decided. DetectorError for a file that cannot be scored, with the reason.
    """

    advice = "give a .tflite that LiteRT can run on the CPU"

    def __init__(self, path: Path, threads: int = 2, mean: str = "", std: str = "", labels: Path | None = None):
        self._given = given_normalization(mean, std)
        self.file = read_tflite(path)
        with whole(path):
            input_form(self.file)  # What has no fixed size may not even load.
        super().__init__(path, threads)
        with whole(path):
            self._plan = plan_input(self.file, self._given)
            self.notes = [self._plan.note, f"outputs: told by {self._roles.how}"]
            self._edges, self._scale_px = box_edges(self.file), self._boxes_in_pixels()
            self._rows_each = rows_each(self.file)
            self._labels = self._find_labels(labels)

    @property
    def labels(self) -> list[str]:
        """Class names by the class id of the file."""
        return self._labels

    def pixels(self, rgb):
        """What the input tensor gets of an image uint8 [height, width, 3]: see `InputPlan`."""
        return self._plan.values(rgb)

    def detect(self, rgb) -> Detections:
        """Detections in an image uint8 [height, width, 3], best first; `class_ids` are those of the
        file."""
        self.prepare(rgb)
        self.invoke()
        boxes, classes, scores, count = (self._real(index) for index in self._outputs)
        each, filled = self._rows_each
        classes, scores = (part.reshape(-1, each)[:, :filled].reshape(1, -1) for part in (classes, scores))
        boxes = boxes.reshape(-1, each, 4)[:, :filled].reshape(1, -1, 4)
        found = first_slots(boxes, classes, scores, count * filled)
        order = np.argsort(-found.scores, kind="stable")
        boxes = found.yxyx_norm[order][:, self._edges] / np.float32([*self._scale_px, *self._scale_px])
        return Detections(boxes, found.class_ids[order], found.scores[order])

    def _real(self, index: int):
        """The real numbers of an output."""
        values = self._interpreter.get_tensor(index)
        if not np.issubdtype(values.dtype, np.integer):
            return values.astype(np.float32)
        scale, zero_point = self._details[index]["quantization"]
        # Class ids may be plain whole numbers: without a scale they stand for themselves.
        return (values.astype(np.float32) - zero_point) * scale if scale else values.astype(np.float32)

    def _only_input(self) -> dict:
        return self._interpreter.get_input_details()[0]

    def _reading(self):
        """Tensor indices of boxes, classes, scores and count; `detect` reads them by itself."""
        self._details = {one["index"]: one for one in self._interpreter.get_output_details()}
        shapes = {index: tuple(int(side) for side in one["shape"]) for index, one in self._details.items()}
        with whole(self.path):
            self._roles = find_roles(self.file, shapes)
        return [getattr(self._roles, role) for role in ROLES], None

    def _boxes_in_pixels(self) -> tuple[float, float]:
        """By what to divide y and x of boxes: 1, or the sides of the input where the anchors are in
        its pixels."""
        values = anchors(self.file)
        if values is None or values[:, :2].max(initial=0) <= FRACTIONS_UP_TO:
            return 1.0, 1.0
        self.notes.append("boxes: in pixels of the input, as its anchors are; clients expect fractions")
        height_px, width_px = self._plan.size_px
        return float(height_px), float(width_px)

    def _find_labels(self, path: Path | None) -> list[str]:
        inside = label_files(self.file)
        labels = read_labels(path) if path else next(iter(inside.values()), [])
        if not labels:
            raise DetectorError(f"no labels inside: {self.path}: give them with --labels FILE, one class name a line")
        labels, note = without_background(labels, post_process_options(self.file).get("num_classes"))
        self.notes += [note] if note else []
        return labels

"""The operation in which most detectors end, TFLite_Detection_PostProcess: its options, its
anchors."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from scripts.core.text import DetectorError, counted
from scripts.deploy.schema_tables import (
    TfliteFile,
    decoded,
    dtype_name,
    metadata_schema,
    operation_name,
)

POST_PROCESS = "TFLite_Detection_PostProcess"


def post_process_options(file: TfliteFile) -> dict[str, Any]:
    """The options of the post-processing operation, such as `num_classes`; empty when there is
    none."""
    operator = post_process(file)
    options = None if operator is None else operator.customOptions
    return {} if options is None or len(options) == 0 else flexbuffers.Loads(bytes(options))


def rows_each(file: TfliteFile) -> tuple[int, int]:
    """Rows of the outputs that one counted detection has, and how many of them are filled.

    The operation counts anchors, and gives the same box for each of the best
    `max_classes_per_detection` classes.
    """
    options = post_process_options(file)
    rows = 1 if options.get("use_regular_nms") else max(1, int(options.get("max_classes_per_detection", 1)))
    return rows, min(rows, max(1, int(options.get("num_classes", rows))))


def anchors(file: TfliteFile):
    """The anchors of the post-processing operation, real [N, 4] as center y, center x, height,
    width, or None."""
    operator, graph = post_process(file), file.network.subgraphs[0]
    if operator is None or len(operator.inputs) < 3:
        return None
    tensor = graph.tensors[operator.inputs[2]]
    data = file.network.buffers[tensor.buffer].data
    kind = dtype_name(tensor.type)
    if data is None or len(data) == 0 or kind not in ("float32", "float16", "uint8", "int8"):
        return None
    values = np.frombuffer(bytes(data), kind).astype(np.float32).reshape(-1, 4)
    quantization = tensor.quantization
    if "int8" in kind and quantization is not None and quantization.scale is not None:
        return (values - quantization.zeroPoint[0]) * quantization.scale[0]
    return values


def post_process(file: TfliteFile):
    """The post-processing operation of the main graph, None when there is none."""
    operators = file.network.subgraphs[0].operators or []
    return next((one for one in operators if operation_name(file.network, one) == (POST_PROCESS, True)), None)


# Which output of a detector is which: boxes, classes, scores, count. Decided for files of others,
# told in words.

ADVICE = f"only detectors with {POST_PROCESS} or the same four outputs can be scored"
ROLES = ("boxes", "classes", "scores", "count")
"""In the order in which TFLite_Detection_PostProcess gives them
(tensorflow/lite/kernels/detection_postprocess.cc)."""

PASSED_ON = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "SQUEEZE", "EXPAND_DIMS")
"""Operations behind which a tensor is still what it was."""

NAMES = {
    "boxes": "boxes", "location": "boxes", "locations": "boxes", "detectionboxes": "boxes",
    "classes": "classes", "category": "classes", "categories": "classes", "detectionclasses": "classes",
    "scores": "scores", "score": "scores", "detectionscores": "scores",
    "count": "count", "numdetections": "count", "numberofdetections": "count", "num": "count",
}


@dataclass(frozen=True)
class Roles:
    """Indices of the four output tensors, and how they were told apart."""

    boxes: int
    classes: int
    scores: int
    count: int
    how: str


def find_roles(file: TfliteFile, shapes: dict[int, tuple[int, ...]]) -> Roles:
    """The roles of the outputs; `shapes` are those of the outputs, in the order of the file, once
    it is loaded.

    First by the post-processing operation, whose order of outputs is fixed, then by names (of a
    signature, the metadata, the tensors), then by shape, with classes before scores as in the
    operation. DetectorError when there are not four outputs with the shapes of a detector's.
    """
    if len(shapes) != len(ROLES):
        raise DetectorError(f"{counted(len(shapes), 'output')}, not boxes, classes, scores and count: {file.path}: "
                            f"{ADVICE}")
    named = {"names in the signature": _signature_names(file), "names in the metadata": _metadata_names(file),
             "names of the tensors": _tensor_names(file)}
    found = {f"order of outputs of {POST_PROCESS}": _by_operation(file), **named}
    for how, roles in found.items():
        if set(roles) == set(ROLES) and set(roles.values()) == set(shapes) and _fits(roles, shapes):
            against = [other for other, told in named.items() if set(told) == set(ROLES) and told != roles]
            return Roles(**roles, how=how + "".join(f", against the {other}" for other in against))
    return _by_shape(file, shapes)


def box_edges(file: TfliteFile) -> list[int]:
    """Where ymin, xmin, ymax and xmax stand in a row of boxes: in this order behind the operation,
    else by metadata.

    DetectorError for boxes that the metadata calls anything but edges in fractions.
    """
    graphs = (file.metadata.subgraphMetadata or []) if file.metadata else []
    tensors = (graphs[0].outputTensorMetadata or []) if graphs else []
    contents = [tensor.content.contentProperties for tensor in tensors if tensor.content]
    boxes = [one for one in contents if type(one).__name__ == "BoundingBoxPropertiesT"]
    if post_process(file) is not None or not boxes or boxes[0].index is None or len(boxes[0].index) != 4:
        return [0, 1, 2, 3]
    types = metadata_schema()
    if (boxes[0].type, boxes[0].coordinateType) != (types.BoundingBoxType.BOUNDARIES, types.CoordinateType.RATIO):
        raise DetectorError(f"boxes are no edges in fractions of the image: {file.path}: only such can be scored")
    left, top, right, bottom = map(int, boxes[0].index)
    return [top, left, bottom, right]


def _by_operation(file: TfliteFile) -> dict[str, int]:
    """Outputs that come from the post-processing operation, on their way perhaps quantized or
    reshaped."""
    final = post_process(file)
    if final is None:
        return {}
    graph, sources = file.network.subgraphs[0], {}
    for operator in graph.operators:
        if operation_name(file.network, operator)[0] in PASSED_ON:
            sources[int(operator.outputs[0])] = int(operator.inputs[0])
    order = dict(zip(map(int, final.outputs), ROLES, strict=False))
    roles = {}
    for index in map(int, graph.outputs):
        source = index
        for _ in range(len(sources) + 1):  # A damaged file could lead in a circle.
            if source in order or source not in sources:
                break
            source = sources[source]
        if source in order:
            roles[order[source]] = index
    return roles


def _signature_names(file: TfliteFile) -> dict[str, int]:
    for signature in file.network.signatureDefs or []:
        if signature.subgraphIndex == 0:
            return _named({decoded(entry.name): entry.tensorIndex for entry in signature.outputs or []})
    return {}


def _metadata_names(file: TfliteFile) -> dict[str, int]:
    outputs = [int(index) for index in file.network.subgraphs[0].outputs]
    graphs = (file.metadata.subgraphMetadata or []) if file.metadata else []
    tensors = graphs[0].outputTensorMetadata or [] if graphs else []
    if len(tensors) != len(outputs):
        return {}
    return _named({decoded(tensor.name): index for tensor, index in zip(tensors, outputs, strict=True)})


def _tensor_names(file: TfliteFile) -> dict[str, int]:
    """`detection_boxes`, or what the converter makes of TF1's operation: its name, then with `:1`,
    `:2` and `:3`."""
    graph = file.network.subgraphs[0]
    names = {decoded(graph.tensors[index].name): int(index) for index in graph.outputs}
    order = {POST_PROCESS + tail: role for tail, role in zip(("", ":1", ":2", ":3"), ROLES, strict=True)}
    if set(names) == set(order):
        return {order[name]: index for name, index in names.items()}
    return _named(names)


def _named(names: dict[str, int]) -> dict[str, int]:
    """Index by role of the names that say a role; capitals and signs do not matter."""
    plain = {re.sub("[^a-z]", "", name.casefold()): index for name, index in names.items()}
    return {NAMES[name]: int(index) for name, index in plain.items() if name in NAMES}


def _fits(roles: dict[str, int], shapes: dict[int, tuple[int, ...]]) -> bool:
    """Boxes [1, N, 4], classes and scores [1, N], one number for the count; a leading 1 may be
    missing."""
    sizes = {role: _size(shapes[index]) for role, index in roles.items()}
    slots = sizes["scores"]
    return (sizes["count"] == 1 and sizes["classes"] == slots and sizes["boxes"] == 4 * slots
            and shapes[roles["boxes"]][-1:] == (4,))


def _by_shape(file: TfliteFile, shapes: dict[int, tuple[int, ...]]) -> Roles:
    boxes = [index for index, shape in shapes.items() if len(shape) >= 2 and shape[-1] == 4
             and len(shape) == max(map(len, shapes.values()))]
    counts = [index for index, shape in shapes.items() if _size(shape) == 1 and len(shape) < 2]
    rest = [index for index in shapes if index not in (*boxes, *counts)]
    if len(boxes) == len(counts) == 1 and len(rest) == 2:
        roles = {"boxes": boxes[0], "classes": rest[0], "scores": rest[1], "count": counts[0]}
        if _fits(roles, shapes):
            how = f"shapes; classes before scores, as {POST_PROCESS} gives them, since nothing names them"
            return Roles(**roles, how=how)
    shown = ", ".join(str(list(shape)) for shape in shapes.values())
    raise DetectorError(f"outputs {shown} are not [1, N, 4], [1, N], [1, N] and [1]: {file.path}: {ADVICE}")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size

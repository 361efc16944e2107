"""Which output of a third-party detector is which: boxes, classes, scores, count.

Most detectors end in `TFLite_Detection_PostProcess`, which fixes the order; its options also say
how many rows a detection has (tensorflow/lite/kernels/detection_postprocess.cc).
"""

import math
import re
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from scripts.core.text import DetectorError, counted
from scripts.deploy.tflite_file import (
    TfliteFile,
    decoded,
    dtype_name,
    metadata_schema,
    operation_name,
    tensor_metadata,
)

POST_PROCESS = "TFLite_Detection_PostProcess"
ADVICE = f"only detectors with {POST_PROCESS} or the same four outputs can be scored"

# In the order in which TFLite_Detection_PostProcess gives them.
ROLES = ("boxes", "classes", "scores", "count")

# Operations behind which a tensor still has the same role.
PASSED_ON = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "SQUEEZE", "EXPAND_DIMS")

NAMES = {
    "boxes": "boxes", "location": "boxes", "locations": "boxes", "detectionboxes": "boxes",
    "classes": "classes", "category": "classes", "categories": "classes",
    "detectionclasses": "classes",
    "scores": "scores", "score": "scores", "detectionscores": "scores",
    "count": "count", "numdetections": "count", "numberofdetections": "count", "num": "count",
}

Shapes = dict[int, tuple[int, ...]]


# The post-processing operation.

def post_process(file: TfliteFile):
    """Return the post-processing operation of the main graph, None when there is none."""
    operators = file.network.subgraphs[0].operators or []
    return next((operator for operator in operators
                 if operation_name(file.network, operator) == (POST_PROCESS, True)), None)


def post_process_options(file: TfliteFile) -> dict[str, Any]:
    """Return the options of that operation, such as `num_classes`; {} when there is none."""
    operator = post_process(file)
    options = None if operator is None else operator.customOptions
    return {} if options is None or len(options) == 0 else flexbuffers.Loads(bytes(options))


def rows_each(file: TfliteFile) -> tuple[int, int]:
    """Return how many rows of the outputs a counted detection has, and how many are filled.

    The operation counts anchors, and gives the same box for each of the best
    `max_classes_per_detection` classes.
    """
    options = post_process_options(file)
    rows = 1
    if not options.get("use_regular_nms"):
        rows = max(1, int(options.get("max_classes_per_detection", 1)))
    return rows, min(rows, max(1, int(options.get("num_classes", rows))))


def anchors(file: TfliteFile) -> np.ndarray | None:
    """Return the anchors of that operation as center y, center x, height, width: float32 [n, 4]."""
    operator, graph = post_process(file), file.network.subgraphs[0]
    if operator is None or len(operator.inputs) < 3:
        return None
    tensor = graph.tensors[operator.inputs[2]]
    data, kind = file.network.buffers[tensor.buffer].data, dtype_name(tensor.type)
    if data is None or len(data) == 0 or kind not in ("float32", "float16", "uint8", "int8"):
        return None
    values = np.frombuffer(bytes(data), kind).astype(np.float32).reshape(-1, 4)
    quantization = tensor.quantization
    if "int8" in kind and quantization is not None and quantization.scale is not None:
        return (values - quantization.zeroPoint[0]) * quantization.scale[0]
    return values


# The roles of the outputs.

def find_roles(file: TfliteFile, shapes: Shapes) -> tuple[dict[str, int], str]:
    """Return the index of the tensor of each role, and in words how they were told apart.

    First by the post-processing operation, then by names (of a signature, the metadata, the
    tensors), then by shape, with classes before scores as in the operation.

    Args:
        file: the detector.
        shapes: those of its outputs once it is loaded, in the order of the file.

    Raises:
        DetectorError: There are not four outputs with the shapes of a detector's.
    """
    if len(shapes) != len(ROLES):
        raise DetectorError(f"{counted(len(shapes), 'output')}, not boxes, classes, scores and "
                            f"count: {file.path}: {ADVICE}")
    named = {"names in the signature": _signature_names(file),
             "names in the metadata": _metadata_names(file),
             "names of the tensors": _tensor_names(file)}
    for how, roles in {f"order of outputs of {POST_PROCESS}": _by_operation(file), **named}.items():
        if set(roles.values()) == set(shapes) and _fits(roles, shapes):
            against = [other for other, found in named.items()
                       if set(found) == set(ROLES) and found != roles]
            return roles, how + "".join(f", against the {other}" for other in against)
    roles = _by_shape(shapes)
    if not _fits(roles, shapes):
        shown = ", ".join(str(list(shape)) for shape in shapes.values())
        raise DetectorError(f"outputs {shown} are not [1, N, 4], [1, N], [1, N] and [1]: "
                            f"{file.path}: {ADVICE}")
    return roles, f"shapes; classes before scores, as {POST_PROCESS} gives them"


def box_edges(file: TfliteFile) -> list[int]:
    """Return where ymin, xmin, ymax and xmax stand in a row of boxes.

    They stand in this order behind TFLite_Detection_PostProcess; otherwise the metadata says it.
    Raises DetectorError for boxes that the metadata calls anything but edges in fractions.
    """
    contents = [tensor.content.contentProperties
                for tensor in tensor_metadata(file.metadata, "output") if tensor.content]
    boxes = [part for part in contents if type(part).__name__ == "BoundingBoxPropertiesT"]
    if post_process(file) is not None or not boxes:
        return [0, 1, 2, 3]
    if boxes[0].index is None or len(boxes[0].index) != 4:
        return [0, 1, 2, 3]
    types = metadata_schema()
    wanted = types.BoundingBoxType.BOUNDARIES, types.CoordinateType.RATIO
    if (boxes[0].type, boxes[0].coordinateType) != wanted:
        raise DetectorError(f"boxes are no edges in fractions of the image: {file.path}: "
                            "only such can be scored")
    left, top, right, bottom = map(int, boxes[0].index)
    return [top, left, bottom, right]


def _by_operation(file: TfliteFile) -> dict[str, int]:
    """Return outputs of the post-processing operation, which may be quantized or reshaped."""
    final = post_process(file)
    if final is None:
        return {}
    # From each output of the graph back through operations that keep the role.
    graph, sources = file.network.subgraphs[0], {}
    for operator in graph.operators:
        if operation_name(file.network, operator)[0] in PASSED_ON:
            sources[int(operator.outputs[0])] = int(operator.inputs[0])
    order = dict(zip(map(int, final.outputs), ROLES, strict=False))
    roles = {}
    for index in map(int, graph.outputs):
        source = index
        for _ in range(len(sources)):  # Bounded: a damaged file could lead in a circle.
            source = source if source in order else sources.get(source, source)
        if source in order:
            roles[order[source]] = index
    return roles


def _signature_names(file: TfliteFile) -> dict[str, int]:
    for signature in file.network.signatureDefs or []:
        if signature.subgraphIndex == 0:
            return _named({decoded(entry.name): entry.tensorIndex
                           for entry in signature.outputs or []})
    return {}


def _metadata_names(file: TfliteFile) -> dict[str, int]:
    outputs = [int(index) for index in file.network.subgraphs[0].outputs]
    tensors = tensor_metadata(file.metadata, "output")
    if len(tensors) != len(outputs):
        return {}
    names = [decoded(tensor.name) for tensor in tensors]
    return _named(dict(zip(names, outputs, strict=True)))


def _tensor_names(file: TfliteFile) -> dict[str, int]:
    """Return names such as `detection_boxes`, or those that TF1's converter gives the operation:
    its name, then with `:1`, `:2` and `:3`."""
    graph = file.network.subgraphs[0]
    names = {decoded(graph.tensors[index].name): int(index) for index in graph.outputs}
    converted = [POST_PROCESS, *(f"{POST_PROCESS}:{number}" for number in (1, 2, 3))]
    order = dict(zip(converted, ROLES, strict=True))
    if set(names) == set(order):
        return {order[name]: index for name, index in names.items()}
    return _named(names)


def _named(names: dict[str, int]) -> dict[str, int]:
    """Return the index by role of names that say a role; capitals and signs do not matter."""
    plain = {re.sub("[^a-z]", "", name.casefold()): index for name, index in names.items()}
    return {NAMES[name]: int(index) for name, index in plain.items() if name in NAMES}


def _by_shape(shapes: Shapes) -> dict[str, int]:
    longest = max(map(len, shapes.values()))
    boxes = [index for index, shape in shapes.items()
             if len(shape) == longest >= 2 and shape[-1] == 4]
    counts = [index for index, shape in shapes.items() if math.prod(shape) == 1 and len(shape) < 2]
    rest = [index for index in shapes if index not in (*boxes, *counts)]
    if len(boxes) == len(counts) == 1 and len(rest) == 2:
        return dict(zip(ROLES, (*boxes, *rest, *counts), strict=True))
    return {}


def _fits(roles: dict[str, int], shapes: Shapes) -> bool:
    """Return whether all roles are there: boxes [1, N, 4], classes and scores [1, N], one count.

    A leading 1 may be missing.
    """
    if set(roles) != set(ROLES):
        return False
    sizes = {role: math.prod(shapes[index]) for role, index in roles.items()}
    slots = sizes["scores"]
    return (sizes["count"] == 1 and sizes["classes"] == slots and sizes["boxes"] == 4 * slots
            and shapes[roles["boxes"]][-1:] == (4,))

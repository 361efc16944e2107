"""The metadata of a shipped `.tflite`, and its outputs in the form of the contract.

MediaPipe and the TFLite Task Library read the metadata: how pixels are normalized, what the outputs
are, and where the labels stand. The contract is in docs/deploy.md.
"""

import json
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError
from scripts.deploy.provenance import PROVENANCE, provenance_text
from scripts.deploy.tflite_file import (
    FIELD,
    LABELS,
    METADATA_IDENTIFIER,
    MODEL_IDENTIFIER,
    anchors_schema,
    decoded,
    labels_text,
    metadata_schema,
    packed,
    parse_labels,
    read_tflite,
    tensor_metadata,
    unpacked,
    with_files,
)

# Names of the outputs in the signature, in the order of their indices.
OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
# The same of a file that ends before the post-processing.
RAW_OUTPUTS = ("raw_boxes", "raw_logits")

# The oldest version of the metadata schema that has all fields written here.
SCHEMA_SINCE = "1.2.0"

# Where left, top, right and bottom stand in a row of boxes, which is ymin, xmin, ymax, xmax.
LOCATION_ORDER = (1, 0, 3, 2)

ANCHORS_NAME, ANCHORS_IDENTIFIER = b"DETECTOR_METADATA", b"V001"


def with_metadata(model: bytes, labels: list[str], *, name: str, description: str, author: str,
                  license: str, provenance: dict, anchors_yxhw=None) -> bytes:
    """Return the `.tflite` with metadata and labels, its outputs as the contract has them.

    Older metadata is replaced. Equal input gives equal bytes.

    Args:
        model: bytes of a network with OUTPUTS or RAW_OUTPUTS in its signature.
        labels: class names by class id.
        name, description, author, license: texts of the metadata.
        provenance: anything that JSON can hold.
        anchors_yxhw: of a model without post-processing: center and size in 0..1 of the input,
            [anchors, 4].

    Raises:
        ValueError: The signature lacks the outputs, or a label holds a line break.
    """
    broken = [label for label in labels if "\n" in label or "\r" in label]
    if broken:
        raise ValueError(f"label {broken[0]!r} has a line break: labels.txt has one label a line")
    network = unpacked(model)
    _order_outputs(network, OUTPUTS if anchors_yxhw is None else RAW_OUTPUTS)
    clip_boxes(network)
    general = {"name": name, "description": description, "author": author, "license": license}
    _put_metadata(network, _metadata_bytes(general, anchors_yxhw, len(labels)))
    return with_files(packed(network, MODEL_IDENTIFIER),
                      {LABELS: labels_text(labels), PROVENANCE: provenance_text(provenance)})


def _order_outputs(network, names: tuple[str, ...]) -> None:
    """Put the outputs in the order of `names`.

    The converter puts `num_detections` first, which index readers and MediaPipe would take for the
    boxes. The signature names tensors, so it stays right.
    """
    for signature in network.signatureDefs or []:
        indices = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
        if set(indices) == set(names):
            network.subgraphs[0].outputs = [indices[name] for name in names]
            return
    raise ValueError(f"model has no signature with the outputs {', '.join(names)}")


def _put_metadata(network, data: bytes) -> None:
    """Store `data` as the metadata of the network, in place of older metadata."""
    from ai_edge_litert import schema_py_generated as schema

    # The metadata is a buffer like those of weights; an entry of the network names it.
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    network.metadata = network.metadata or []
    for entry in network.metadata:
        if entry.name == FIELD:
            network.buffers[entry.buffer] = buffer
            return
    entry = schema.MetadataT()
    entry.name, entry.buffer = FIELD, len(network.buffers)
    network.buffers.append(buffer)
    network.metadata.append(entry)


# Boxes end at the image: two operations behind the post-processing, which does not cut them.

def clip_boxes(network) -> None:
    """Let the output `detection_boxes` of a `ModelT` be cut to 0..1, unless it is already.

    Nothing happens to a network without that output in its signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, operators = network.subgraphs[0], schema.BuiltinOperator
    entries = [entry for signature in network.signatureDefs or [] for entry in signature.outputs
               if entry.name.decode() == OUTPUTS[0]]
    if not entries:
        return
    before = entries[0].tensorIndex
    codes = [network.operatorCodes[operator.opcodeIndex].builtinCode
             for operator in graph.operators if before in operator.outputs]
    if operators.MAXIMUM in codes:
        return
    after = _append(network, operators.MINIMUM, before, 1.0)
    after = _append(network, operators.MAXIMUM, after, 0.0)
    graph.outputs = [after if index == before else index for index in graph.outputs]
    for entry in entries:
        entry.tensorIndex = after


def _append(network, code: int, tensor: int, limit: float) -> int:
    """Add an operation of `tensor` and the number `limit`; return the index of its result."""
    from ai_edge_litert import schema_py_generated as schema

    graph = network.subgraphs[0]
    shape = graph.tensors[tensor].shape
    operator = schema.OperatorT()
    operator.opcodeIndex = _code_index(network, code)
    operator.inputs = [tensor, _add_tensor(network, f"limit {limit}", [], limit)]
    operator.outputs = [_add_tensor(network, f"{OUTPUTS[0]} {limit}", shape)]
    operator.builtinOptionsType = schema.BuiltinOptions.MaximumMinimumOptions
    operator.builtinOptions = schema.MaximumMinimumOptionsT()
    graph.operators.append(operator)
    return operator.outputs[0]


def _code_index(network, code: int) -> int:
    """Return where `code` stands in the list of operations; it is added if it is not there."""
    from ai_edge_litert import schema_py_generated as schema

    for index, known in enumerate(network.operatorCodes):
        if known.builtinCode == code:
            return index
    added = schema.OperatorCodeT()
    added.builtinCode = added.deprecatedBuiltinCode = code
    added.version = 1
    network.operatorCodes.append(added)
    return len(network.operatorCodes) - 1


def _add_tensor(network, name: str, shape, value: float | None = None) -> int:
    """Add a float32 tensor, a constant if it has a value; return its index."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    if value is not None:
        buffer.data = np.frombuffer(np.float32(value).tobytes(), np.uint8)
    network.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.FLOAT32
    tensor.buffer = len(network.buffers) - 1
    network.subgraphs[0].tensors.append(tensor)
    return len(network.subgraphs[0].tensors) - 1


# The tables of the metadata schema.

def _metadata_bytes(general: dict, anchors_yxhw, classes: int) -> bytes:
    schema = metadata_schema()
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [_image(schema)]
    if anchors_yxhw is None:
        graph.outputTensorMetadata = _outputs(schema)
        group = schema.TensorGroupT()
        group.name, group.tensorNames = "detection_result", ["location", "category", "score"]
        graph.outputTensorGroups = [group]
    else:
        graph.outputTensorMetadata = _raw_outputs(schema)
        graph.customMetadata = [_decoding_metadata(anchors_yxhw, classes)]
    metadata = schema.ModelMetadataT()
    for field, value in general.items():
        setattr(metadata, field, value)
    metadata.minParserVersion = SCHEMA_SINCE
    metadata.subgraphMetadata = [graph]
    metadata.associatedFiles = [
        _file(schema, PROVENANCE, "Where the network comes from.", "UNKNOWN")]
    return packed(metadata, METADATA_IDENTIFIER)


def _image(schema):
    """Return the metadata of the input: RGB 0..255.

    The network normalizes by itself: mean 0 and deviation 1 leave the pixels alone.
    """
    image = schema.TensorMetadataT()
    image.name = "image"
    image.description = "The image, stretched to the input; RGB, raw values 0 to 255."
    properties = schema.ImagePropertiesT()
    properties.colorSpace = schema.ColorSpaceType.RGB
    image.content = _content(schema, "ImageProperties", properties)
    normalization = schema.NormalizationOptionsT()
    normalization.mean, normalization.std = [0.0], [1.0]
    unit = schema.ProcessUnitT()
    unit.optionsType = schema.ProcessUnitOptions.NormalizationOptions
    unit.options = normalization
    image.processUnits = [unit]
    image.stats = schema.StatsT()
    image.stats.min, image.stats.max = [0.0], [255.0]
    return image


def _outputs(schema) -> list:
    tensors = _described(schema, {
        "location": "Boxes as ymin, xmin, ymax, xmax in fractions of the image.",
        "category": "Class ids, which are lines of labels.txt counted from 0.",
        "score": "Scores, 0 to 1.",
        "number of detections": "How many of the slots are filled; the others are undefined.",
    })
    tensors[0].content = _boxes_content(schema)
    for tensor in tensors[:3]:
        # Dimension 2 and up belong to one object: the coordinates of a box, nothing for a class or
        # a score.
        tensor.content.range = schema.ValueRangeT()
        tensor.content.range.min = tensor.content.range.max = 2
    tensors[1].associatedFiles = [_labels_file(schema, "TENSOR_VALUE_LABELS")]
    return tensors


def _raw_outputs(schema) -> list:
    tensors = _described(schema, {
        "location": "Per anchor ty, tx, th, tw: offset of the center in sides of the anchor, "
                    "logarithm of the size in sides of the anchor.",
        "score": "Per anchor and class, before the sigmoid.",
    })
    # They are no edges, but MediaPipe asks for this content in every detector.
    tensors[0].content = _boxes_content(schema)
    tensors[1].associatedFiles = [_labels_file(schema, "TENSOR_AXIS_LABELS")]
    return tensors


def _described(schema, texts: dict[str, str]) -> list:
    """Return the metadata of tensors from their names and what they hold."""
    tensors = []
    for name, text in texts.items():
        tensor = schema.TensorMetadataT()
        tensor.name, tensor.description = name, text
        tensor.content = _content(schema, "FeatureProperties", schema.FeaturePropertiesT())
        tensors.append(tensor)
    return tensors


def _content(schema, kind: str, properties):
    """Return the content of a tensor; `kind` is the name of a table of properties."""
    content = schema.ContentT()
    content.contentPropertiesType = getattr(schema.ContentProperties, kind)
    content.contentProperties = properties
    return content


def _boxes_content(schema):
    """Return the content of a tensor of boxes: edges in fractions of the image."""
    box = schema.BoundingBoxPropertiesT()
    box.index, box.type = list(LOCATION_ORDER), schema.BoundingBoxType.BOUNDARIES
    box.coordinateType = schema.CoordinateType.RATIO
    return _content(schema, "BoundingBoxProperties", box)


def _labels_file(schema, kind: str):
    return _file(schema, LABELS, "Class names by class id.", kind)


def _file(schema, name: str, description: str, kind: str):
    file = schema.AssociatedFileT()
    file.name, file.description = name, description
    file.type = getattr(schema.AssociatedFileType, kind)
    return file


# Anchors, for clients that do the post-processing themselves.

def _decoding_metadata(anchors_yxhw, classes: int):
    """Return the custom metadata of the graph: the anchors, and how outputs become boxes."""
    schema, options = anchors_schema(), anchors_schema().ObjectDetectorOptionsT()
    fixed = schema.FixedAnchorsSchemaT()
    fixed.anchors = [_anchor(schema, *map(float, row)) for row in anchors_yxhw]
    options.ssdAnchorsOptions = schema.SsdAnchorsOptionsT()
    options.ssdAnchorsOptions.fixedAnchorsSchema = fixed
    decoding = schema.TensorsDecodingOptionsT()
    decoding.numClasses, decoding.numBoxes, decoding.numCoords = classes, len(anchors_yxhw), 4
    decoding.keypointCoordOffset = decoding.numKeypoints = 0
    decoding.numValuesPerKeypoint = 2
    decoding.xScale = decoding.yScale = decoding.wScale = decoding.hScale = 1.0
    decoding.applyExponentialOnBoxSize = decoding.sigmoidScore = True
    options.tensorsDecodingOptions = decoding
    entry = metadata_schema().CustomMetadataT()
    entry.name, entry.data = ANCHORS_NAME, packed(options, ANCHORS_IDENTIFIER)
    return entry


def _anchor(schema, y: float, x: float, height: float, width: float):
    anchor = schema.FixedAnchorT()
    anchor.yCenter, anchor.xCenter, anchor.height, anchor.width = y, x, height, width
    return anchor


def read_anchors_yxhw(path: Path) -> np.ndarray | None:
    """Return the anchors in a `.tflite`, float32 [anchors, 4]; None if its metadata has none."""
    metadata, schema = read_tflite(path).metadata, anchors_schema()
    for entry in (metadata.subgraphMetadata[0].customMetadata or []) if metadata else []:
        if entry.name == ANCHORS_NAME:
            table = schema.ObjectDetectorOptions
            found = table.GetRootAsObjectDetectorOptions(bytes(entry.data), 0)
            options = schema.ObjectDetectorOptionsT.InitFromObj(found)
            rows = [(anchor.yCenter, anchor.xCenter, anchor.height, anchor.width)
                    for anchor in options.ssdAnchorsOptions.fixedAnchorsSchema.anchors]
            return np.array(rows, np.float32)
    return None


def read_metadata(path: Path) -> dict:
    """Read the metadata that `with_metadata` wrote.

    Returns:
        `name`, `description`, `author`, `license`, `labels`, `normalization` (`mean`, `std`),
        `outputs` (names) and `provenance`.

    Raises:
        DetectorError: The file is missing, is no `.tflite`, or was made by another tool.
    """
    file = read_tflite(path)
    metadata = file.metadata
    if metadata is None or PROVENANCE not in file.files:
        raise DetectorError(f"file has no metadata of this project: {path}: "
                            "use a .tflite that `invoke tflite` made")
    unit = tensor_metadata(metadata, "input")[0].processUnits[0].options
    general = {key: decoded(getattr(metadata, key))
               for key in ("name", "description", "author", "license")}
    return {
        **general,
        "normalization": {"mean": list(map(float, unit.mean)), "std": list(map(float, unit.std))},
        "outputs": [decoded(tensor.name) for tensor in tensor_metadata(metadata, "output")],
        "labels": parse_labels(file.files.get(LABELS, b"").decode("utf-8")),
        "provenance": json.loads(file.files[PROVENANCE]),
    }

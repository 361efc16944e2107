"""The files that follow the network in a `.tflite`, in an uncompressed zip: labels and provenance.

The network and its metadata end where the zip begins, so the files can be renewed and every other
byte stays.
"""

import io
import json
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.files import sha256_file, write_bytes
from scripts.core.text import DetectorError
from scripts.deploy.schema_tables import (
    FIELD,
    METADATA_IDENTIFIER,
    MODEL_IDENTIFIER,
    anchors_schema,
    boxes_content,
    content,
    decoded,
    described,
    metadata_schema,
    packed,
    read_tflite,
)

PROVENANCE = "provenance.json"


def with_files(network: bytes, files: dict[str, str]) -> bytes:
    """The network followed by an uncompressed zip, which is the only kind that MediaPipe reads."""
    buffer = io.BytesIO(network)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980: the file does not depend on the hour
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode("utf-8"))
    return buffer.getvalue()


def provenance_text(provenance: dict) -> str:
    """The content of `provenance.json`."""
    return json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def split_files(data: bytes) -> tuple[bytes, dict[str, str]]:
    """The network with its metadata, and the files behind it by name; ({} for a `.tflite` without
    any)."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data, {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = min((entry.header_offset for entry in archive.infolist()), default=len(data))
        return data[:start], {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def provenance_of(path: Path) -> dict:
    """What `provenance.json` in a `.tflite` says; {} for any other file, a folder, or when there is
    none."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(PROVENANCE)) if PROVENANCE in archive.namelist() else {}


def with_more_provenance(data: bytes, more: dict) -> bytes:
    """The `.tflite` with `more` in its `provenance.json`; the network, its metadata and the labels
    keep every byte."""
    network, files = split_files(data)
    provenance = json.loads(files.get(PROVENANCE, "{}")) | more
    return with_files(network, files | {PROVENANCE: provenance_text(provenance)})


# Boxes of a `.tflite` end at the image: two operations behind the one that suppresses.

BOXES = "detection_boxes"


def clip_boxes(network) -> None:
    """Let the output `detection_boxes` of `network` (a ModelT of the schema) be cut to 0..1, once.

    Nothing happens to a network without that output in its signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    entries = [entry for signature in network.signatureDefs or [] for entry in signature.outputs
               if entry.name.decode() == BOXES]
    if not entries or _is_clipped(network, entries[0].tensorIndex):
        return
    graph, before = network.subgraphs[0], entries[0].tensorIndex
    operators = schema.BuiltinOperator
    after = _append(network, operators.MINIMUM, before, 1.0)
    after = _append(network, operators.MAXIMUM, after, 0.0)
    graph.outputs = [after if index == before else index for index in graph.outputs]
    for entry in entries:
        entry.tensorIndex = after


def _is_clipped(network, tensor: int) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    makers = [one for one in network.subgraphs[0].operators if tensor in one.outputs]
    return any(network.operatorCodes[one.opcodeIndex].builtinCode == schema.BuiltinOperator.MAXIMUM for one in makers)


def _append(network, code: int, tensor: int, limit: float) -> int:
    """Add an operation of `tensor` and the number `limit`, and return the tensor that it makes."""
    from ai_edge_litert import schema_py_generated as schema

    graph = network.subgraphs[0]
    before = graph.tensors[tensor]
    operator = schema.OperatorT()
    operator.opcodeIndex = _code_index(network, code)
    operator.inputs = [tensor, _tensor(network, f"limit {limit}", [], limit)]
    operator.outputs = [_tensor(network, f"{BOXES} {limit}", before.shape)]
    operator.builtinOptionsType = schema.BuiltinOptions.MaximumMinimumOptions
    operator.builtinOptions = schema.MaximumMinimumOptionsT()
    graph.operators.append(operator)
    return operator.outputs[0]


def _code_index(network, code: int) -> int:
    """Where `code` stands in the list of operations; added when it does not."""
    from ai_edge_litert import schema_py_generated as schema

    for index, known in enumerate(network.operatorCodes):
        if known.builtinCode == code:
            return index
    added = schema.OperatorCodeT()
    added.builtinCode = added.deprecatedBuiltinCode = code
    added.version = 1
    network.operatorCodes.append(added)
    return len(network.operatorCodes) - 1


def _tensor(network, name: str, shape, value: float | None = None) -> int:
    """Add a float32 tensor, a constant if it has a value, and return its index."""
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


# Metadata of a `.tflite` that ends before the post-processing: anchors, and how outputs become
# boxes.

NAME, IDENTIFIER = b"DETECTOR_METADATA", b"V001"


def raw_outputs(schema, labels_file) -> list:
    """Metadata of the two output tensors."""
    texts = {"location": "Per anchor ty, tx, th, tw: offset of the center in sides of the anchor, logarithm of the "
                         "size in sides of the anchor.",
             "score": "Per anchor and class, before the sigmoid."}
    tensors = described(schema, texts)
    tensors[0].content = boxes_content(schema)  # Not what they are, but MediaPipe asks for it in every detector.
    tensors[1].associatedFiles = [labels_file]
    return tensors


def decoding_metadata(anchors_yxhw, classes: int):
    """The custom metadata of the subgraph. `anchors_yxhw`: center and size, 0..1 of the input,
    [anchors, 4]."""
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
    entry.name, entry.data = NAME, packed(options, IDENTIFIER)
    return entry


def read_anchors_yxhw(path: Path):
    """The anchors in a `.tflite`, float32 [anchors, 4]; None if its metadata has none."""
    metadata = read_tflite(path).metadata
    for entry in (metadata.subgraphMetadata[0].customMetadata or []) if metadata else []:
        if entry.name == NAME:
            schema = anchors_schema()
            found = schema.ObjectDetectorOptions.GetRootAsObjectDetectorOptions(bytes(entry.data), 0)
            anchors = schema.ObjectDetectorOptionsT.InitFromObj(found).ssdAnchorsOptions.fixedAnchorsSchema.anchors
            return np.array([[a.yCenter, a.xCenter, a.height, a.width] for a in anchors], np.float32)
    return None


def _anchor(schema, y: float, x: float, height: float, width: float):
    anchor = schema.FixedAnchorT()
    anchor.yCenter, anchor.xCenter, anchor.height, anchor.width = y, x, height, width
    return anchor


# What stands in a `.tflite` beside the network: for MediaPipe, for the app, and where the file
# comes from.

TENSOR_GROUPS_SINCE = "1.2.0"
"""The oldest version of the schema that knows all that we write."""


def with_metadata(
    model: bytes, labels: list[str], *, name: str, description: str, author: str, license: str, provenance: dict,
    anchors_yxhw=None
) -> bytes:
    """The `.tflite` with metadata and labels, its outputs as the contract has them; older metadata
    is replaced.

    `labels` are the class names by class id, `provenance` anything JSON can hold. A model without
    post-processing needs `anchors_yxhw`: center and size in 0..1 of the input, [anchors, 4]. Equal
    input gives equal bytes. ValueError for a model without our outputs in its signature, or a label
    with a line break.
    """
    broken = [label for label in labels if "\n" in label or "\r" in label]
    if broken:
        raise ValueError(f"label {broken[0]!r} has a line break, and labels.txt has one label a line")
    from ai_edge_litert import schema_py_generated as model_schema

    network = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAsModel(bytearray(model), 0))
    _order_outputs(network, OUTPUTS if anchors_yxhw is None else RAW_OUTPUTS)
    clip_boxes(network)
    general = {"name": name, "description": description, "author": author, "license": license}
    _put_buffer(network, _metadata_bytes(general, anchors_yxhw, len(labels)), model_schema)
    finished = packed(network, MODEL_IDENTIFIER)
    return with_files(finished, {LABELS: "\n".join(labels) + "\n", PROVENANCE: provenance_text(provenance)})


def _order_outputs(network, names: tuple[str, ...]) -> None:
    """Put the outputs in the order of `names`: the converter puts `num_detections` first, which
    index readers and MediaPipe would take for the boxes. The signature names tensors, so it stays
    right."""
    for signature in network.signatureDefs or []:
        indices = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
        if set(indices) == set(names):
            network.subgraphs[0].outputs = [indices[name] for name in names]
            return
    raise ValueError(f"model has no signature with the outputs {', '.join(names)}")


def _put_buffer(network, data: bytes, model_schema) -> None:
    """Store `data` as the metadata buffer of the network, in place of an older one."""
    buffer = model_schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    network.metadata = network.metadata or []
    for entry in network.metadata:
        if entry.name == FIELD:
            network.buffers[entry.buffer] = buffer
            return
    entry = model_schema.MetadataT()
    entry.name, entry.buffer = FIELD, len(network.buffers)
    network.buffers.append(buffer)
    network.metadata.append(entry)


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
        labels_file = _file(schema, LABELS, "Class names by class id.", "TENSOR_AXIS_LABELS")
        graph.outputTensorMetadata = raw_outputs(schema, labels_file)
        graph.customMetadata = [decoding_metadata(anchors_yxhw, classes)]
    metadata = schema.ModelMetadataT()
    for field, value in general.items():
        setattr(metadata, field, value)
    metadata.minParserVersion = TENSOR_GROUPS_SINCE
    metadata.subgraphMetadata = [graph]
    metadata.associatedFiles = [_file(schema, PROVENANCE, "Where the network comes from.", "UNKNOWN")]
    return packed(metadata, METADATA_IDENTIFIER)


def _image(schema):
    """The input: RGB 0..255. The network normalizes by itself, so mean 0 and deviation 1 leave the
    pixels alone."""
    image = schema.TensorMetadataT()
    image.name, image.description = "image", "The image, stretched to the input; RGB, raw values 0 to 255."
    properties = schema.ImagePropertiesT()
    properties.colorSpace = schema.ColorSpaceType.RGB
    image.content = content(schema, "ImageProperties", properties)
    normalization = schema.NormalizationOptionsT()
    normalization.mean, normalization.std = [0.0], [1.0]
    unit = schema.ProcessUnitT()
    unit.optionsType, unit.options = schema.ProcessUnitOptions.NormalizationOptions, normalization
    image.processUnits = [unit]
    image.stats = schema.StatsT()
    image.stats.min, image.stats.max = [0.0], [255.0]
    return image


def _outputs(schema) -> list:
    texts = {
        "location": "Boxes as ymin, xmin, ymax, xmax in fractions of the image.",
        "category": "Class ids, which are lines of labels.txt counted from 0.",
        "score": "Scores, 0 to 1.",
        "number of detections": "How many of the slots are filled; the others are undefined.",
    }
    tensors = described(schema, texts)
    tensors[0].content = boxes_content(schema)
    for tensor in tensors[:3]:
        # Dimension 2 and up belong to one object: the coordinates of a box, nothing for a class or
        # a score.
        tensor.content.range = schema.ValueRangeT()
        tensor.content.range.min = tensor.content.range.max = 2
    tensors[1].associatedFiles = [_file(schema, LABELS, "Class names by class id.", "TENSOR_VALUE_LABELS")]
    return tensors


def _file(schema, name: str, description: str, kind: str):
    file = schema.AssociatedFileT()
    file.name, file.description = name, description
    file.type = getattr(schema.AssociatedFileType, kind)
    return file


def read_metadata(path: Path) -> dict:
    """`name`, `description`, `author`, `license`, `labels`, `normalization` (mean, std), `outputs`
    and `provenance`.

    DetectorError when the file is missing, is no `.tflite` or holds no metadata of ours.
    """
    file = read_tflite(path)
    if file.metadata is None or PROVENANCE not in file.files:
        raise DetectorError(f"file has no metadata of ours: {path}: use a .tflite that `invoke tflite` made")
    return {**_described(file.metadata), **_from_files({name: one.decode("utf-8") for name, one in file.files.items()})}


def _described(metadata) -> dict:
    graph = metadata.subgraphMetadata[0]
    unit = graph.inputTensorMetadata[0].processUnits[0].options
    return {
        "name": decoded(metadata.name),
        "description": decoded(metadata.description),
        "author": decoded(metadata.author),
        "license": decoded(metadata.license),
        "normalization": {"mean": [float(x) for x in unit.mean], "std": [float(x) for x in unit.std]},
        "outputs": [decoded(tensor.name) for tensor in graph.outputTensorMetadata],
    }


def _from_files(files: dict[str, str]) -> dict:
    return {
        "labels": parse_labels(files.get(LABELS, "")),
        "provenance": json.loads(files.get(PROVENANCE, "{}")),
    }


# Whose file it is and how to use it: what `pyproject.toml` says, and from which score detections
# are worth showing.

PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class About:
    """Name, author and license of the project, "" for what is not said."""

    name: str = ""
    author: str = ""
    license: str = ""


def read_about(root: Path) -> About:
    """What the table `[project]` of `pyproject.toml` says; nothing without that file.

    The form is that of https://packaging.python.org/en/latest/specifications/pyproject-toml/:
    several authors are joined by commas, a `license` is a text, or a table with `text` or `file`.
    DetectorError for broken TOML.
    """
    path = root / PYPROJECT
    if not path.is_file():
        return About()
    try:
        project = tomllib.loads(path.read_text("utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DetectorError(f"bad TOML, {error}: {PYPROJECT}: correct that line") from None
    authors = [one.get("name") or one.get("email", "") for one in project.get("authors", [])]
    license = project.get("license", "")
    if isinstance(license, dict):
        license = license.get("text") or license.get("file", "")
    return About(project.get("name", ""), ", ".join(filter(None, authors)), license)


def description(model_id: str, variant: str, advice) -> str:
    """The description in the metadata: what it is, and from which score (`Advice` or None)
    detections are worth it."""
    text = f"Object detector {model_id} ({variant})."
    return text if advice is None else f"{text} Show detections from a score of {advice.score_threshold:.2f} on."


def advised(advice) -> dict:
    """An `Advice` as it stands in `tflite/metrics.json` and in the provenance of a file; None gives
    null."""
    if advice is None:
        return {"advised_score_threshold": None, "at_advised_threshold": None}
    return {"advised_score_threshold": advice.score_threshold, "at_advised_threshold": advice.as_dict()}


def note_scores(root: Path, rows: dict[str, dict], checkpoint_ap: float | None) -> None:
    """Write AP of the checkpoint and of every variant into the provenance of each file, and its new
    hash into its row.

    `rows` are those of `tflite/metrics.json`. Only `provenance.json` changes, which follows the
    network: what was scored is what ships.
    """
    scores = {"split": "test", "checkpoint": checkpoint_ap} | {name: row["AP"] for name, row in rows.items()}
    for row in rows.values():
        path = root / row["file"]
        write_bytes(path, with_more_provenance(path.read_bytes(), {"AP": scores}))
        row["sha256"], row["bytes"] = sha256_file(path), path.stat().st_size


OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
"""Names of the outputs in the signature, in the order of their indices."""


RAW_OUTPUTS = ("raw_boxes", "raw_logits")
"""The same of a file that ends before the post-processing."""


LABELS = "labels.txt"



def parse_labels(text: str) -> list[str]:
    """Class names of a `labels.txt`, line by line; only a line feed ends a line, and the last may
    lack it."""
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n") if text.strip() else []

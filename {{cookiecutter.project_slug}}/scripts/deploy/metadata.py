"""What stands in a `.tflite` beside the network: for MediaPipe, for the app, and where the file comes from.

MediaPipe's own writer does not import from its 1.2 wheel and stamps the hour into the file; the schema it writes is
in the wheel, and is used here. `labels.txt` and `provenance.json` follow the network as an uncompressed zip.
"""

import functools
import importlib.util
import io
import json
import zipfile
from pathlib import Path

from scripts.deploy.borders import clip_boxes
from scripts.deploy.reader import LABELS, OUTPUTS, label_lines
from scripts.pipeline.errors import DetectorError

FIELD, MODEL_IDENTIFIER, METADATA_IDENTIFIER = b"TFLITE_METADATA", b"TFL3", b"M001"
PROVENANCE = "provenance.json"
TENSOR_GROUPS_SINCE = "1.2.0"
"""The oldest version of the schema that knows all that we write."""

LOCATION_ORDER = (1, 0, 3, 2)
"""Where left, top, right and bottom stand in a row of the boxes tensor, which is ymin, xmin, ymax, xmax."""


@functools.cache
def _schema():
    """The metadata schema of MediaPipe, loaded from its file: importing the package would start its native library."""
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise DetectorError(
            "mediapipe is not installed: requirements.txt: run `pip install --no-deps -r requirements.txt`"
        )
    path = Path(package.submodule_search_locations[0]) / "tasks/metadata/metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("tflite_metadata_schema", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_metadata(
    model: bytes, labels: list[str], *, name: str, description: str, author: str, licence: str, provenance: dict
) -> bytes:
    """The `.tflite` with metadata and labels, its outputs as the contract has them; older metadata is replaced.

    `labels` are the class names by class id, `provenance` anything JSON can hold. Equal input gives equal bytes.
    ValueError for a model without our four outputs in its signature, or a label with a line break.
    """
    broken = [label for label in labels if "\n" in label or "\r" in label]
    if broken:
        raise ValueError(f"label {broken[0]!r} has a line break, and labels.txt has one label a line")
    from ai_edge_litert import schema_py_generated as model_schema

    network = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAsModel(bytearray(model), 0))
    _order_outputs(network)
    clip_boxes(network)
    general = {"name": name, "description": description, "author": author, "license": licence}
    _put_buffer(network, _metadata_bytes(general), model_schema)
    packed = _packed(network, MODEL_IDENTIFIER)
    text = json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return _with_files(packed, {LABELS: "\n".join(labels) + "\n", PROVENANCE: text})


def _order_outputs(network) -> None:
    """Put the outputs in the order of OUTPUTS: the converter puts `num_detections` first, which index readers and
    MediaPipe would take for the boxes. The signature names tensors, so it stays right."""
    for signature in network.signatureDefs or []:
        indices = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
        if set(indices) == set(OUTPUTS):
            network.subgraphs[0].outputs = [indices[name] for name in OUTPUTS]
            return
    raise ValueError(f"model has no signature with the outputs {', '.join(OUTPUTS)}")


def _packed(table, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def _put_buffer(network, data: bytes, model_schema) -> None:
    """Store `data` as the metadata buffer of the network, in place of an older one."""
    import numpy as np

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


def _metadata_bytes(general: dict) -> bytes:
    schema = _schema()
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [_image(schema)]
    graph.outputTensorMetadata = _outputs(schema)
    group = schema.TensorGroupT()
    group.name, group.tensorNames = "detection_result", ["location", "category", "score"]
    graph.outputTensorGroups = [group]
    metadata = schema.ModelMetadataT()
    for field, value in general.items():
        setattr(metadata, field, value)
    metadata.minParserVersion = TENSOR_GROUPS_SINCE
    metadata.subgraphMetadata = [graph]
    metadata.associatedFiles = [_file(schema, PROVENANCE, "Where the network comes from.", "UNKNOWN")]
    return _packed(metadata, METADATA_IDENTIFIER)


def _image(schema):
    """The input: RGB 0..255. The network normalises by itself, so mean 0 and deviation 1 leave the pixels alone."""
    image = schema.TensorMetadataT()
    image.name, image.description = "image", "The picture, stretched to the input; RGB, raw values 0 to 255."
    properties = schema.ImagePropertiesT()
    properties.colorSpace = schema.ColorSpaceType.RGB
    image.content = _content(schema, "ImageProperties", properties)
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
        "location": "Boxes as ymin, xmin, ymax, xmax in fractions of the picture.",
        "category": "Class ids, which are lines of labels.txt counted from 0.",
        "score": "Scores, 0 to 1.",
        "number of detections": "How many of the slots are filled; the others are undefined.",
    }
    tensors = []
    for name, text in texts.items():
        tensor = schema.TensorMetadataT()
        tensor.name, tensor.description = name, text
        tensor.content = _content(schema, "FeatureProperties", schema.FeaturePropertiesT())
        tensors.append(tensor)
    box = schema.BoundingBoxPropertiesT()
    box.index, box.type = list(LOCATION_ORDER), schema.BoundingBoxType.BOUNDARIES
    box.coordinateType = schema.CoordinateType.RATIO
    tensors[0].content = _content(schema, "BoundingBoxProperties", box)
    for tensor in tensors[:3]:
        # Dimension 2 and up belong to one object: the coordinates of a box, nothing for a class or a score.
        tensor.content.range = schema.ValueRangeT()
        tensor.content.range.min = tensor.content.range.max = 2
    tensors[1].associatedFiles = [_file(schema, LABELS, "Class names by class id.", "TENSOR_VALUE_LABELS")]
    return tensors


def _content(schema, kind: str, properties):
    content = schema.ContentT()
    content.contentPropertiesType = getattr(schema.ContentProperties, kind)
    content.contentProperties = properties
    return content


def _file(schema, name: str, description: str, kind: str):
    file = schema.AssociatedFileT()
    file.name, file.description = name, description
    file.type = getattr(schema.AssociatedFileType, kind)
    return file


def _with_files(model: bytes, files: dict[str, str]) -> bytes:
    """The model followed by an uncompressed zip, which is the only kind that MediaPipe reads."""
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980: the file does not depend on the hour
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode("utf-8"))
    return buffer.getvalue()


def read_metadata(path: Path) -> dict:
    """`name`, `description`, `author`, `licence`, `labels`, `normalization` (mean, std), `outputs` and `provenance`.

    DetectorError when the file is missing, is no `.tflite` or holds no metadata of ours.
    """
    from ai_edge_litert import schema_py_generated as model_schema

    advice = "use a .tflite that `invoke tflite` made"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DetectorError(f"cannot be opened ({error.strerror}): {path}: run `invoke tflite`") from None
    if data[4:8] != MODEL_IDENTIFIER:
        raise DetectorError(f"not a .tflite file: {path}: {advice}")
    network = model_schema.Model.GetRootAsModel(data, 0)
    entries = [network.Metadata(index) for index in range(network.MetadataLength())]
    found = [entry for entry in entries if entry.Name() == FIELD]
    if not found or not zipfile.is_zipfile(io.BytesIO(data)):
        raise DetectorError(f"file has no metadata: {path}: {advice}")
    packed = network.Buffers(found[0].Buffer()).DataAsNumpy().tobytes()
    schema = _schema()
    metadata = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(packed, 0))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
    return {**_described(metadata), **_from_files(files)}


def _described(metadata) -> dict:
    graph = metadata.subgraphMetadata[0]
    unit = graph.inputTensorMetadata[0].processUnits[0].options
    return {
        "name": _text(metadata.name),
        "description": _text(metadata.description),
        "author": _text(metadata.author),
        "licence": _text(metadata.license),
        "normalization": {"mean": [float(x) for x in unit.mean], "std": [float(x) for x in unit.std]},
        "outputs": [_text(tensor.name) for tensor in graph.outputTensorMetadata],
    }


def _from_files(files: dict[str, str]) -> dict:
    return {
        "labels": label_lines(files.get(LABELS, "")),
        "provenance": json.loads(files.get(PROVENANCE, "{}")),
    }


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8")

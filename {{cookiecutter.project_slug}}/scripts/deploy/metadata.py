"""What stands in a `.tflite` beside the network: for MediaPipe, for the app, and where the file comes from.

MediaPipe's own writer does not import from its 1.2 wheel and stamps the hour into the file; the schema it writes is
in the wheel, and is used here. `labels.txt` and `provenance.json` follow the network as an uncompressed zip.
"""

import json
from pathlib import Path

from scripts.deploy.borders import clip_boxes
from scripts.deploy.metadata_schema import (
    FIELD,
    METADATA_IDENTIFIER,
    MODEL_IDENTIFIER,
    boxes_content,
    content,
    described,
    metadata_schema,
    packed,
)
from scripts.deploy.packed_files import PROVENANCE, provenance_text, with_files
from scripts.deploy.raw_metadata import decoding_metadata, raw_outputs
from scripts.deploy.reader import LABELS, OUTPUTS, RAW_OUTPUTS, label_lines
from scripts.deploy.tflite_file import decoded, read_tflite
from scripts.pipeline.errors import DetectorError

TENSOR_GROUPS_SINCE = "1.2.0"
"""The oldest version of the schema that knows all that we write."""


def with_metadata(
    model: bytes, labels: list[str], *, name: str, description: str, author: str, licence: str, provenance: dict,
    anchors_yxhw=None
) -> bytes:
    """The `.tflite` with metadata and labels, its outputs as the contract has them; older metadata is replaced.

    `labels` are the class names by class id, `provenance` anything JSON can hold. A model without post-processing needs
    `anchors_yxhw`: centre and size in 0..1 of the input, [anchors, 4]. Equal input gives equal bytes. ValueError for a
    model without our outputs in its signature, or a label with a line break.
    """
    broken = [label for label in labels if "\n" in label or "\r" in label]
    if broken:
        raise ValueError(f"label {broken[0]!r} has a line break, and labels.txt has one label a line")
    from ai_edge_litert import schema_py_generated as model_schema

    network = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAsModel(bytearray(model), 0))
    _order_outputs(network, OUTPUTS if anchors_yxhw is None else RAW_OUTPUTS)
    clip_boxes(network)
    general = {"name": name, "description": description, "author": author, "license": licence}
    _put_buffer(network, _metadata_bytes(general, anchors_yxhw, len(labels)), model_schema)
    finished = packed(network, MODEL_IDENTIFIER)
    return with_files(finished, {LABELS: "\n".join(labels) + "\n", PROVENANCE: provenance_text(provenance)})


def _order_outputs(network, names: tuple[str, ...]) -> None:
    """Put the outputs in the order of `names`: the converter puts `num_detections` first, which index readers and
    MediaPipe would take for the boxes. The signature names tensors, so it stays right."""
    for signature in network.signatureDefs or []:
        indices = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
        if set(indices) == set(names):
            network.subgraphs[0].outputs = [indices[name] for name in names]
            return
    raise ValueError(f"model has no signature with the outputs {', '.join(names)}")


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
    """The input: RGB 0..255. The network normalises by itself, so mean 0 and deviation 1 leave the pixels alone."""
    image = schema.TensorMetadataT()
    image.name, image.description = "image", "The picture, stretched to the input; RGB, raw values 0 to 255."
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
        "location": "Boxes as ymin, xmin, ymax, xmax in fractions of the picture.",
        "category": "Class ids, which are lines of labels.txt counted from 0.",
        "score": "Scores, 0 to 1.",
        "number of detections": "How many of the slots are filled; the others are undefined.",
    }
    tensors = described(schema, texts)
    tensors[0].content = boxes_content(schema)
    for tensor in tensors[:3]:
        # Dimension 2 and up belong to one object: the coordinates of a box, nothing for a class or a score.
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
    """`name`, `description`, `author`, `licence`, `labels`, `normalization` (mean, std), `outputs` and `provenance`.

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
        "licence": decoded(metadata.license),
        "normalization": {"mean": [float(x) for x in unit.mean], "std": [float(x) for x in unit.std]},
        "outputs": [decoded(tensor.name) for tensor in graph.outputTensorMetadata],
    }


def _from_files(files: dict[str, str]) -> dict:
    return {
        "labels": label_lines(files.get(LABELS, "")),
        "provenance": json.loads(files.get(PROVENANCE, "{}")),
    }

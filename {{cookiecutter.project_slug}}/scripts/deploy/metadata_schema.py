"""The flatbuffer schemas of a `.tflite` and its metadata, and how tables become bytes.

MediaPipe's schemas are loaded from the files in its wheel: importing the package would start its native library.
"""

import functools
import importlib.util
from pathlib import Path

from scripts.pipeline.errors import DetectorError

FIELD, MODEL_IDENTIFIER, METADATA_IDENTIFIER = b"TFLITE_METADATA", b"TFL3", b"M001"

LOCATION_ORDER = (1, 0, 3, 2)
"""Where left, top, right and bottom stand in a row of the boxes tensor, which is ymin, xmin, ymax, xmax."""


@functools.cache
def metadata_schema():
    """MediaPipe's schema of the metadata."""
    return _mediapipe("metadata_schema_py_generated")


@functools.cache
def anchors_schema():
    """MediaPipe's schema of anchors and of the decoding of boxes."""
    return _mediapipe("object_detector_metadata_schema_py_generated")


def _mediapipe(name: str):
    package = importlib.util.find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        raise DetectorError(
            "mediapipe is not installed: requirements.txt: run `pip install --no-deps -r requirements.txt`"
        )
    path = Path(package.submodule_search_locations[0]) / f"tasks/metadata/{name}.py"
    spec = importlib.util.spec_from_file_location(f"detector_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(table, identifier: bytes) -> bytes:
    """A table of the object interface as a flatbuffer file."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def content(schema, kind: str, properties):
    """What a tensor holds: `kind` is the name of a table of properties."""
    table = schema.ContentT()
    table.contentPropertiesType = getattr(schema.ContentProperties, kind)
    table.contentProperties = properties
    return table


def boxes_content(schema):
    """The content of a tensor of boxes: edges as fractions of the picture."""
    box = schema.BoundingBoxPropertiesT()
    box.index, box.type = list(LOCATION_ORDER), schema.BoundingBoxType.BOUNDARIES
    box.coordinateType = schema.CoordinateType.RATIO
    return content(schema, "BoundingBoxProperties", box)


def described(schema, texts: dict[str, str]) -> list:
    """Metadata of tensors: their names and what they hold."""
    tensors = []
    for name, text in texts.items():
        tensor = schema.TensorMetadataT()
        tensor.name, tensor.description = name, text
        tensor.content = content(schema, "FeatureProperties", schema.FeaturePropertiesT())
        tensors.append(tensor)
    return tensors

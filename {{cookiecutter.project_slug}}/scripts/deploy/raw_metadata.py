"""Metadata of a `.tflite` that ends before the post-processing: anchors, and how outputs become boxes.

It is MediaPipe's `DETECTOR_METADATA`, so that MediaPipe Tasks reads such a file too. What it has no field for
(suppression, threshold, number of detections) stands in `provenance.json`, under `decoding`.
"""

from pathlib import Path

from scripts.deploy.metadata_schema import anchors_schema, boxes_content, described, metadata_schema, packed
from scripts.deploy.tflite_file import read_tflite

NAME, IDENTIFIER = b"DETECTOR_METADATA", b"V001"


def raw_outputs(schema, labels_file) -> list:
    """Metadata of the two output tensors."""
    texts = {"location": "Per anchor ty, tx, th, tw: offset of the centre in sides of the anchor, logarithm of the "
                         "size in sides of the anchor.",
             "score": "Per anchor and class, before the sigmoid."}
    tensors = described(schema, texts)
    tensors[0].content = boxes_content(schema)  # Not what they are, but MediaPipe asks for it in every detector.
    tensors[1].associatedFiles = [labels_file]
    return tensors


def decoding_metadata(anchors_yxhw, classes: int):
    """The custom metadata of the subgraph. `anchors_yxhw`: centre and size, 0..1 of the input, [anchors, 4]."""
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
    import numpy as np

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

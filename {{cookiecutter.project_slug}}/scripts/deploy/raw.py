"""What follows a network without post-processing: boxes from anchors, scores, suppression.

The rule is that of the other files, `TFLite_Detection_PostProcess` with `use_regular_nms` false: each anchor stands for
its best class, and a box is dropped when it overlaps a better one of any class.
"""

from pathlib import Path

from scripts.deploy.packed_files import provenance_of
from scripts.deploy.raw_metadata import read_anchors_yxhw
from scripts.evaluation.detections import Detections
from scripts.pipeline.errors import DetectorError


class RawDecoder:
    """Detections from the values of the outputs `raw_boxes` and `raw_logits` of a `.tflite` file.

    `boxes` and `logits` are the details of these outputs as LiteRT gives them: quantised values are turned into
    numbers by their scale and zero point. Anchors, suppression and threshold are those in the file's metadata;
    DetectorError if it has none.
    """

    def __init__(self, path: Path, boxes: dict, logits: dict):
        self._quantizations = [output["quantization"] for output in (boxes, logits)]
        self._anchors = read_anchors_yxhw(path)
        self._decoding = provenance_of(path).get("decoding")
        if self._anchors is None or self._decoding is None:
            raise DetectorError(f"file without post-processing has no anchors in its metadata: {path}: use a .tflite "
                                "that `invoke tflite` made")

    def __call__(self, raw_boxes, raw_logits) -> Detections:
        """`raw_boxes` [1, anchors, 4] (ty, tx, th, tw), `raw_logits` [1, anchors, classes], quantised or float."""
        import numpy as np

        encoded, logits = (_numbers(values[0], *quantization) for values, quantization in
                           zip((raw_boxes, raw_logits), self._quantizations, strict=True))
        centres = self._anchors[:, :2] + encoded[:, :2] * self._anchors[:, 2:]
        halves = np.exp(encoded[:, 2:]) * self._anchors[:, 2:] / 2
        boxes = np.concatenate([centres - halves, centres + halves], 1)
        scores = 1 / (1 + np.exp(-logits.max(1)))
        kept = self._suppressed(boxes, scores)
        return Detections(np.clip(boxes[kept], 0, 1).astype(np.float32), logits.argmax(1)[kept],
                          scores[kept].astype(np.float32))

    def _suppressed(self, boxes, scores):
        """Positions of the detections, best first."""
        import cv2
        import numpy as np

        xywh = np.concatenate([boxes[:, 1::-1], (boxes[:, 2:] - boxes[:, :2])[:, ::-1]], 1).astype(np.float64)
        kept = cv2.dnn.NMSBoxes(xywh, scores.astype(np.float32), self._decoding["score_threshold"],
                                self._decoding["suppression_iou"])
        return np.asarray(kept, int).ravel()[: self._decoding["max_detections"]]


def _numbers(values, scale: float, zero_point: int):
    """Quantised values as float32; those that are float already stay (their scale is 0)."""
    import numpy as np

    return (values.astype(np.float32) - zero_point) * scale if scale else values.astype(np.float32)

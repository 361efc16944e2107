"""What a detector found in one picture, and the same in COCO form."""

from dataclasses import dataclass
from typing import Any

from scripts.pipeline.errors import DetectorError

EDGE_DECIMALS = 3
"""A thousandth of a pixel: far below what moves an IoU, and the files stay readable."""


@dataclass(frozen=True)
class Detections:
    """Detections of one picture, best first.

    `yxyx_norm`: float32 [n, 4], edges as fractions 0..1 of the stored picture (a box may reach over the border);
    `class_ids`: int [n], label map id - 1, which is the line of `labels.txt` counted from 0;
    `scores`: float32 [n], 0..1.
    """

    yxyx_norm: Any
    class_ids: Any
    scores: Any

    def __len__(self) -> int:
        return len(self.scores)


def coco_detections(image_id: int, width_px: int, height_px: int, detections: Detections) -> list[dict]:
    """The detections as COCO results: `category_id` is the label map id, `bbox` x, y, width, height in pixels.

    Boxes are clipped to the picture. A score is the shortest decimal number that gives the same float32 back, so
    no rank and no tie changes. DetectorError when a box or a score is not a finite number.
    """
    import numpy as np

    xyxy_px = clipped_xyxy_px(detections.yxyx_norm, width_px, height_px)
    scores = np.asarray(detections.scores, np.float32)
    if not (np.isfinite(xyxy_px).all() and np.isfinite(scores).all()):
        raise DetectorError(
            f"the detector gave boxes or scores that are no numbers: picture {image_id}: "
            "lower train.learning_rate, then `invoke forget train`, `invoke train`"
        )
    rows = []
    for class_id, score, (xmin, ymin, xmax, ymax) in zip(detections.class_ids, scores, xyxy_px, strict=True):
        bbox = [round(float(value), EDGE_DECIMALS) for value in (xmin, ymin, xmax - xmin, ymax - ymin)]
        rows.append({"image_id": image_id, "category_id": int(class_id) + 1, "bbox": bbox, "score": short(score)})
    return rows


def clipped_xyxy_px(yxyx_norm, width_px: int, height_px: int):
    """Edges `ymin, xmin, ymax, xmax` 0..1 [n, 4] as `xmin, ymin, xmax, ymax` in pixels inside the picture, float64."""
    import numpy as np

    edges = np.asarray(yxyx_norm, np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
    edges = np.clip(edges, 0.0, 1.0) * [width_px, height_px, width_px, height_px]
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2])  # an inverted box has no area, not a negative one
    return edges


def short(score) -> float:
    """A float32 as the float whose printed form is the shortest that gives the same float32 back."""
    return float(str(score))

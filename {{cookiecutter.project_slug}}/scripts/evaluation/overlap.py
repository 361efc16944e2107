"""Overlap of boxes given by their edges."""

import numpy as np


def ious(ones_xyxy, others_xyxy, crowds=None) -> np.ndarray:
    """IoU 0..1, float [n, m], of boxes [n, 4] with boxes [m, 4], both xmin, ymin, xmax, ymax in pixels.

    With a crowd (`crowds` [m], true or not) it is the share of the box inside it, as in COCO.
    """
    from pycocotools.mask import iou

    # pycocotools reads the memory as it lies: an array that holds columns first would be other boxes.
    sides = [np.ascontiguousarray(_xywh(boxes)) for boxes in (ones_xyxy, others_xyxy)]
    if not len(sides[0]) or not len(sides[1]):
        return np.zeros((len(sides[0]), len(sides[1])))
    return iou(*sides, [0] * len(sides[1]) if crowds is None else [int(crowd) for crowd in crowds])


def _xywh(boxes) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])

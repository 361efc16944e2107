"""Do two detectors say the same of the same images?"""

import numpy as np


def iou(one, other) -> float:
    """Overlap of two boxes yxyx."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = np.prod(np.clip(sides, 0, None))
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common
    return float(common / union) if union > 0 else float(np.allclose(one, other))


def same_share(ours, theirs, score_tolerance: float, least_iou: float = 0.9) -> float:
    """Share of detections that both have, of those of the one that has more; each is taken once.

    The same: class, IoU of the boxes above `least_iou`, scores within the tolerance.
    """
    free = list(zip(theirs.yxyx_norm.clip(0, 1), theirs.class_ids, theirs.scores, strict=True))
    hits = 0
    for box, class_id, score in zip(
        ours.yxyx_norm.clip(0, 1), ours.class_ids, ours.scores, strict=True):
        found = [index for index, (other, number, level) in enumerate(free)
                 if class_id == number and abs(score - level) <= score_tolerance
                 and iou(box, other) > least_iou]
        if found:
            hits += 1
            free.pop(found[0])
    return hits / max(len(ours), len(theirs), 1)

"""Do two detectors say the same of the same images?"""

import numpy as np
import pytest


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


# MediaPipe Tasks' ObjectDetector as tests use it.


PACKAGES = "libegl1 libgles2"


def mediapipe_detector(path, threshold: float = 0.3):
    """A detector, to be closed after use; a second one takes as long to make as a hundred images.

    Skips the test, and names what to install, where the system libraries of MediaPipe are missing.
    """
    try:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.ObjectDetectorOptions(
            BaseOptions(model_asset_path=str(path)), score_threshold=threshold)
        return vision.ObjectDetector.create_from_options(options)
    except OSError as error:
        if "libEGL" in str(error) or "libGLES" in str(error):
            pytest.skip(f"MediaPipe does not start ({error}): apt-get install -y {PACKAGES}")
        raise


def rows_of(detector, rgb) -> list[tuple[str, float, tuple[int, int, int, int]]]:
    """Label, score and box (ymin, xmin, ymax, xmax in pixels) of all that it finds in an image,
    best first."""
    import mediapipe as mp

    # MediaPipe reads memory in order: a view that numpy turned or cut would be seen scrambled,
    # without a word.
    image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
    rows = []
    for one in detector.detect(image).detections:
        box = one.bounding_box
        edges = (box.origin_y, box.origin_x, box.origin_y + box.height, box.origin_x + box.width)
        rows.append((one.categories[0].category_name, one.categories[0].score, edges))
    return rows


def mediapipe_detections(
    path, rgb, threshold: float = 0.3) -> list[tuple[str, float, tuple[int, int, int, int]]]:
    """`rows_of` one image."""
    with mediapipe_detector(path, threshold) as detector:
        return rows_of(detector, rgb)

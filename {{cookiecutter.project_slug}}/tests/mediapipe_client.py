"""MediaPipe Tasks' ObjectDetector as tests use it."""

import pytest

PACKAGES = "libegl1 libgles2"


def mediapipe_detections(path, rgb, threshold=0.3) -> list[tuple[str, float, tuple[int, int, int, int]]]:
    """Label, score and box (ymin, xmin, ymax, xmax in pixels) of all that MediaPipe finds, best first.

    Skips the test, and names what to install, where the system libraries of MediaPipe are missing.
    """
    try:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.ObjectDetectorOptions(BaseOptions(model_asset_path=str(path)), score_threshold=threshold)
        detector = vision.ObjectDetector.create_from_options(options)
    except OSError as error:
        if "libEGL" in str(error) or "libGLES" in str(error):
            pytest.skip(f"MediaPipe does not start ({error}): apt-get install -y {PACKAGES}")
        raise
    with detector:
        found = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)).detections
    rows = []
    for one in found:
        box = one.bounding_box
        edges = (box.origin_y, box.origin_x, box.origin_y + box.height, box.origin_x + box.width)
        rows.append((one.categories[0].category_name, one.categories[0].score, edges))
    return rows

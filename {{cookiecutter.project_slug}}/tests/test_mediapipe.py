"""MediaPipe Tasks' ObjectDetector beside our reader: the same boxes, as far as its resize and whole
pixels allow."""

import numpy as np
import pytest
from mediapipe_client import mediapipe_detector, rows_of
from tiny_tflite import CELLS, COLORS, LABELS, SIDE_PX, image, tiny_tflite

pytestmark = pytest.mark.slow
IMAGES, CERTAIN = 12, 0.45


@pytest.fixture(scope="module", params=["float32", "int8"])
def path(request, tmp_path_factory):
    """The tiny detector as it would be shipped."""
    from scripts.deploy.metadata import with_metadata

    about = {"name": "n", "description": "d", "author": "a", "license": "l"}
    file = tmp_path_factory.mktemp("shipped") / "detector.tflite"
    file.write_bytes(
        with_metadata(tiny_tflite(request.param), list(LABELS), **about, provenance={}))
    return file


def scene(seed: int, size_px: tuple[int, int]):
    """Colored cells at random places inside the border, the colors a little dull, in an image of
    (height, width)."""
    dice = np.random.default_rng(seed)
    places = [(row, column) for row in range(1, CELLS - 1) for column in range(1, CELLS - 1)]
    chosen = dice.permutation(len(places))[: dice.integers(1, 4)]
    cells = {places[index]: int(dice.integers(len(COLORS))) for index in chosen}
    rows, columns = (np.arange(side) * SIDE_PX // side for side in size_px)
    return image(cells, dim=float(dice.uniform(0.85, 1.0)))[rows][:, columns]


def whole_pixels(yxyx_px):
    """Boxes [n, 4] as MediaPipe gives them: it cuts the fraction off the corner, and off height and
    width."""
    corners = np.floor(yxyx_px[:, :2])
    return np.concatenate([corners, corners + np.floor(yxyx_px[:, 2:] - yxyx_px[:, :2])], 1)


def compared(path, images, resize=None):
    """Differences of all boxes: pixels [n, 4] as ymin, xmin, ymax, xmax, and scores [n]; `resize`
    goes before ours."""
    from scripts.deploy.reader import TfliteDetector

    ours, edges, scores = TfliteDetector(path), [], []
    with mediapipe_detector(path) as detector:
        for rgb in images:
            found, theirs = ours.detect(resize(rgb) if resize else rgb), rows_of(detector, rgb)
            boxes = whole_pixels(found.yxyx_norm * np.tile(rgb.shape[:2], 2))
            mine = [(LABELS[one], float(score), box)
                    for one, score, box in zip(found.class_ids, found.scores, boxes, strict=True)]
            # What scores near the threshold of the file may be found by one of them only.
            for some, all_others in ((mine, theirs), (theirs, mine)):
                for label, score, box in (one for one in some if one[1] > CERTAIN):
                    same = [(other, other_box) for name, other, other_box in all_others
                            if name == label]
                    assert same, f"{label} with {score:.2f} is found by one of them only"
                    other, nearest = min(
                        same, key=lambda pair: np.abs(np.subtract(pair[1], box)).max())
                    edges.append(np.subtract(nearest, box))
                    scores.append(other - score)
    assert len(scores) > IMAGES, "a detector that finds nothing proves nothing"
    return np.abs(edges), np.abs(scores)


def blurred(size_px: tuple[int, int]) -> list:
    """Scenes whose colors run into the black around them, so that it matters where a resize looks.
    """
    import cv2

    return [
        cv2.GaussianBlur(scene(seed, size_px), (0, 0), max(size_px) / 30) for seed in range(IMAGES)]


def warped(rgb):
    """MediaPipe's resize on a CPU: OpenCV's warpPerspective, corner to corner, without half-pixel
    centers."""
    import cv2

    corners = np.float32([[0, 1], [0, 0], [1, 0], [1, 1]])
    matrix = cv2.getPerspectiveTransform(
        corners * np.float32(rgb.shape[1::-1]), corners * np.float32(SIDE_PX))
    return cv2.warpPerspective(rgb, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("size_px", [(32, 32), (320, 320), (480, 200), (200, 480), (48, 40)])
def test_mediapipe_finds_the_same_boxes(path, size_px):
    """Stretched to the input in the same way, colors and classes the same; a rounding may tip over
    by one pixel."""
    edges, scores = compared(path, [scene(seed, size_px) for seed in range(IMAGES)])
    assert edges.max() <= 1 and scores.max() < 0.001


def test_where_colors_run_mediapipe_differs_by_its_resize_alone(path):
    """It has no half-pixel centers: what it sees of an image ten times the input lies up to 4.5
    pixels further on."""
    images = blurred((320, 320))
    edges, scores = compared(path, images, warped)
    assert edges.max() <= 1 and scores.max() < 0.001
    edges, scores = compared(path, images)
    assert edges.max() <= 1 + 4.5 and 0.001 < scores.max() < 0.25

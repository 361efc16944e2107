"""MediaPipe Tasks' ObjectDetector beside our reader: the same boxes, as far as its resize and whole pixels allow."""

import numpy as np
import pytest
from mediapipe_client import mediapipe_detections
from tiny_tflite import CELLS, COLOURS, LABELS, SIDE_PX, picture, tiny_tflite

pytestmark = pytest.mark.slow
PICTURES = 12


@pytest.fixture(scope="module", params=["float32", "int8"])
def path(request, tmp_path_factory):
    """The tiny detector as it would be shipped."""
    from scripts.deploy.metadata import with_metadata

    about = {"name": "n", "description": "d", "author": "a", "licence": "l"}
    file = tmp_path_factory.mktemp("shipped") / "detector.tflite"
    file.write_bytes(with_metadata(tiny_tflite(request.param), list(LABELS), **about, provenance={}))
    return file


def scene(seed: int, size_px: tuple[int, int]):
    """Coloured cells at random places inside the border, the colours a little dull, in a picture of (height, width)."""
    dice = np.random.default_rng(seed)
    places = [(row, column) for row in range(1, CELLS - 1) for column in range(1, CELLS - 1)]
    chosen = dice.permutation(len(places))[: dice.integers(1, 4)]
    cells = {places[index]: int(dice.integers(len(COLOURS))) for index in chosen}
    rows, columns = (np.arange(side) * SIDE_PX // side for side in size_px)
    return picture(cells, dim=float(dice.uniform(0.85, 1.0)))[rows][:, columns]


def compared(path, size_px):
    """Differences of all boxes over the pictures: pixels [n, 4] as ymin, xmin, ymax, xmax, and scores [n]."""
    from scripts.deploy.reader import TfliteDetector

    detector, edges, scores = TfliteDetector(path), [], []
    for seed in range(PICTURES):
        rgb = scene(seed, size_px)
        ours, theirs = detector.detect(rgb), mediapipe_detections(path, rgb)
        boxes = ours.yxyx_norm * [*size_px, *size_px]
        assert sorted(LABELS[one] for one in ours.class_ids) == sorted(label for label, _, _ in theirs)
        for box, class_id, score in zip(boxes, ours.class_ids, ours.scores, strict=True):
            same = [(other, other_box) for label, other, other_box in theirs if label == LABELS[class_id]]
            other, nearest = min(same, key=lambda pair: np.abs(np.subtract(pair[1], box)).max())
            edges.append(np.subtract(nearest, box))
            scores.append(other - float(score))
    assert len(scores) > PICTURES, "a detector that finds nothing proves nothing"
    return np.array(edges), np.array(scores)


def test_a_picture_of_the_inputs_size_gives_the_same_boxes(path):
    """Nothing is resized: edges differ by MediaPipe's rounding to whole pixels alone, scores not at all."""
    edges, scores = compared(path, (SIDE_PX, SIDE_PX))
    assert np.abs(edges).max() <= 1.0 and np.abs(scores).max() < 0.005


@pytest.mark.parametrize("size_px", [(320, 320), (480, 200), (200, 480), (48, 40)])
def test_resized_pictures_give_boxes_that_differ_by_the_half_pixel(path, size_px):
    """MediaPipe resizes without half-pixel centres: what it sees lies (scale - 1) / 2 picture pixels further on."""
    edges, scores = compared(path, size_px)
    shift = np.array([(side / SIDE_PX - 1) / 2 for side in size_px] * 2)
    assert (np.abs(edges) <= 1.0 + shift).all(), np.abs(edges).max(0)
    assert np.abs(scores).max() < 0.15

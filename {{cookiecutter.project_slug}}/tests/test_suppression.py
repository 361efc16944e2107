"""Suppression of the checkpoint against that of the operation in the shipped file."""

import pytest
from tiny_tflite import SLOTS, _post_process

pytestmark = pytest.mark.slow
ANCHORS, CLASSES, THRESHOLD = 300, 6, 0.3


@pytest.fixture(scope="module")
def operation(tmp_path_factory) -> bytes:
    """A `.tflite` that is the operation alone: boxes and scores in, detections out."""
    import tensorflow as tf

    module, folder = tf.Module(), str(tmp_path_factory.mktemp("operation"))
    post_process = _post_process(CLASSES)
    anchors = tf.constant([[0.5, 0.5, 1.0, 1.0]] * ANCHORS)

    @tf.function(
        input_signature=[tf.TensorSpec([1, ANCHORS, 4], name="b"), tf.TensorSpec([1, ANCHORS, CLASSES], name="s")]
    )
    def serve(b, s):
        return dict(zip(("a", "b", "c", "d"), post_process(b, s, anchors), strict=True))

    module.serve = serve
    tf.saved_model.save(module, folder, signatures={"serving_default": serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.allow_custom_ops = True
    return converter.convert()


def random_case(seed):
    """Boxes (center, side) in heaps, so that many overlap, and scores of which some are under the
    threshold."""
    import numpy as np

    dice = np.random.default_rng(seed)
    heaps = dice.uniform(0.2, 0.8, (12, 2))
    centers = heaps[dice.integers(0, 12, ANCHORS)] + dice.normal(0, 0.03, (ANCHORS, 2))
    sides = dice.uniform(0.1, 0.3, (ANCHORS, 2))
    return centers.astype(np.float32), sides.astype(np.float32), dice.random((ANCHORS, CLASSES), np.float32) ** 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_checkpoint_and_file_suppress_alike(operation, threads):
    import numpy as np
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from scripts.evaluation.detector import suppress

    run = Interpreter(model_content=operation, num_threads=threads).get_signature_runner()
    ours = tf.function(lambda boxes, scores: suppress(boxes, scores, THRESHOLD, 0.5, SLOTS))
    for seed in range(5):
        centers, sides, scores = random_case(seed)
        encoded = np.concatenate([centers - 0.5, np.log(sides)], 1)[None].astype(np.float32)
        theirs = run(b=encoded, s=scores[None])
        yxyx = np.concatenate([centers - sides / 2, centers + sides / 2], 1)
        boxes, classes, best, count = (part.numpy() for part in ours(yxyx[None], scores[None]))
        used = int(theirs["d"][0])
        assert count.tolist() == [used] and 10 < used < SLOTS
        assert np.allclose(best[0, :used], theirs["c"][0, :used], atol=1e-6)
        assert classes[0, :used].tolist() == theirs["b"][0, :used].tolist()
        assert set(classes[0, :used]) == set(range(CLASSES)), "no class is lost"
        assert np.allclose(boxes[0, :used], theirs["a"][0, :used].clip(0, 1), atol=1e-5)
        assert not boxes[0, used:].any() and not best[0, used:].any()


def test_images_of_a_batch_do_not_mix_and_none_may_be_empty():
    import numpy as np

    from scripts.evaluation.detector import suppress

    boxes = np.float32([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45]], [[-0.2, 0, 0.5, 1.5], [0.6, 0.6, 1, 1]]])
    scores = np.float32([[[0.1, 0.2], [0.2, 0.1]], [[0.4, 0.6], [0.9, 0.1]]])
    found, classes, best, count = (part.numpy() for part in suppress(boxes, scores, 0.3, 0.5, 4))
    assert count.tolist() == [0, 2] and not found[0].any()
    assert classes[1, :2].tolist() == [0, 1] and best[1, :2].tolist() == pytest.approx([0.9, 0.6])
    assert found[1, 1].tolist() == [0, 0, 0.5, 1], "clipped to the image"

"""The `export` step: a SavedModel that takes an image of any size and returns detections."""

from pathlib import Path

import tensorflow as tf

from scripts.core.files import replace_dir, temporary_beside, write_text
from scripts.core.layout import Layout
from scripts.core.runtime import silence_libraries
from scripts.core.text import counted
from scripts.data.label_map import read_label_map
from scripts.deploy.tflite_file import LABELS, label_lines, labels_text
from scripts.evaluation.detector import TrainedModel, checkpoint_path, load_model, stretch


def export(root: Path, which: str, score_threshold: float) -> str:
    """Write `inference/saved_model` and `inference/labels.txt`; return a summary.

    `which` is `export.checkpoint`. Raises DetectorError if there is no such checkpoint.
    """
    layout = Layout(root)
    labels = label_lines(read_label_map(layout.label_map))
    model = load_model(layout.experiment, checkpoint_path(layout.training, which))
    # The older model stays until the new one is complete.
    folder = temporary_beside(layout.saved_model)
    with silence_libraries():
        module = detection_module(model, score_threshold)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    replace_dir(folder, layout.saved_model)
    write_text(layout.inference / LABELS, labels_text(labels))
    size = sum(path.stat().st_size for path in layout.saved_model.rglob("*") if path.is_file())
    return (f"{model.checkpoint}, {counted(len(labels), 'class', 'classes')}, {size / 1e6:.1f} MB "
            f"in {layout.shown(layout.saved_model)}")


def detection_module(model: TrainedModel, score_threshold: float) -> tf.Module:
    """Return a module whose `serve` is the signature of the SavedModel.

    It takes `images` uint8 [1, height, width, 3] (RGB) and gives float32 `detection_boxes` [1, 100,
    4] (ymin, xmin, ymax, xmax in 0..1), `detection_classes` [1, 100] from 0, `detection_scores`
    [1, 100] and `num_detections` [1]. Slots past `num_detections` are zero.
    """
    module = tf.Module()
    # The variables and not the network: Keras would trace each of its layers anew.
    module.variables_used = model.network.variables

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="images")])
    def serve(images):
        pixels = stretch(images, model.input_px)
        boxes, classes, scores, count = model.detect(pixels, score_threshold)
        return {"detection_boxes": boxes, "detection_classes": classes,
                "detection_scores": scores, "num_detections": tf.cast(count, tf.float32)}

    module.serve = serve
    return module

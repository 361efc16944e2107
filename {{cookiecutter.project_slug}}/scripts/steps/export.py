"""The `export` step: a SavedModel that takes an image of any size and returns detections."""

from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import replace_dir, temporary_beside
from scripts.core.runtime import silence_libraries
from scripts.core.text import counted
from scripts.deploy.reader import write_labels

SAVED_MODEL = "inference/saved_model"


@dataclass(frozen=True)
class ExportCounts:
    """What was exported: checkpoint, number of classes and size of the folder."""

    checkpoint: str
    classes: int
    megabytes: float

    def __str__(self):
        classes = counted(self.classes, "class", "classes")
        return f"{self.checkpoint}, {classes}, {self.megabytes:.1f} MB in {SAVED_MODEL}"


def export(root: Path, which: str, score_threshold: float) -> ExportCounts:
    """Writes `inference/saved_model` and `inference/labels.txt`.

    `serving_default`: `images` uint8 [1, height, width, 3] (RGB) -> `detection_boxes` [1, 100, 4]
    (ymin, xmin, ymax, xmax in 0..1), `detection_classes` [1, 100] from 0, `detection_scores` [1,
    100], `num_detections` [1], all float32; slots past `num_detections` are zero. Raises
    DetectorError if there is no such checkpoint.
    """
    import tensorflow as tf

    from scripts.evaluation.detector import load_model

    model = load_model(root, which)
    folder = temporary_beside(root / SAVED_MODEL)
    with silence_libraries():
        module = detection_module(model, score_threshold)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    replace_dir(folder, root / SAVED_MODEL)
    size = sum(path.stat().st_size for path in (root / SAVED_MODEL).rglob("*") if path.is_file())
    labels = write_labels(root, root / "inference/labels.txt")
    return ExportCounts(model.checkpoint, len(labels), size / 1e6)


def detection_module(model, score_threshold: float):
    """A tf.Module around a `TrainedModel` whose `serve` has the signature that `export` describes.
    """
    import tensorflow as tf

    from scripts.evaluation.detector import stretch

    module = tf.Module()
    module.variables_used = model.network.variables  # Not the network: Keras would trace each of its layers anew.

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="images")])
    def serve(images):
        boxes, classes, scores, count = model.detect(stretch(images, model.input_px), score_threshold)
        return {"detection_boxes": boxes, "detection_classes": classes, "detection_scores": scores,
                "num_detections": tf.cast(count, tf.float32)}

    module.serve = serve
    return module

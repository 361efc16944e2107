"""Suppression as the shipped file does it, in TensorFlow, for the checkpoint and the SavedModel.

`TFLite_Detection_PostProcess` with `use_regular_nms` false: each anchor stands for its best class,
and a box is dropped when it overlaps a better one of any class. The other mode, suppression per
class, is not safe to ship: run with N threads, LiteRT 2.3 and TensorFlow Lite 2.20 never look at
class id N (two threads lose the third class).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.vision.ops import box_ops

from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.modeling.experiment import (
    EXPERIMENT,
    SUPPRESSION_IOU,
    read_experiment,
    with_absolute_paths,
)
from scripts.training import task as detector
from scripts.training.inputs import normalize_pixels
from scripts.training.run_file import averaged_checkpoints, best_checkpoint


def suppress(yxyx_norm, scores, score_threshold: float, iou: float, slots: int):
    """Boxes [batch, slots, 4], classes [batch, slots], scores [batch, slots], all float32, and
    counts int32 [batch].

    `yxyx_norm` are boxes [batch, anchors, 4], `scores` 0..1 [batch, anchors, classes]. Best first;
    boxes are clipped to 0..1 after suppression; slots past the count are zero.
    """
    import tensorflow as tf

    def one_image(inputs):
        boxes, best, classes = inputs
        kept = tf.image.non_max_suppression(boxes, best, slots, iou, score_threshold)
        chosen = [tf.gather(part, kept) for part in (tf.clip_by_value(boxes, 0.0, 1.0), classes, best)]
        empty = slots - tf.shape(kept)[0]
        padded = [tf.pad(part, [[0, empty]] + [[0, 0]] * (part.shape.rank - 1)) for part in chosen]
        shapes = ([slots, 4], [slots], [slots])
        return (*(tf.ensure_shape(part, shape) for part, shape in zip(padded, shapes, strict=True)), tf.size(kept))

    classes = tf.cast(tf.argmax(scores, -1), tf.float32)
    return tf.map_fn(
        one_image,
        (yxyx_norm, tf.reduce_max(scores, -1), classes),
        fn_output_signature=(tf.float32, tf.float32, tf.float32, tf.int32),
    )


# A trained detector in TensorFlow: weights of a checkpoint, and the one way from pixels to
# detections.

DETECTIONS = 100


@dataclass(frozen=True)
class TrainedModel:
    """A Model Garden RetinaNet with the averaged weights of a checkpoint, named as `training/`
    names it."""

    network: Any
    config: Any
    checkpoint: str

    @property
    def input_px(self) -> int:
        """Side of the square input."""
        return self.config.input_size[0]

    def anchors_yxyx_px(self) -> tf.Tensor:
        """Anchors of all levels, float32 [anchors, 4], in pixels of the input."""
        return detector.anchors_yxyx_px(self.config)

    def _levels(self):
        return range(self.config.min_level, self.config.max_level + 1)

    def predict(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encoded boxes [batch, anchors, 4] (ty, tx, th, tw) and scores 0..1 [batch, anchors,
        classes].

        `pixels`: [batch, side, side, 3], RGB 0..255. Class i is label map id i + 1: the background
        column is cut off.
        """
        boxes, logits = self.predict_logits(pixels)
        return boxes, tf.sigmoid(logits)

    def predict_logits(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `predict`, with the scores before their sigmoid."""
        return self._heads(normalize_pixels(pixels))

    def _heads(self, normalized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = self.network.decoder(self.network.backbone(normalized, training=False), training=False)
        logits, boxes, _ = self.network.head(features, training=False)
        classes, levels = self.config.num_classes, [str(level) for level in self._levels()]
        batch = normalized.shape[0] or tf.shape(normalized)[0]
        logits = tf.concat([tf.reshape(logits[level], [batch, -1, classes]) for level in levels], 1)
        boxes = tf.concat([tf.reshape(boxes[level], [batch, -1, 4]) for level in levels], 1)
        return boxes, logits[:, :, 1:]

    def detect(self, pixels: tf.Tensor, score_threshold: float) -> tuple[tf.Tensor, ...]:
        """Boxes [batch, 100, 4] (yxyx, 0..1), classes [batch, 100] from 0, scores [batch, 100],
        counts [batch].

        Each anchor stands for its best class, and suppression works over all classes: the rule of
        the shipped file (see `deploy/conversion.py`). Slots past the count are zero.
        """
        return self.look(pixels, score_threshold)[2:]

    def look(self, pixels: tf.Tensor, score_threshold: float) -> tuple[tf.Tensor, ...]:
        """Boxes [batch, anchors, 4] and scores [batch, anchors, classes] of all anchors, then what
        `detect` gives."""
        encoded, scores = self.predict(pixels)
        decoded = box_ops.decode_boxes(encoded, self.anchors_yxyx_px()[tf.newaxis]) / float(self.input_px)
        return decoded, scores, *suppress(decoded, scores, score_threshold, SUPPRESSION_IOU, DETECTIONS)


def stretch(pixels: tf.Tensor, side_px: int) -> tf.Tensor:
    """RGB [.., height, width, 3] of any type to float32 [.., side, side, 3]: bilinear, no
    antialiasing, as training."""
    return tf.image.resize(pixels, [side_px, side_px], method="bilinear", antialias=False)


def load_model(root: Path, which: str) -> TrainedModel:
    """The model of a checkpoint: `best`, `last` or a step. Raises DetectorError naming the
    checkpoints there are."""
    path = checkpoint_path(root, which)
    if not (root / EXPERIMENT).is_file():
        raise DetectorError(f"no experiment: {EXPERIMENT}: type invoke train")
    config = read_experiment(root / EXPERIMENT).task
    with silence_libraries():
        network = detector.DetectorTask(config).build_model()
        status = tf.train.Checkpoint(model=network).restore(str(path))
        try:
            status.expect_partial().assert_existing_objects_matched()
        except AssertionError:
            raise DetectorError(f"checkpoint {path.name} is of another model than {EXPERIMENT}: training/: "
                                "type invoke forget train, then invoke train") from None
    return TrainedModel(network, config.model, path.name)


def pretrained_network(root: Path) -> tuple[Any, int]:
    """The network with the weights that training started from, and the side of its input in pixels.

    Raises DetectorError when there is no experiment, or the weights that it names are not there.
    """
    if not (root / EXPERIMENT).is_file():
        raise DetectorError(f"no experiment: {EXPERIMENT}: type invoke train")
    config = with_absolute_paths(read_experiment(root / EXPERIMENT), root).task
    task = detector.DetectorTask(config)
    with silence_libraries():
        network = task.build_model()
        task.initialize(network)
    return network, config.model.input_size[0]


def checkpoint_path(root: Path, which: str) -> Path:
    """Prefix of the checkpoint that `export.checkpoint` names; `last` and steps are those with
    averaged weights."""
    training = root / "training"
    averaged = averaged_checkpoints(training)
    if which == "best":
        name, _ = best_checkpoint(training)
        found = {0: training / "best" / name} if name else {}
    elif which == "last":
        found = averaged
    else:
        found = {step: path for step, path in averaged.items() if step == int(which)}
    if not found:
        there = ", ".join(str(step) for step in sorted(averaged)) or "none"
        raise DetectorError(f"no checkpoint {which!r} (steps there: {there}): training/: "
                            "type invoke train, or change export.checkpoint in detector.toml")
    return found[max(found)]

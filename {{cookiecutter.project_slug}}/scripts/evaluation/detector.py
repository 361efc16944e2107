"""A trained detector in TensorFlow: from a checkpoint to a model, from pixels to detections."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.vision.ops import box_ops

from scripts.core.runtime import silence_libraries
from scripts.core.schema import SLOTS
from scripts.core.text import DetectorError
from scripts.evaluation.detections import (
    Detections,
    RecordImage,
    batched,
    coco_detections,
    decode_rgb,
)
from scripts.modeling.experiment import SUPPRESSION_IOU, read_experiment, with_absolute_paths
from scripts.training import task as detector
from scripts.training.inputs import normalize_pixels
from scripts.training.run_file import averaged_checkpoints, best_checkpoint


@dataclass(frozen=True)
class TrainedModel:
    """A Model Garden RetinaNet with the weights of a checkpoint, named as in `training/`."""

    network: Any
    config: Any
    checkpoint: str

    @property
    def input_px(self) -> int:
        """Side of the square input."""
        return self.config.input_size[0]

    def batch(self, images: Sequence) -> tf.Tensor:
        """Stretch images [height, width, 3] to the input: float32 [batch, side, side, 3]."""
        return tf.stack([stretch(pixels, self.input_px) for pixels in images])

    def anchors_yxyx_px(self) -> tf.Tensor:
        """Return the anchors of all levels, float32 [anchors, 4], in pixels of the input."""
        return detector.anchors_yxyx_px(self.config)

    def backbone_levels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the outputs of the backbone by level; `pixels` as for `predict`."""
        return self.network.backbone(normalize_pixels(pixels), training=False)

    def predict(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run the network on [batch, side, side, 3], RGB 0..255.

        Returns:
            Encoded boxes [batch, anchors, 4] (ty, tx, th, tw) and scores 0..1 [batch, anchors,
            classes]. Class i is label map id i + 1: the background column is cut off.
        """
        boxes, logits = self.predict_logits(pixels)
        return boxes, tf.sigmoid(logits)

    def predict_logits(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run the network as `predict` does; give the scores before their sigmoid."""
        return self._heads(normalize_pixels(pixels))

    def _heads(self, normalized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        levels = self.network.backbone(normalized, training=False)
        features = self.network.decoder(levels, training=False)
        logits, boxes, _ = self.network.head(features, training=False)
        levels = [str(level) for level in range(self.config.min_level, self.config.max_level + 1)]
        batch = normalized.shape[0] or tf.shape(normalized)[0]
        logits, boxes = (
            tf.concat([tf.reshape(part[level], [batch, -1, columns]) for level in levels], 1)
            for part, columns in ((logits, self.config.num_classes), (boxes, 4)))
        # Model Garden's first class is the background.
        return boxes, logits[:, :, 1:]

    def detect(self, pixels: tf.Tensor, score_threshold: float) -> tuple[tf.Tensor, ...]:
        """Run the network and suppression on [batch, side, side, 3], RGB 0..255.

        Returns:
            Boxes [batch, 100, 4] (yxyx, 0..1), classes [batch, 100] from 0, scores [batch, 100],
            counts [batch]. Slots past the count are zero.
        """
        return self.look(pixels, score_threshold)[2:]

    def look(self, pixels: tf.Tensor, score_threshold: float) -> tuple[tf.Tensor, ...]:
        """Return boxes [batch, anchors, 4] and scores [batch, anchors, classes] of all anchors,
        then what `detect` gives."""
        encoded, scores = self.predict(pixels)
        anchors = self.anchors_yxyx_px()[tf.newaxis]
        # Fractions of the input are fractions of the image: it was stretched, not padded.
        decoded = box_ops.decode_boxes(encoded, anchors) / float(self.input_px)
        found = suppress(decoded, scores, score_threshold, SUPPRESSION_IOU, SLOTS)
        return decoded, scores, *found


def stretch(pixels: tf.Tensor, side_px: int) -> tf.Tensor:
    """Resize RGB [.., height, width, 3] of any type to float32 [.., side, side, 3].

    Bilinear without antialiasing, as in training.
    """
    return tf.image.resize(pixels, [side_px, side_px], method="bilinear", antialias=False)


def suppress(yxyx_norm, scores, score_threshold: float, iou: float, slots: int):
    """Choose detections as the shipped file does.

    This is `TFLite_Detection_PostProcess` with `use_regular_nms` false
    (`tensorflow/lite/kernels/detection_postprocess.cc`): each anchor stands for its best class, and
    a box is dropped when it overlaps a better one of any class. The other mode, suppression per
    class, is not safe to ship: run with N threads, LiteRT 2.3 and TensorFlow Lite 2.20 never look
    at class id N (two threads lose the third class).

    Args:
        yxyx_norm: boxes [batch, anchors, 4].
        scores: 0..1 [batch, anchors, classes].
        score_threshold: lower scores are dropped.
        iou: the overlap from which a box is dropped.
        slots: the most detections of an image.

    Returns:
        Boxes [batch, slots, 4] clipped to 0..1, classes [batch, slots], scores [batch, slots], all
        float32 and best first, and counts int32 [batch]. Slots past the count are zero.
    """

    def one_image(inputs):
        boxes, best, classes = inputs
        kept = tf.image.non_max_suppression(boxes, best, slots, iou, score_threshold)
        empty = slots - tf.shape(kept)[0]
        outputs = []
        for part in (tf.clip_by_value(boxes, 0.0, 1.0), classes, best):
            rest = part.shape[1:]
            padded = tf.pad(tf.gather(part, kept), [[0, empty]] + [[0, 0]] * rest.rank)
            outputs.append(tf.ensure_shape(padded, [slots, *rest]))
        return (*outputs, tf.size(kept))

    classes = tf.cast(tf.argmax(scores, -1), tf.float32)
    return tf.map_fn(one_image, (yxyx_norm, tf.reduce_max(scores, -1), classes),
                     fn_output_signature=(tf.float32, tf.float32, tf.float32, tf.int32))


def checkpoint_path(training: Path, which: str) -> Path:
    """Return the path, without ending, of a checkpoint in the folder `training`.

    `which` is `best`, `last` or a step; the last two are those with averaged weights. Raises
    DetectorError that names the steps there are.
    """
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


def load_model(experiment: Path, checkpoint: Path) -> TrainedModel:
    """Load the model of the file `experiment` with the weights of `checkpoint`.

    `checkpoint` is a path without ending, as `checkpoint_path` gives it. Raises DetectorError when
    the experiment is missing or the checkpoint belongs to another model.
    """
    config = _read(experiment).task
    with silence_libraries():
        network = detector.DetectorTask(config).build_model()
        status = tf.train.Checkpoint(model=network).restore(str(checkpoint))
        # Partial: the checkpoint also holds what only training needs, such as the optimizer.
        try:
            status.expect_partial().assert_existing_objects_matched()
        except AssertionError:
            raise DetectorError(
                f"checkpoint {checkpoint.name} is of another model than "
                f"training/{experiment.name}: training/: type invoke forget train, then invoke "
                "train") from None
    return TrainedModel(network, config.model, checkpoint.name)


def _read(experiment: Path):
    if not experiment.is_file():
        raise DetectorError(f"no experiment: training/{experiment.name}: type invoke train")
    return read_experiment(experiment)


def pretrained_model(experiment: Path, folder: Path) -> TrainedModel:
    """Load the model of the file `experiment` with the weights that training starts from.

    Paths in the file are relative to `folder`. Raises DetectorError when the file is missing, or
    the weights that it names are.
    """
    config = with_absolute_paths(_read(experiment), folder).task
    task = detector.DetectorTask(config)
    with silence_libraries():
        network = task.build_model()
        task.initialize(network)
    return TrainedModel(network, config.model, "pre-trained")


def checkpoint_detections(model: TrainedModel, images: Iterable[RecordImage],
                          score_threshold: float, max_detections: int) -> Iterator[dict]:
    """Yield what a model finds in images as COCO results, in pixels of the stored images."""
    detect = tf.function(lambda pixels: model.detect(pixels, score_threshold))
    for batch in batched(images):
        pixels = model.batch([decode_rgb(image.encoded) for image in batch])
        found = [output.numpy() for output in detect(pixels)]
        for image, boxes, classes, scores, count in zip(batch, *found, strict=True):
            kept = min(int(count), max_detections)
            yield from coco_detections(
                image.image_id, image.width_px, image.height_px,
                Detections(boxes[:kept], classes[:kept].astype(int), scores[:kept]))

"""What a checkpoint sees in pictures before it decides: all anchors with the scores of all classes, and detections."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.evaluation.groundtruth import RecordBox

LOWEST_SCORE = 0.05
"""Detections below are not kept: no labelled box was ever missing because of one."""


@dataclass(frozen=True)
class View:
    """One picture. Boxes are xmin, ymin, xmax, ymax in pixels of it, float [n, 4], cut at its edges.

    `anchors_xyxy_px` with `scores` [n, classes] 0..1 are where the network looked, `found_xyxy_px` [m, 4],
    `found_ids` [m] and `found_scores` [m] what is left of them after suppression, best first. Class i is label map id
    i + 1; `found_ids` are those of the label map.
    """

    split: str
    file_name: str
    width_px: int
    height_px: int
    labels: tuple[RecordBox, ...]
    anchors_xyxy_px: Any
    scores: Any
    found_xyxy_px: Any
    found_ids: Any
    found_scores: Any


def views(root: Path, model, splits: tuple[str, ...]) -> Iterator[View]:
    """The pictures of `splits` in the order of their records as a `TrainedModel` sees them."""
    import tensorflow as tf

    from scripts.evaluation.evaluate import BATCH, batched
    from scripts.evaluation.groundtruth import decode_rgb, record_pictures
    from scripts.evaluation.model import stretch

    look = tf.function(lambda pixels: model.look(pixels, LOWEST_SCORE))
    for split in splits:
        for pictures in batched(record_pictures(root, split), BATCH):
            pixels = tf.stack([stretch(decode_rgb(picture.encoded), model.input_px) for picture in pictures])
            for picture, *seen in zip(pictures, *(output.numpy() for output in look(pixels)), strict=True):
                yield _view(split, picture, *seen)


def _view(split: str, picture, anchors, scores, boxes, classes, found_scores, count) -> View:
    from scripts.evaluation.detections import clipped_xyxy_px

    size = (picture.width_px, picture.height_px)
    return View(split, picture.file_name, *size, picture.boxes, clipped_xyxy_px(anchors, *size), scores,
                clipped_xyxy_px(boxes[:count], *size), classes[:count].astype(int) + 1, found_scores[:count])

"""What a checkpoint sees in labelled pictures, and what a witness says of the inside of boxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.evaluation.groundtruth import RecordBox

LOWEST_SCORE = 0.05
"""Detections below it say nothing about labels."""


@dataclass(frozen=True)
class View:
    """One picture. Boxes are xmin, ymin, xmax, ymax in pixels of it, float [n, 4], cut at its edges.

    `anchors_xyxy_px` with `scores` [n, classes] 0..1 are where the network looked, `found_xyxy_px` [m, 4],
    `found_ids` [m] and `found_scores` [m] what is left of them after suppression, best first. Class i is label map id
    i + 1; `found_ids` are those of the label map. `label_features` [labels, d] and `ground_features` [g, d] describe
    the inside of the labels and of boxes where nothing is (see `crops.py`).
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
    label_features: Any
    ground_features: Any


def views(root: Path, model, describe: Callable, splits: tuple[str, ...]) -> Iterator[View]:
    """The pictures of `splits` in the order of their records, for a `TrainedModel` and the witness of `crops.py`."""
    import tensorflow as tf

    from scripts.evaluation.evaluate import BATCH, batched
    from scripts.evaluation.groundtruth import decode_rgb, record_pictures
    from scripts.evaluation.model import stretch

    look = tf.function(lambda pixels: model.look(pixels, LOWEST_SCORE))
    for split in splits:
        for pictures in batched(record_pictures(root, split), BATCH):
            decoded = [decode_rgb(picture.encoded) for picture in pictures]
            seen = look(tf.stack([stretch(pixels, model.input_px) for pixels in decoded]))
            for picture, pixels, *parts in zip(pictures, decoded, *(part.numpy() for part in seen), strict=True):
                yield _view(split, picture, pixels, describe, *parts)


def _view(split: str, picture, pixels, describe: Callable, anchors, scores, boxes, ids, found_scores, count) -> View:
    import numpy as np

    from scripts.evaluation.crops import grounds
    from scripts.evaluation.detections import clipped_xyxy_px

    size_px = (picture.width_px, picture.height_px)
    found_px = clipped_xyxy_px(boxes[:count], *size_px)
    labelled_px = np.array([box.xyxy_px for box in picture.boxes]).reshape(-1, 4)
    grounds_px = grounds(picture.file_name, size_px, labelled_px, found_px)
    features = describe(pixels, np.concatenate([labelled_px, grounds_px]))
    return View(split, picture.file_name, *size_px, picture.boxes, clipped_xyxy_px(anchors, *size_px), scores,
                found_px, ids[:count].astype(int) + 1, found_scores[:count],
                features[:len(labelled_px)], features[len(labelled_px):])  # fmt: skip

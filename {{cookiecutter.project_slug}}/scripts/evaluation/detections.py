"""What a detector found, and the labels that it is scored against, in arrays and in COCO form."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.text import DetectorError
from scripts.data.dataset import Corners

# A thousandth of a pixel: far below what moves an IoU, and the files stay readable.
EDGE_DECIMALS = 3


@dataclass(frozen=True)
class Detections:
    """Detections of one image, best first.

    `yxyx_norm`: float32 [n, 4], edges as fractions 0..1 of the stored image (a box may reach over
    the border); `class_ids`: int [n], label map id - 1, which is the line of `labels.txt` counted
    from 0; `scores`: float32 [n], 0..1.
    """

    yxyx_norm: Any
    class_ids: Any
    scores: Any

    def __len__(self) -> int:
        return len(self.scores)


def coco_detections(image_id: int, width_px: int, height_px: int,
                    detections: Detections) -> list[dict]:
    """Return detections as COCO results, boxes clipped to the image.

    `category_id` is the label map id, `bbox` x, y, width, height in pixels. Raises DetectorError
    when a box or a score is not a finite number.
    """
    xyxy_px = clipped_xyxy_px(detections.yxyx_norm, width_px, height_px)
    scores = np.asarray(detections.scores, np.float32)
    if not (np.isfinite(xyxy_px).all() and np.isfinite(scores).all()):
        raise DetectorError(
            f"the detector gave boxes or scores that are no numbers: image {image_id}: "
            "lower train.learning_rate, then `invoke forget train`, `invoke train`")
    rows = []
    for class_id, score, (xmin, ymin, xmax, ymax) in zip(detections.class_ids, scores, xyxy_px,
                                                         strict=True):
        bbox = [round(float(value), EDGE_DECIMALS)
                for value in (xmin, ymin, xmax - xmin, ymax - ymin)]
        rows.append({"image_id": image_id, "category_id": int(class_id) + 1, "bbox": bbox,
                     "score": short(score)})
    return rows


def clipped_xyxy_px(yxyx_norm, width_px: int, height_px: int):
    """Return boxes in pixels, clipped to the image: `xmin, ymin, xmax, ymax`, float64 [n, 4].

    `yxyx_norm` are edges `ymin, xmin, ymax, xmax` 0..1 [n, 4].
    """
    edges = np.asarray(yxyx_norm, np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
    edges = np.clip(edges, 0.0, 1.0) * [width_px, height_px, width_px, height_px]
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2])  # an inverted box has no area
    return edges


def short(score) -> float:
    """Return a float32 as the float with the shortest text that gives the same float32 back.

    So no rank and no tie changes when the score is read again.
    """
    return float(str(score))


# The labeled boxes of a split, read from its TFRecords.

# Flags that make a box a crowd in COCO's sense: finding it is neither rewarded nor punished.
NOT_SCORED = ("group_of", "is_crowd", "difficult")


@dataclass(frozen=True)
class RecordImage:
    """One image of the TFRecords with its labels.

    `image_id` is its number over all splits, `encoded` the bytes of its file. Of each label:
    `label_ids` holds the id of the label map, `xyxy_px` the edges in pixels of the stored image,
    `crowds` whether it is left out of the score.
    """

    image_id: int
    file_name: str
    encoded: bytes
    width_px: int
    height_px: int
    label_ids: tuple[int, ...]
    xyxy_px: tuple[Corners, ...]
    crowds: tuple[bool, ...]


def record_images(files: list[Path]) -> Iterator[RecordImage]:
    """Yield the images of TFRecord files with their labels, in the order of the records.

    Raises DetectorError when `files` is empty.
    """
    import tensorflow as tf

    if not files:
        raise DetectorError("no TFRecords of this split: annotations/: run `invoke records`")
    for data in tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator():
        yield _image(tf.train.Example.FromString(data).features.feature)


def _image(feature) -> RecordImage:
    width_px, height_px = (feature[f"image/{side}"].int64_list.value[0]
                           for side in ("width", "height"))
    label_ids = tuple(feature["image/object/class/label"].int64_list.value)
    edges = [feature[f"image/object/bbox/{edge}"].float_list.value
             for edge in ("xmin", "ymin", "xmax", "ymax")]
    # Records hold float32 fractions; rounding gives back the number that was written.
    sides_px = (width_px, height_px, width_px, height_px)
    xyxy_px = [tuple(round(share * side, EDGE_DECIMALS)
                     for share, side in zip(shares, sides_px, strict=True))
               for shares in zip(*edges, strict=True)]
    flags = [feature[f"image/object/{flag}"].int64_list.value or [0] * len(label_ids)
             for flag in NOT_SCORED]
    return RecordImage(
        image_id=int(feature["image/source_id"].bytes_list.value[0]),
        file_name=feature["image/filename"].bytes_list.value[0].decode(),
        encoded=feature["image/encoded"].bytes_list.value[0],
        width_px=width_px, height_px=height_px, label_ids=label_ids, xyxy_px=tuple(xyxy_px),
        crowds=tuple(any(marks) for marks in zip(*flags, strict=True)))


def decode_rgb(encoded: bytes):
    """Return the pixels of a JPEG or PNG file as stored, uint8 [height, width, 3].

    EXIF is not applied. The step `records` has refused files that TensorFlow cannot decode.
    """
    from scripts.training.inputs import decode_image

    return decode_image(encoded).numpy()


def coco_groundtruth(files: list[Path], names: dict[int, str]) -> dict:
    """Return the labels of TFRecord files in COCO form: `images`, `annotations`, `categories`.

    `names` is the label map, id to class name. Raises DetectorError when `files` is empty, or the
    records hold a class that the label map lacks.
    """
    images, annotations = [], []
    for image in record_images(files):
        images.append({"id": image.image_id, "file_name": image.file_name,
                       "width": image.width_px, "height": image.height_px})
        labels = zip(image.label_ids, image.xyxy_px, image.crowds, strict=True)
        for label_id, edges, crowd in labels:
            if label_id not in names:
                where = f"{image.file_name} in {files[0].parent.name}/{files[0].name}"
                raise DetectorError(f"class id {label_id} is not in the label map: {where}: "
                                    "run `invoke forget records`, then `invoke records`")
            # Numbers start at 1: pycocotools takes an annotation with id 0 for a missed one.
            number = len(annotations) + 1
            annotations.append(_annotation(number, image.image_id, label_id, edges, crowd))
    categories = [{"id": number, "name": name} for number, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(number: int, image_id: int, label_id: int, edges: Corners, crowd: bool) -> dict:
    xmin, ymin, xmax, ymax = edges
    width_px, height_px = round(xmax - xmin, EDGE_DECIMALS), round(ymax - ymin, EDGE_DECIMALS)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": label_id,
        "bbox": [xmin, ymin, width_px, height_px],
        "area": round(width_px * height_px, EDGE_DECIMALS),
        "iscrowd": int(crowd),
    }


# What any detector finds in labeled images.

BATCH = 8


def detector_detections(images: Iterable[RecordImage], detect: Callable[[Any], Detections],
                        max_detections: int) -> list[dict]:
    """Run a detector on images one at a time; return what it finds as COCO results.

    Args:
        images: those of `record_images`.
        detect: takes RGB pixels uint8 [height, width, 3], such as `TfliteDetector.detect`.
        max_detections: the best so many of each image are kept.
    """
    rows = []
    for image in images:
        found = detect(decode_rgb(image.encoded))
        kept = Detections(*(part[:max_detections]
                            for part in (found.yxyx_norm, found.class_ids, found.scores)))
        rows += coco_detections(image.image_id, image.width_px, image.height_px, kept)
    return rows


def batched(items: Iterable, size: int = BATCH) -> Iterator[list]:
    """Yield lists of `size` items; the last may be shorter (`itertools.batched` needs Python 3.12).
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

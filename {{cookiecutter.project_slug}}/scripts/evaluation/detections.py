"""What a detector found in one image, and the same in COCO form."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.text import DetectorError
from scripts.data.examples import record_files
from scripts.data.label_map import LABEL_MAP, read_label_map

EDGE_DECIMALS = 3
"""A thousandth of a pixel: far below what moves an IoU, and the files stay readable."""


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


def coco_detections(image_id: int, width_px: int, height_px: int, detections: Detections) -> list[dict]:
    """The detections as COCO results: `category_id` is the label map id, `bbox` x, y, width, height
    in pixels.

    Boxes are clipped to the image. A score is the shortest decimal number that gives the same
    float32 back, so no rank and no tie changes. DetectorError when a box or a score is not a finite
    number.
    """
    xyxy_px = clipped_xyxy_px(detections.yxyx_norm, width_px, height_px)
    scores = np.asarray(detections.scores, np.float32)
    if not (np.isfinite(xyxy_px).all() and np.isfinite(scores).all()):
        raise DetectorError(
            f"the detector gave boxes or scores that are no numbers: image {image_id}: "
            "lower train.learning_rate, then `invoke forget train`, `invoke train`"
        )
    rows = []
    for class_id, score, (xmin, ymin, xmax, ymax) in zip(detections.class_ids, scores, xyxy_px, strict=True):
        bbox = [round(float(value), EDGE_DECIMALS) for value in (xmin, ymin, xmax - xmin, ymax - ymin)]
        rows.append({"image_id": image_id, "category_id": int(class_id) + 1, "bbox": bbox, "score": short(score)})
    return rows


def clipped_xyxy_px(yxyx_norm, width_px: int, height_px: int):
    """Edges `ymin, xmin, ymax, xmax` 0..1 [n, 4] as `xmin, ymin, xmax, ymax` in pixels inside the
    image, float64."""
    edges = np.asarray(yxyx_norm, np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
    edges = np.clip(edges, 0.0, 1.0) * [width_px, height_px, width_px, height_px]
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2])  # an inverted box has no area, not a negative one
    return edges


def short(score) -> float:
    """A float32 as the float whose printed form is the shortest that gives the same float32 back.
    """
    return float(str(score))


# The labeled boxes of a split, read from its records: what detections are scored against.

NOT_SCORED = ("group_of", "is_crowd", "difficult")
"""Flags that make a box a crowd in COCO's sense: finding it is neither rewarded nor punished."""


@dataclass(frozen=True)
class RecordBox:
    """One labeled box: `label_id` is that of the label map (from 1), `crowd` says that it is not
    scored."""

    label_id: int
    xyxy_px: tuple[float, float, float, float]
    crowd: bool


@dataclass(frozen=True)
class RecordImage:
    """One image of the records; `encoded` are the bytes of its file, `image_id` its number over all
    splits."""

    image_id: int
    file_name: str
    encoded: bytes
    width_px: int
    height_px: int
    boxes: tuple[RecordBox, ...]


def record_images(root: Path, split: str) -> Iterator[RecordImage]:
    """The images of a split in the order of its records. DetectorError when there are no record
    files."""
    import tensorflow as tf

    files = record_files(root, split)
    if not files:
        raise DetectorError(f"no records of the {split} split: annotations/{split}.record-*: run `invoke records`")
    for data in tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator():
        yield _image(tf.train.Example.FromString(data).features.feature)


def decode_rgb(encoded: bytes):
    """The pixels of a JPEG or PNG file as stored (EXIF is not applied): uint8 [height, width, 3].

    Raises tensorflow.errors.InvalidArgumentError for anything else; `records` has refused such
    files before.
    """
    from scripts.training.inputs import decode_image

    return decode_image(encoded).numpy()


def _image(feature) -> RecordImage:
    width_px, height_px = (feature[f"image/{side}"].int64_list.value[0] for side in ("width", "height"))
    return RecordImage(
        image_id=int(feature["image/source_id"].bytes_list.value[0]),
        file_name=feature["image/filename"].bytes_list.value[0].decode(),
        encoded=feature["image/encoded"].bytes_list.value[0],
        width_px=width_px,
        height_px=height_px,
        boxes=tuple(_boxes(feature, width_px, height_px)),
    )


def _boxes(feature, width_px: int, height_px: int) -> Iterator[RecordBox]:
    edges = [feature[f"image/object/bbox/{edge}"].float_list.value for edge in ("xmin", "ymin", "xmax", "ymax")]
    label_ids = feature["image/object/class/label"].int64_list.value
    flags = [feature[f"image/object/{flag}"].int64_list.value or [0] * len(label_ids) for flag in NOT_SCORED]
    sides = (width_px, height_px, width_px, height_px)
    for index, label_id in enumerate(label_ids):
        # Records hold float32 fractions; rounding gives back the number that was written.
        xyxy_px = tuple(round(edge[index] * side, EDGE_DECIMALS) for edge, side in zip(edges, sides, strict=True))
        yield RecordBox(label_id, xyxy_px, any(flag[index] for flag in flags))


def coco_groundtruth(root: Path, split: str) -> dict:
    """The split in COCO form: `images`, `annotations` (`iscrowd` 1: not scored) and `categories` of
    the label map.

    DetectorError when records or label map are missing, or the records hold a class that the map
    does not know.
    """
    names = read_label_map(root / LABEL_MAP)
    images, annotations = [], []
    for image in record_images(root, split):
        images.append(_coco_image(image))
        for box in image.boxes:
            if box.label_id not in names:
                where = f"{image.file_name} in annotations/{split}.record-*"
                what_next = "run `invoke forget records`, then `invoke records`"
                raise DetectorError(f"class id {box.label_id} is not in the label map: {where}: {what_next}")
            annotations.append(_annotation(len(annotations) + 1, image.image_id, box))
    categories = [{"id": number, "name": name} for number, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco_image(image: RecordImage) -> dict:
    size = {"width": image.width_px, "height": image.height_px}
    return {"id": image.image_id, "file_name": image.file_name, **size}


def _annotation(number: int, image_id: int, box: RecordBox) -> dict:
    """`number` starts at 1: pycocotools takes an annotation with id 0 for a missed one."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    width_px, height_px = round(xmax - xmin, EDGE_DECIMALS), round(ymax - ymin, EDGE_DECIMALS)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": box.label_id,
        "bbox": [xmin, ymin, width_px, height_px],
        "area": round(width_px * height_px, EDGE_DECIMALS),
        "iscrowd": int(box.crowd),
    }

"""One picture as a `tf.train.Example` with all keys of the TensorFlow Object Detection format."""

import difflib
import hashlib
import os
from dataclasses import dataclass

from scripts.pictures.dataset import Picture
from scripts.pipeline.errors import DetectorError

_SIGNATURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}


@dataclass(frozen=True)
class Task:
    """One picture to write: its number over all splits, and the digest of bytes that need no decoding ("": none)."""

    picture: Picture
    source_id: int
    decoded_sha256: str = ""


def picture_format(data: bytes) -> str:
    """`jpeg` or `png` by the first bytes, "" for anything else."""
    return next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), "")


def class_id(name: str, ids: dict[str, int], where: str) -> int:
    """The id of a class name. DetectorError with the nearest name when the label map has none."""
    if name in ids:
        return ids[name]
    near = difflib.get_close_matches(name, ids, n=1)
    hint = f" (nearest: '{near[0]}')" if near else ""
    raise DetectorError(
        f"class '{name}' is not in annotations/label_map.pbtxt{hint}: {where}: run `invoke labelmap csv`"
    )


def _box_features(picture: Picture, ids: dict[str, int]) -> tuple[dict, dict, dict]:
    """The lists of `image/object/`, one value a box, by kind: floats, integers, bytes. Empty without boxes."""
    width, height = float(picture.width_px), float(picture.height_px)
    boxes, corners = picture.boxes, [box.xyxy_px for box in picture.boxes]
    floats = {
        "bbox/xmin": [xmin / width for xmin, _, _, _ in corners],
        "bbox/xmax": [xmax / width for _, _, xmax, _ in corners],
        "bbox/ymin": [ymin / height for _, ymin, _, _ in corners],
        "bbox/ymax": [ymax / height for _, _, _, ymax in corners],
        "area": [(xmax - xmin) * (ymax - ymin) for xmin, ymin, xmax, ymax in corners],
        "weight": [1.0] * len(boxes),
    }
    integers = {
        "class/label": [class_id(box.class_name, ids, picture.path.name) for box in boxes],
        "difficult": [int(box.difficult) for box in boxes],
        "truncated": [int(box.truncated) for box in boxes],
        "occluded": [int(box.occluded) for box in boxes],
        "group_of": [int(box.group_of) for box in boxes],
        "is_crowd": [int(box.is_crowd) for box in boxes],
        "depiction": [0] * len(boxes),
    }
    return floats, integers, {"class/text": [box.class_name.encode() for box in boxes], "view": [b""] * len(boxes)}


def example_bytes(picture: Picture, data: bytes, source_id: int, ids: dict[str, int], sha256: str = "") -> bytes:
    """The serialized Example of a picture; equal input gives equal bytes.

    `data` are the bytes of the picture file and `sha256` their digest ("": it is taken here), `source_id` its number
    over all splits (Model Garden's evaluation reads it as a number), `ids` the label map by name. Corners are
    normalised by the decoded size, `area` is in px².
    """
    import tensorflow as tf

    # Filled in place: built from one message for each list it takes three times as long.
    example = tf.train.Example()
    feature = example.features.feature
    floats, integers, texts = _box_features(picture, ids)
    for kind, lists in (("float_list", floats), ("int64_list", integers), ("bytes_list", texts)):
        for key, values in lists.items():
            one = getattr(feature["image/object/" + key], kind)
            one.SetInParent()  # a list without values is there all the same
            one.value.extend(values)
    feature["image/height"].int64_list.value.append(picture.height_px)
    feature["image/width"].int64_list.value.append(picture.width_px)
    whole = {
        "filename": picture.path.name.encode(),
        "source_id": str(source_id).encode(),
        "key/sha256": (sha256 or hashlib.sha256(data).hexdigest()).encode(),
        "encoded": data,
        "format": picture_format(data).encode(),
    }
    for key, value in whole.items():
        feature["image/" + key].bytes_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def make_example(task: Task, ids: dict[str, int]) -> bytes:
    """`example_bytes` of a picture file; `ids` is the label map by name.

    DetectorError when the file is missing, has another size than the CSV says, or TensorFlow cannot decode it.
    """
    picture = task.picture
    where = f"images/{picture.split}/{picture.path.name}"
    try:
        with open(picture.path, "rb", buffering=0) as file:
            data = file.readall()
    except OSError as error:
        raise DetectorError(f"picture cannot be opened ({error.strerror}): {where}: run `invoke csv`") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != task.decoded_sha256:
        _refuse_undecodable(picture, data, where)
    return example_bytes(picture, data, task.source_id, ids, sha256)


def _refuse_undecodable(picture: Picture, data: bytes, where: str) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        height_px, width_px = tf.io.decode_image(data, channels=3, expand_animations=False).shape[:2]
    except tf.errors.InvalidArgumentError:
        raise DetectorError(
            f"TensorFlow cannot decode the picture: {where}: replace or delete it, then run `invoke records`"
        ) from None
    if (width_px, height_px) != (picture.width_px, picture.height_px):
        raise DetectorError(
            f"picture is {width_px}x{height_px}, its table says {picture.width_px}x{picture.height_px}: "
            f"{where}: run `invoke csv`"
        )

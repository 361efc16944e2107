"""One picture as a `tf.train.Example` with all keys of the TensorFlow Object Detection format."""

import difflib
import hashlib
import os

from scripts.pictures.dataset import Picture
from scripts.pipeline.errors import DetectorError

_SIGNATURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}


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


def _box_features(picture: Picture, ids: dict[str, int]) -> dict[str, list]:
    """The lists of `image/object/`, one value a box: empty lists for a picture without boxes."""
    width, height = float(picture.width_px), float(picture.height_px)
    boxes, corners = picture.boxes, [box.xyxy_px for box in picture.boxes]
    return {
        "bbox/xmin": [xmin / width for xmin, _, _, _ in corners],
        "bbox/xmax": [xmax / width for _, _, xmax, _ in corners],
        "bbox/ymin": [ymin / height for _, ymin, _, _ in corners],
        "bbox/ymax": [ymax / height for _, _, _, ymax in corners],
        "class/text": [box.class_name.encode() for box in boxes],
        "class/label": [class_id(box.class_name, ids, picture.path.name) for box in boxes],
        "difficult": [int(box.difficult) for box in boxes],
        "truncated": [int(box.truncated) for box in boxes],
        "occluded": [int(box.occluded) for box in boxes],
        "group_of": [int(box.group_of) for box in boxes],
        "is_crowd": [int(box.is_crowd) for box in boxes],
        "depiction": [0 for _ in boxes],
        "area": [(xmax - xmin) * (ymax - ymin) for xmin, ymin, xmax, ymax in corners],
        "weight": [1.0 for _ in boxes],
        "view": [b"" for _ in boxes],
    }


_FLOATS = {"bbox/xmin", "bbox/xmax", "bbox/ymin", "bbox/ymax", "area", "weight"}
_BYTES = {"class/text", "view"}


def example_bytes(picture: Picture, data: bytes, source_id: int, ids: dict[str, int]) -> bytes:
    """The serialized Example of a picture; equal input gives equal bytes.

    `data` are the bytes of the picture file, `source_id` its number over all splits (Model Garden's evaluation reads
    it as a number), `ids` the label map by name. Corners are normalised by the decoded size, `area` is in px².
    """
    import tensorflow as tf

    def feature(values: list, kind: str):
        lists = {
            "float": ("float_list", tf.train.FloatList),
            "bytes": ("bytes_list", tf.train.BytesList),
            "int": ("int64_list", tf.train.Int64List),
        }
        name, list_type = lists[kind]
        return tf.train.Feature(**{name: list_type(value=values)})

    features = {
        "image/height": feature([picture.height_px], "int"),
        "image/width": feature([picture.width_px], "int"),
        "image/filename": feature([picture.path.name.encode()], "bytes"),
        "image/source_id": feature([str(source_id).encode()], "bytes"),
        "image/key/sha256": feature([hashlib.sha256(data).hexdigest().encode()], "bytes"),
        "image/encoded": feature([data], "bytes"),
        "image/format": feature([picture_format(data).encode()], "bytes"),
    }
    for key, values in _box_features(picture, ids).items():
        kind = "float" if key in _FLOATS else "bytes" if key in _BYTES else "int"
        features[f"image/object/{key}"] = feature(values, kind)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def make_example(task: tuple[Picture, int, dict[str, int]]) -> bytes:
    """`example_bytes` of a picture file, for a process pool: `task` is (picture, source id, label map by name).

    DetectorError when the file is missing, has another size than the CSV says, or TensorFlow cannot decode it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    picture, source_id, ids = task
    where = f"images/{picture.split}/{picture.path.name}"
    try:
        data = picture.path.read_bytes()
        height_px, width_px = tf.io.decode_image(data, channels=3, expand_animations=False).shape[:2]
    except OSError as error:
        raise DetectorError(f"picture cannot be opened ({error.strerror}): {where}: run `invoke csv`") from None
    except tf.errors.InvalidArgumentError:
        raise DetectorError(
            f"TensorFlow cannot decode the picture: {where}: replace or delete it, then run `invoke records`"
        ) from None
    if (width_px, height_px) != (picture.width_px, picture.height_px):
        raise DetectorError(
            f"picture is {width_px}x{height_px}, its table says {picture.width_px}x{picture.height_px}: "
            f"{where}: run `invoke csv`"
        )
    return example_bytes(picture, data, source_id, ids)

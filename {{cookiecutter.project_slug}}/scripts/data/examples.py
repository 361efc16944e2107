"""Record files of `tf.train.Example` with all keys of the TensorFlow Object Detection format.

Training, evaluation and calibration read them. The same tables and images give the same bytes, so
that equal data has equal digests on every machine.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, nearest
from scripts.data.dataset import Image

SHARD_BYTES = 100_000_000
# Each worker imports TensorFlow first, and only images that organize has not decoded cost anything:
# 1,568 such images took 7 s in one process and 18 s in two (2 busy cores).
SMALLEST_POOL = 5000
_READ_TOGETHER = 32  # records: so many images are in memory at once
_SIGNATURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}


@dataclass(frozen=True)
class Task:
    """An image to write.

    `source_id` is its number over all splits, `decoded_sha256` the digest of bytes that need no
    decoding ("": none).
    """

    image: Image
    source_id: int
    decoded_sha256: str = ""


Plan = list[tuple[str, list[Task]]]
"""The name of each record file, with its images."""


# One image as an Example.

def example_bytes(image: Image, data: bytes, source_id: int, ids: dict[str, int],
                  sha256: str = "") -> bytes:
    """Serialize the Example of an image; equal input gives equal bytes.

    Corners are normalized by the decoded size, `area` is in px².

    Args:
        image: the image with its boxes.
        data: the bytes of the image file.
        source_id: its number over all splits; Model Garden's evaluation reads it as a number.
        ids: the label map by name.
        sha256: the digest of `data`; "" computes it here.
    """
    import tensorflow as tf

    # Filled in place: built from one message for each list it takes three times as long.
    example = tf.train.Example()
    feature = example.features.feature
    for kind, lists in _box_features(image, ids).items():
        for key, values in lists.items():
            target = getattr(feature["image/object/" + key], kind)
            target.SetInParent()  # a list without values has to be there all the same
            target.value.extend(values)
    feature["image/height"].int64_list.value.append(image.height_px)
    feature["image/width"].int64_list.value.append(image.width_px)
    texts = {
        "filename": image.path.name.encode(),
        "source_id": str(source_id).encode(),
        "key/sha256": (sha256 or hashlib.sha256(data).hexdigest()).encode(),
        "encoded": data,
        "format": image_format(data).encode(),
    }
    for key, value in texts.items():
        feature["image/" + key].bytes_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def _box_features(image: Image, ids: dict[str, int]) -> dict[str, dict[str, list]]:
    """Return the lists of `image/object/` by kind and key, with one value a box."""
    width, height = float(image.width_px), float(image.height_px)
    boxes, corners = image.boxes, [box.xyxy_px for box in image.boxes]
    floats = {
        "bbox/xmin": [xmin / width for xmin, _, _, _ in corners],
        "bbox/xmax": [xmax / width for _, _, xmax, _ in corners],
        "bbox/ymin": [ymin / height for _, ymin, _, _ in corners],
        "bbox/ymax": [ymax / height for _, _, _, ymax in corners],
        "area": [(xmax - xmin) * (ymax - ymin) for xmin, ymin, xmax, ymax in corners],
        "weight": [1.0] * len(boxes),
    }
    integers = {
        "class/label": [class_id(box.class_name, ids, image.path.name) for box in boxes],
        "difficult": [int(box.difficult) for box in boxes],
        "truncated": [int(box.truncated) for box in boxes],
        "occluded": [int(box.occluded) for box in boxes],
        "group_of": [int(box.group_of) for box in boxes],
        "is_crowd": [int(box.is_crowd) for box in boxes],
        "depiction": [0] * len(boxes),
    }
    texts = {"class/text": [box.class_name.encode() for box in boxes], "view": [b""] * len(boxes)}
    return {"float_list": floats, "int64_list": integers, "bytes_list": texts}


def image_format(data: bytes) -> str:
    """Return `jpeg` or `png` by the first bytes, "" for anything else."""
    return next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), "")


def class_id(name: str, ids: dict[str, int], where: str) -> int:
    """Return the id of a class; DetectorError with the nearest name when the map has none."""
    if name in ids:
        return ids[name]
    near = nearest(name, ids)
    hint = f" (nearest: '{near}')" if near else ""
    raise DetectorError(f"class '{name}' is not in annotations/label_map.pbtxt{hint}: {where}: "
                        "run `invoke labelmap csv`")


def make_example(task: Task, ids: dict[str, int]) -> bytes:
    """Return `example_bytes` of an image file; `ids` is the label map by name.

    Raises:
        DetectorError: The file is missing, has another size than the table says, or TensorFlow
            cannot decode it.
    """
    image, where = task.image, _shown(task.image)
    try:
        with open(image.path, "rb", buffering=0) as file:
            data = file.readall()
    except OSError as error:
        raise DetectorError(f"image cannot be opened ({error.strerror}): {where}: "
                            "run `invoke csv`") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != task.decoded_sha256:
        _require_decodable(image, data, where)
    return example_bytes(image, data, task.source_id, ids, sha256)


def _shown(image: Image) -> str:
    return f"images/{image.split}/{image.path.name}"


def _require_decodable(image: Image, data: bytes, where: str) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        raise DetectorError(f"TensorFlow cannot decode the image: {where}: replace or delete it, "
                            "then run `invoke records`") from None
    height_px, width_px = pixels.shape[:2]
    if (width_px, height_px) != (image.width_px, image.height_px):
        raise DetectorError(f"image is {width_px}x{height_px}, its table says "
                            f"{image.width_px}x{image.height_px}: {where}: run `invoke csv`")


# Many images as record files.

def plan_files(tables: dict[str, list[Image]], decoded: dict[tuple[str, int, int], str]) -> Plan:
    """Distribute the images over record files; source ids count from 1 over all splits.

    Args:
        tables: the images by split.
        decoded: the SHA-256 of images that TensorFlow can decode, by name without extension, width
            and height in pixels.
    """
    first, plan = 1, []
    for split, images in tables.items():
        numbers = {image.path.name: number for number, image in enumerate(images, first)}
        first += len(images)
        shards = _shards(images)
        for index, shard in enumerate(shards):
            tasks = [Task(image, numbers[image.path.name], decoded.get(_key(image), ""))
                     for image in shard]
            plan.append((f"{split}.record-{index:05d}-of-{len(shards):05d}", tasks))
    return plan


def _key(image: Image) -> tuple[str, int, int]:
    return image.path.stem, image.width_px, image.height_px


def _shards(images: list[Image]) -> list[list[Image]]:
    """Return the images in shards of about SHARD_BYTES."""
    # Mixed, because neighbors in a folder are often of one class or one scene.
    mixed = sorted(images, key=lambda image: hashlib.sha256(image.path.name.encode()).digest())
    sizes = [_file_bytes(image) for image in mixed]
    total = sum(sizes)
    count = max(1, round(total / SHARD_BYTES))
    shards, done = [[] for _ in range(count)], 0
    for image, size in zip(mixed, sizes, strict=True):
        shards[min(count - 1, done * count // max(1, total))].append(image)
        done += size
    return shards


def _file_bytes(image: Image) -> int:
    try:
        return os.stat(image.path).st_size
    except OSError:
        raise DetectorError(f"image is missing: {_shown(image)}: run `invoke csv`") from None


def write_files(folder: Path, plan: Plan, ids: dict[str, int],
                processes: int | None = None) -> tuple[int, int]:
    """Write the record files of a plan; return the images and boxes read back from them.

    Args:
        folder: where the files go.
        plan: what `plan_files` returned.
        ids: the label map by name.
        processes: None uses one for each core when many images have to be decoded, else one.

    Raises:
        DetectorError: as `make_example`, and when not everything reads back.
    """
    tasks = [task for _, shard in plan for task in shard]
    if processes is None and sum(not task.decoded_sha256 for task in tasks) < SMALLEST_POOL:
        processes = 1
    examples = map_items(partial(make_example, ids=ids), tasks, "records", processes)
    with ThreadPoolExecutor(1) as reader:  # a file is read back while the next one is written
        counts = []
        for name, shard in plan:
            _write_file(folder / name, examples, len(shard))
            counts.append(reader.submit(_read_back, folder / name, shard))
        found = [count.result() for count in counts]
    return sum(images for images, _ in found), sum(boxes for _, boxes in found)


def _write_file(path: Path, examples: Iterator[bytes], count: int) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(next(examples))


def _read_back(path: Path, shard: list[Task]) -> tuple[int, int]:
    """Count as `count_records`; DetectorError when not everything arrived."""
    import tensorflow as tf

    written = len(shard), sum(len(task.image.boxes) for task in shard)
    try:
        found = count_records(path)
    except tf.errors.DataLossError:  # a checksum is wrong, or the end is missing
        found = 0, 0
    if found != written:
        raise DetectorError(f"{found[0]} images and {found[1]} boxes read back, {written[0]} and "
                            f"{written[1]} written: annotations/{path.name}: look whether the disk "
                            "is full, then `invoke records`")
    return found


# Reading record files.

def count_records(path: Path) -> tuple[int, int]:
    """Count images and boxes in a record file; TensorFlow compares every checksum."""
    import tensorflow as tf

    images = boxes = 0
    records = tf.data.TFRecordDataset(str(path), buffer_size=1 << 20)
    for batch in records.batch(_READ_TOGETHER).prefetch(1).as_numpy_iterator():
        for data in batch:
            feature = tf.train.Example.FromString(data).features.feature
            images += 1
            boxes += len(feature["image/object/class/label"].int64_list.value)
    return images, boxes


def record_names(files: list[Path]) -> Iterator[str]:
    """Yield the file names of the images in record files, in their order."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset([str(path) for path in files])
    for data in records.as_numpy_iterator():
        feature = tf.train.Example.FromString(data).features.feature
        yield feature["image/filename"].bytes_list.value[0].decode()

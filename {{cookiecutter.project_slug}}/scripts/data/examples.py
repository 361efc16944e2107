"""One picture as a `tf.train.Example` with all keys of the TensorFlow Object Detection format."""

import difflib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.box_table import read_table, table_path
from scripts.data.dataset import SPLITS, Picture
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.data.manifest import read_ledger

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


# `annotations/{split}.record-NNNNN-of-NNNNN`: what training, evaluation and calibration read.

SHARD_BYTES = 100_000_000
# Each worker imports TensorFlow first, and only pictures that organize has not decoded cost anything:
# 1,568 such pictures took 7 s in one process and 18 s in two (2 busy cores).
SMALLEST_POOL = 5000
_READ_TOGETHER = 32  # records: so many pictures are in memory at once
Plan = list[tuple[str, list[Task]]]


@dataclass(frozen=True)
class RecordCounts:
    """Pictures and boxes in the records, as counted by reading them back, and files written."""

    pictures: int
    boxes: int
    files: int

    def __str__(self) -> str:
        texts = [counted(self.pictures, "picture"), counted(self.boxes, "box", "boxes")]
        return f"{', '.join(texts)} in {counted(self.files, 'file')}, read back"


def record_files(root: Path, split: str) -> list[Path]:
    """The record files of a split in order; an empty list when there are none."""
    return sorted((root / "annotations").glob(f"{split}.record-?????-of-?????"))


def record_names(root: Path, split: str) -> Iterator[str]:
    """File names of the pictures of a split, in the order of its records."""
    import tensorflow as tf

    for data in tf.data.TFRecordDataset([str(path) for path in record_files(root, split)]).as_numpy_iterator():
        yield tf.train.Example.FromString(data).features.feature["image/filename"].bytes_list.value[0].decode()


def _shards(pictures: list[Picture]) -> list[list[Picture]]:
    """Pictures in shards of about SHARD_BYTES, mixed: neighbours in a folder are often of one class or one scene."""
    mixed = sorted(pictures, key=lambda picture: hashlib.sha256(picture.path.name.encode()).digest())
    sizes = [_size(picture) for picture in mixed]
    total = sum(sizes)
    count = max(1, round(total / SHARD_BYTES))
    shards, done = [[] for _ in range(count)], 0
    for picture, size in zip(mixed, sizes, strict=True):
        shards[min(count - 1, done * count // max(1, total))].append(picture)
        done += size
    return shards


def _size(picture: Picture) -> int:
    try:
        return os.stat(picture.path).st_size
    except OSError:
        raise DetectorError(
            f"picture is missing: images/{picture.split}/{picture.path.name}: run `invoke csv`"
        ) from None


def _decoded(root: Path) -> dict[tuple[str, int, int], str]:
    """Digests of the pictures that organize has decoded, by name and size in px, where TensorFlow can do so too.

    Others are decoded here, so that nothing broken waits in the middle of training.
    """
    return {
        (entry["name"], entry["width"], entry["height"]): entry["picture_sha256"] or ""
        for entry in read_ledger(root)["pictures"]
        if entry.get("whole") and entry.get("picture_sha256")
    }


def _plan(root: Path) -> Plan:
    """Every record file's name with its pictures; source ids are counted from 1 over all splits."""
    tables = {split: read_table(table_path(root, split)) for split in SPLITS}
    if not tables["train"]:
        raise DetectorError(
            "no pictures to train on: annotations/train_labels.csv: add pictures, then `invoke organize`"
        )
    decoded, start, plan = _decoded(root), 1, []
    for split, pictures in tables.items():
        numbers = {picture.path.name: number for number, picture in enumerate(pictures, start)}
        start += len(pictures)
        shards = _shards(pictures)
        for index, shard in enumerate(shards):
            tasks = [Task(one, numbers[one.path.name], decoded.get(_key(one), "")) for one in shard]
            plan.append((f"{split}.record-{index:05d}-of-{len(shards):05d}", tasks))
    return plan


def _key(picture: Picture) -> tuple[str, int, int]:
    return picture.path.stem, picture.width_px, picture.height_px


def _write_file(path: Path, examples: Iterator[bytes], count: int) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(next(examples))


def count_records(path: Path) -> tuple[int, int]:
    """Pictures and boxes in a record file, by reading it: TensorFlow compares every checksum."""
    import tensorflow as tf

    pictures = boxes = 0
    records = tf.data.TFRecordDataset(str(path), buffer_size=1 << 20)
    for batch in records.batch(_READ_TOGETHER).prefetch(1).as_numpy_iterator():
        for data in batch:
            feature = tf.train.Example.FromString(data).features.feature
            pictures += 1
            boxes += len(feature["image/object/class/label"].int64_list.value)
    return pictures, boxes


def _write_all(folder: Path, plan: Plan, ids: dict[str, int], processes: int | None) -> tuple[int, int]:
    tasks = [task for _, shard in plan for task in shard]
    if processes is None and sum(not task.decoded_sha256 for task in tasks) < SMALLEST_POOL:
        processes = 1
    examples = map_items(partial(make_example, ids=ids), tasks, "records", processes)
    with ThreadPoolExecutor(1) as reader:  # one file is read back while the next one is written
        counts = []
        for name, shard in plan:
            _write_file(folder / name, examples, len(shard))
            counts.append(reader.submit(_read_back, folder / name, shard))
        found = [count.result() for count in counts]
    return sum(pictures for pictures, _ in found), sum(boxes for _, boxes in found)


def _read_back(path: Path, shard: list[Task]) -> tuple[int, int]:
    """`count_records`. DetectorError when not everything arrived."""
    import tensorflow as tf

    wanted = len(shard), sum(len(task.picture.boxes) for task in shard)
    try:
        found = count_records(path)
    except tf.errors.DataLossError:  # a checksum is wrong, or the end is missing
        found = 0, 0
    if found != wanted:
        raise DetectorError(
            f"{found[0]} pictures and {found[1]} boxes read back, {wanted[0]} and {wanted[1]} written: "
            f"annotations/{path.name}: look whether the disk is full, then `invoke records`"
        )
    return found


def write_records(root: Path, processes: int | None = None) -> RecordCounts:
    """Write the record files of all splits from CSV, pictures and label map; the same input gives the same bytes.

    `processes` None: one for each core when many pictures have to be decoded, else one. The files are read back and
    counted before they replace older ones. DetectorError for a class without id, and a missing or changed picture.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ids = {name: number for number, name in read_label_map(root / LABEL_MAP).items()}
    plan = _plan(root)
    annotations = root / "annotations"
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=annotations) as folder:
        pictures, boxes = _write_all(Path(folder), plan, ids, processes)
        for name, _ in plan:
            os.replace(Path(folder) / name, annotations / name)
    names = {name for name, _ in plan}
    for split in SPLITS:
        for path in record_files(root, split):
            if path.name not in names:
                path.unlink()
    return RecordCounts(pictures, boxes, len(plan))

"""`annotations/{split}.record-NNNNN-of-NNNNN`: what training, evaluation and calibration read."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.pictures.dataset import Picture
from scripts.pictures.ledger import read_ledger
from scripts.pictures.pool import map_items
from scripts.pictures.split import SPLITS
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.words import counted
from scripts.records.example import Task, make_example
from scripts.records.label_map import LABEL_MAP, read_label_map
from scripts.records.table import read_table, table_path

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

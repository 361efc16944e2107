"""The record files, read back with TensorFlow."""

import hashlib

import pytest

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.steps.labelmap import labelmap
from scripts.steps.records import records
from scripts.steps.tables import tables

pytestmark = pytest.mark.slow


def prepare(project):
    for split in ("train", "validation", "test"):
        project.add(f"{split}/{split}.jpg", [("apple", (6, 4, 30, 20)), ("pear", (0, 0, 60, 40))])
    project.add("train/png.jpg", [("pear", (1.5, 2, 3, 4))], data=project.bytes_of("p", form="PNG"))
    project.add("train/none.jpg", [])
    project.organize()
    labelmap(project.root, [])
    tables(project.root)
    return project


def read_back(project, split: str) -> dict[str, dict]:
    """Values by key of every example, by file name."""
    import tensorflow as tf

    found = {}
    for path in Layout(project.root).records(split):
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(data).features.feature
            values = {key: list(getattr(value, value.WhichOneof("kind")).value)
                      for key, value in feature.items()}
            found[values["image/filename"][0].decode()] = values
    return found


def test_examples_hold_all_keys_with_normalized_boxes(project):
    prepare(project)
    assert str(records(project.root)) == "5 images, 7 boxes in 3 files, read back"
    train = read_back(project, "train")
    values = train["train.jpg"]
    data = project.find("train.jpg").read_bytes()
    assert values["image/encoded"] == [data]
    assert values["image/key/sha256"] == [hashlib.sha256(data).hexdigest().encode()]
    facts = [values[f"image/{key}"] for key in ("width", "height", "format")]
    assert facts == [[60], [40], [b"jpeg"]]
    assert values["image/object/class/text"] == [b"apple", b"pear"]
    assert values["image/object/class/label"] == [1, 2]
    corners = [values[f"image/object/bbox/{key}"] for key in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == [pytest.approx(row) for row in ([0.1, 0], [0.1, 0], [0.5, 1], [0.5, 1])]
    assert values["image/object/area"] == pytest.approx([24 * 16, 60 * 40])
    assert len({len(values[key]) for key in values if key.startswith("image/object/")}) == 1
    assert train["png.png"]["image/format"] == [b"png"]
    none = train["none.jpg"]
    assert [none[key] for key in none if key.startswith("image/object/")] == [[]] * 15


def test_source_ids_are_numbers_and_unique_over_all_splits(project):
    records(prepare(project).root)
    ids = [one["image/source_id"][0] for split in ("train", "validation", "test")
           for one in read_back(project, split).values()]  # fmt: skip
    assert sorted(map(int, ids)) == [1, 2, 3, 4, 5]


def test_bytes_are_the_same_again_and_with_several_processes(project):
    prepare(project)

    def digests():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for split in ("train", "validation", "test")
                for path in Layout(project.root).records(split)}  # fmt: skip

    records(project.root)
    first = digests()
    records(project.root, processes=2)
    assert digests() == first and len(first) == 3


def test_only_images_that_organize_has_not_decoded_are_decoded_here(project, monkeypatch):
    import tensorflow as tf

    prepare(project)
    decoded, original = [], tf.io.decode_image
    monkeypatch.setattr(tf.io, "decode_image",
                        lambda data, **rest: decoded.append(data) or original(data, **rest))
    records(project.root)
    assert decoded == []
    own = project.bytes_of("another of the same size")
    project.find("train.jpg").write_bytes(own)
    tables(project.root)
    records(project.root)
    assert decoded == [own]


def test_a_damaged_image_that_only_pillow_reads_is_found_before_training(project):
    # The end mark is gone, and damage within: Pillow shows it, TensorFlow refuses it.
    data = bytearray(project.bytes_of("x", (320, 240)))
    data[-2:] = b"\xff\xd5"
    del data[len(data) // 2 : len(data) // 2 + 9]
    for split in ("train", "validation", "test"):
        project.add(f"{split}/{split}.jpg")
    project.add("train/damaged.jpg", size=(320, 240))
    project.organize()
    project.find("damaged.jpg").write_bytes(data)  # somebody's copy, after organize
    with pytest.raises(DetectorError, match="E010"):
        project.check()
    labelmap(project.root, [])
    tables(project.root)
    with pytest.raises(DetectorError, match="cannot decode the image: images/train/damaged.jpg"):
        records(project.root)


def test_large_sets_are_sharded_and_older_shards_removed(project, monkeypatch):
    prepare(project)
    monkeypatch.setattr("scripts.data.examples.SHARD_BYTES", 600)
    records(project.root)
    assert len(Layout(project.root).records("train")) > 1 and len(read_back(project, "train")) == 3
    monkeypatch.undo()
    records(project.root)
    (path,) = Layout(project.root).records("train")
    assert path.name == "train.record-00000-of-00001"
    assert not list((project.root / "annotations").glob(".partial-*"))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda project: project.find("png.png").unlink(),
         "image is missing: images/train/png.png"),
        (lambda project: project.find("train.jpg").write_bytes(project.bytes_of("x", (61, 40))),
         "table says 60x40"),
        (lambda project: project.find("train.jpg").write_bytes(b"no image"), "cannot decode"),
        (lambda project: Layout(project.root).label_map.write_text("item{id:1 name:'aple'}"),
         "class 'apple' is not in annotations/label_map.pbtxt .nearest: 'aple'"),
    ],
)  # fmt: skip
def test_what_changed_since_is_one_line_and_leaves_the_old_files(project, break_it, words):
    records(prepare(project).root)
    before = {path: path.read_bytes() for path in Layout(project.root).records("train")}
    break_it(project)
    with pytest.raises(DetectorError, match=words) as caught:
        records(project.root)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in Layout(project.root).records("train")} == before


def test_a_file_that_does_not_read_back_is_one_line_and_keeps_the_old_one(project, monkeypatch):
    from scripts.data import examples

    records(prepare(project).root)
    before = {path: path.read_bytes() for path in Layout(project.root).records("train")}
    original = examples._write_file

    def damaged(path, *rest):
        original(path, *rest)
        data = bytearray(path.read_bytes())
        data[-10] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(examples, "_write_file", damaged)
    with pytest.raises(DetectorError,
                       match="read back, 3 and .* written: annotations/train.record-00000"):
        records(project.root)
    assert {path: path.read_bytes() for path in Layout(project.root).records("train")} == before

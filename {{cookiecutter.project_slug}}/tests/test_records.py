"""The CSV tables: the tutorial's columns, nothing lost without a word."""

import hashlib
import json

import pytest

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.box_table import read_table
from scripts.data.label_map import read_label_map, write_label_map
from scripts.steps.labelmap import labelmap
from scripts.steps.records import records
from scripts.steps.tables import tables

HEADER = ("filename,width,height,class,xmin,ymin,xmax,ymax,difficult,truncated,occluded,group_of,"
          "is_crowd")


def written(project):
    """Counts and the lines of the train table, with all images in train."""
    for split in ("test", "validation"):
        project.add(f"{split}/{split}.jpg")
    project.organize()
    labelmap(project.root, ["apple", 'a "b", c'])
    counts = tables(project.root)
    return counts, Layout(project.root).table("train").read_text("utf-8").splitlines()


def test_columns_order_and_numbers(project):
    project.add("train/b.jpg", [("apple", (5, 5.25, 30, 20)), ('a "b", c', (1, 2, 3, 4))])
    project.add("train/a.png", [], data=project.bytes_of("a", form="PNG"))
    counts, lines = written(project)
    assert lines == [
        HEADER,
        "a.png,60,40,,,,,,,,,,",
        "b.jpg,60,40,apple,5,5.25,30,20,0,0,0,0,0",
        'b.jpg,60,40,"a ""b"", c",1,2,3,4,0,0,0,0,0',
    ]
    assert str(counts) == "4 images, 4 boxes"


def test_accepted_broken_boxes_are_clipped_or_dropped_and_named(project):
    boxes = [
        ("apple", (-5, 5, 70, 20)), ("apple", (20, 5, 10, 30)), ("apple", (5, 5, 5, 9)),
        ("apple", (70, 5, 90, 9)),
        ("apple", ("x", 5, 9, 9)), ("pear", (1, 1, 9, 9)), ("apple", (1, 1, 9, 9)),
    ]  # fmt: skip
    project.add("train/a.jpg", boxes)
    counts, lines = written(project)
    assert lines[1:] == ["a.jpg,60,40,apple,0,5,60,20,0,0,0,0,0",
                         "a.jpg,60,40,apple,1,1,9,9,0,0,0,0,0"]
    text = str(counts)
    assert "1 box clipped (../source/train/a.xml:8)" in text and "1 inverted box dropped" in text
    places = "../source/train/a.xml:26, ../source/train/a.xml:35"
    assert f"2 boxes without area dropped ({places})" in text
    changes = json.loads((project.root / "annotations/csv.json").read_text("utf-8"))["changes"]
    assert len(changes) == 6 and {change["class"] for change in changes} == {"apple", "pear"}


def test_images_that_cannot_be_read_are_left_out_and_counted(project):
    project.add("train/a.jpg")
    project.add("train/b.jpg")
    project.organize()
    project.find("b.jpg").write_bytes(project.bytes_of("b")[:-30])
    counts, lines = written(project)
    assert [line.split(",")[0] for line in lines[1:]] == ["a.jpg"]
    assert "1 unreadable image left out (../source/train/b.jpg)" in str(counts)


def test_sizes_are_those_of_the_image_and_not_of_the_label_file(project):
    project.add("train/a.jpg", declared=(999, 999))
    assert written(project)[1][1].startswith("a.jpg,60,40,")


def test_flags_stand_in_their_columns(project):
    text = project.text_of("a.jpg", [("apple", (1, 2, 3, 4))])
    project.add("train/a.jpg",
                text=text.replace("<bndbox>",
                                  "<truncated>1</truncated><group_of>1</group_of><bndbox>"))
    assert written(project)[1][1].endswith(",1,2,3,4,0,1,0,1,0")


def test_a_table_reads_back_as_it_was_written(project):
    project.add("train/a b#%20é.jpg", [("apple", (5, 5.25, 30, 20)), ('a "b", c', (1, 2, 3, 4))])
    project.add("train/none.jpg", [])
    written(project)
    first, second = read_table(Layout(project.root).table("train"), project.root / "images/train")
    assert first.path == project.root / "images/train/a b#%20é.jpg" and first.path.exists()
    assert [(box.class_name, box.xyxy_px) for box in first.boxes] == [
        ("apple", (5.0, 5.25, 30.0, 20.0)), ('a "b", c', (1.0, 2.0, 3.0, 4.0)),
    ]  # fmt: skip
    assert second.boxes == () and (second.width_px, second.height_px) == (60, 40)


def test_a_table_of_the_tutorial_has_other_columns_in_another_order(project):
    path = Layout(project.root).table("test")
    path.parent.mkdir(parents=True)
    path.write_text("class,filename,width,height,xmin,ymin,xmax,ymax,group_of\n"
                    "fig,a.jpg,60,40,1,2,3,4,1\n\n"
                    "fig,a.jpg,60,40,5,6,7,8\n")  # fmt: skip
    (image,) = read_table(path)
    assert [(box.xyxy_px, box.group_of, box.difficult, box.line) for box in image.boxes] == [
        ((1, 2, 3, 4), True, False, 2), ((5, 6, 7, 8), False, False, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [("filename,width\n", "column 'height' is missing"),
     (HEADER + "\na.jpg,60,40,apple,x,1,2,3,0,0,0,0,0\n", ":2")],
)
def test_a_broken_table_is_one_line(project, text, words):
    path = Layout(project.root).table("train")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DetectorError, match=words):
        read_table(path)


# The label map: protobuf text as people write it, and ids that never change.


@pytest.fixture
def path(tmp_path):
    (tmp_path / "annotations").mkdir()
    return tmp_path / "annotations/label_map.pbtxt"


@pytest.mark.parametrize(
    "text",
    [
        "item {\n  id: 1\n  name: 'Apple'\n}\nitem {\n  id: 2\n  name: 'Bell pepper'\n}\n",
        # one line, name first, double quotes
        'item { name: "Apple" id: 1 } item { name: "Bell pepper" id: 2 }',
        "item: {id: 1, name: 'Apple',}\nitem: <id: 2; name: 'Bell pepper'>",
        "# id: 9\nitem {id: 1 # id: 7\nname: 'Apple' display_name: 'Fruit: apple'}\n"
        "item{id:2 name:'Bell' ' pepper'}",
        # Windows Notepad
        "\ufeffitem {id: 1 name: 'Apple'}\r\nitem {id: 2 name: 'Bell pepper'}\r\n",
        "item {id: 1 name: 'Apple' keypoints {id: 5 label: 'stem'} ancestor_ids: ['a', 'b'] "
        "frequency: FREQUENT}item [{id: 0x2 name: 'Bell pepper'}]",
        "other: 1 item {id: 2 name: 'Bell pepper' instance_count: -3} "
        "item {id: 1 name: '\\101pple'}",
    ],
)
def test_every_way_to_write_it_reads_the_same(path, text):
    path.write_text(text, "utf-8", newline="")
    assert read_label_map(path) == {1: "Apple", 2: "Bell pepper"}


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("item {\n id: 0\n name: 'a'\n}", "is not a number from 1", 2),
        ("item {\n id: 'x'\n name: 'a'\n}", "Couldn't parse integer: 'x'", 2),
        ("item {id: 1 name: 'a'}\nitem {id: 1 name: 'b'}", "id 1 is already that of 'a'", 2),
        ("item {id: 1 name: 'a'}\nitem {id: 2 name: 'a'}", "name 'a' already has id 1", 2),
        ("item {\n id: 1\n name: 'a'\n id: 2\n name: 'b'\n}", 'should not have multiple "id"', 4),
        ("item {\n id: 1\n}", "item has no 'name'", 1),
        ("item {\n name: 'a'\n}", "item has no 'id'", 1),
        ("item {id: 1 name: ''}", "name is empty", 1),
        ("item {\n id: 1\n name: 'a'\n}\nitem {\n name: 'b'\n id: 1\n}",
         "id 1 is already that of 'a'", 7),
        ("# {\nx {id: 5}\nitem <id: 3 name: '{'>\nitem {\n name: 'a' # id: 1\n\n id: -1}",
         "id -1 is not", 7),
        ("item {id: 1 name: Apple}", "Expected string but found: 'Apple'", 1),
        ("// apples\nitem {id: 1 name: 'a'}", "comments begin with #", 1),
        ("item {\n id: 1\n name: 'a'\n", 'Expected "}"', 3),
        ("item {\n id: 1\n name: 'a\n}", "missing ending quote", 3),
        ("item {\n id 1\n}", 'Expected ":"', 2),
        ("item: 3", 'Expected "{"', 1),
        ("item {id: 1 name: '\\377'}", "'utf-8' codec can't decode", 1),
        ("", "has no item", None),
    ],
)
def test_what_others_garble_is_refused_with_the_line(path, text, words, line):
    path.write_text(text, "utf-8")
    where = "annotations/label_map.pbtxt" + (f":{line}:" if line else "")
    with pytest.raises(DetectorError, match=where) as caught:
        read_label_map(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_display_names_are_read_where_they_are_asked_for(path):
    path.write_text("item {id: 2 name: '/m/01g317' display_name: 'person'} "
                    "item {id: 1 name: 'car'}")
    assert read_label_map(path, display=True) == {1: "car", 2: "person"}


def test_names_survive_writing_and_reading(path):
    ids = {
        1: "it's",
        2: 'a "b"',
        3: "back\\slash",
        4: "Kitchen & dining room table",
        5: "Ärger 苹果 🍎",
        9: "tab\there",
    }
    write_label_map(path, ids)
    assert read_label_map(path) == ids
    first = "item {\n  id: 1\n  name: \"it\\'s\"\n  display_name: \"it\\'s\"\n}\n"
    assert path.read_text("utf-8").startswith(first)


def test_ids_begin_at_one_by_name_and_stay_when_classes_come(project):
    project.add("a.jpg", [("pear", (1, 1, 9, 9)), ("apple", (1, 1, 9, 9))])
    project.organize()
    path = project.root / "annotations/label_map.pbtxt"
    labelmap(project.root, [])
    assert read_label_map(path) == {1: "apple", 2: "pear"}
    project.add("b.jpg", [("banana", (1, 1, 9, 9))])
    project.organize()
    assert "1 new" in str(labelmap(project.root, []))
    assert read_label_map(path) == {1: "apple", 2: "pear", 3: "banana"}


def test_a_map_written_by_hand_is_kept_as_it_is(project):
    project.add("a.jpg")
    project.organize()
    path = project.root / "annotations/label_map.pbtxt"
    text = "# mine\nitem {name: \"ghost\" id: 4}\nitem {id: 7 name: 'apple'}\n"
    path.write_text(text)
    assert "1 without boxes, kept (ghost" in str(labelmap(project.root, []))
    assert path.read_text() == text
    project.add("b.jpg", [("new", (1, 1, 9, 9))])
    project.organize()
    labelmap(project.root, [])
    assert read_label_map(path) == {4: "ghost", 7: "apple", 8: "new"}


def test_labels_of_the_settings_give_the_order(project):
    project.add("a.jpg", [("apple", (1, 1, 9, 9)), ("pear", (1, 1, 9, 9))])
    project.organize()
    labelmap(project.root, ["pear", "apple"])
    assert read_label_map(project.root / "annotations/label_map.pbtxt") == {1: "pear", 2: "apple"}


def test_no_class_at_all_is_one_line(project):
    project.add("a.jpg", [])
    project.organize()
    with pytest.raises(DetectorError, match="invoke labelmap"):
        labelmap(project.root, [])


# The record files, read back with TensorFlow.


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_source_ids_are_numbers_and_unique_over_all_splits(project):
    records(prepare(project).root)
    ids = [one["image/source_id"][0] for split in ("train", "validation", "test")
           for one in read_back(project, split).values()]  # fmt: skip
    assert sorted(map(int, ids)) == [1, 2, 3, 4, 5]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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

"""The label map: protobuf text as people write it, and ids that never change."""

import pytest

from scripts.core.text import DetectorError
from scripts.data.label_map import read_label_map, write_label_map
from scripts.steps.labelmap import labelmap


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

"""The CSV tables: the tutorial's columns, nothing lost without a word."""

import json

import pytest

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.box_table import read_table
from scripts.steps.labelmap import labelmap
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

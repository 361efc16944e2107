"""COCO files as tools write them."""

import json
import math

import pytest

from scripts.data.dataset import LabelError, NotALabelError
from scripts.data.formats.coco import read


def write(tmp_path, content, indent=None):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=indent), "utf-8")
    return path


def coco(annotations, images=None, categories=None) -> dict:
    images = images or [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 80}]
    categories = categories or [{"id": 0, "name": "z"}, {"id": 7, "name": "apple", "supercategory": "z"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def one(**values) -> dict:
    return {"id": 5, "image_id": 0, "category_id": 7, "bbox": [10, 20, 30.5, 40], **values}


def read_box(tmp_path, **values):
    (entry,) = read(write(tmp_path, coco([one(**values)]))).entries
    (box,) = entry.boxes
    return box, entry


def test_a_box_its_name_and_the_size_of_its_image(tmp_path):
    box, entry = read_box(tmp_path)
    assert (box.class_name, box.xyxy_px) == ("apple", (10, 20, 40.5, 60))
    assert (entry.image, entry.width_px, entry.height_px, entry.fractions) == ("a.jpg", 100, 80, False)


def test_ids_with_holes_as_text_and_before_they_are_declared(tmp_path):
    content = {
        "annotations": [one(image_id="12", category_id="3"), one(image_id=4.0, category_id=0)],
        "categories": [{"id": 3, "name": "pear"}, {"id": "0", "name": "plum"}],
        "images": [{"id": "4", "file_name": "four.jpg"}, {"id": 12, "file_name": "twelve.jpg"}],
    }
    file = read(write(tmp_path, content))
    found = [(entry.image, [box.class_name for box in entry.boxes]) for entry in file.entries]
    assert found == [("four.jpg", ["plum"]), ("twelve.jpg", ["pear"])]
    assert not file.notes


def test_an_image_without_annotations_is_an_entry_without_boxes(tmp_path):
    images = [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "empty.jpg"}]
    file = read(write(tmp_path, coco([one()], images)))
    assert [(entry.image, len(entry.boxes)) for entry in file.entries] == [("a.jpg", 1), ("empty.jpg", 0)]


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"iscrowd": 1}, {"is_crowd"}),
        ({"iscrowd": 0, "attributes": {}}, set()),
        ({"attributes": {"occluded": True, "truncated": 0, "rotation": 0.0}}, {"occluded"}),
        ({"attributes": {"group_of": "true", "difficult": 1}}, {"group_of", "difficult"}),
    ],
)
def test_flags(tmp_path, values, flags):
    box, _ = read_box(tmp_path, **values)
    names = ("difficult", "truncated", "occluded", "group_of", "is_crowd")
    assert {name for name in names if getattr(box, name)} == flags


@pytest.mark.parametrize("bbox", [[1, 2, 3], [1, 2, 3, "x"], [1, 2, None, 4], ["nan", 2, 3, 4], {"x": 1}])
def test_a_bbox_that_is_none_is_a_box_without_numbers(tmp_path, bbox):
    box, _ = read_box(tmp_path, bbox=bbox)
    assert any(map(math.isnan, box.xyxy_px))


def test_a_polygon_becomes_the_box_around_it(tmp_path):
    polygons = [[10, 10, 50, 12, 30, 60], [5, 20, 6, 20, 6, 21]]
    box, entry = read_box(tmp_path, bbox=[], segmentation=polygons)
    assert box.xyxy_px == (5, 10, 50, 60)
    assert [note.code for note in entry.notes] == ["R213"]


def test_a_turned_box_becomes_the_box_around_it(tmp_path):
    box, entry = read_box(tmp_path, bbox=[10, 20, 40, 20], attributes={"rotation": 90})
    assert box.xyxy_px == pytest.approx((20, 10, 40, 50))
    assert [note.code for note in entry.notes] == ["R213"]


def test_a_mask_without_bbox_is_left_out_and_said(tmp_path):
    mask = {"id": 9, "image_id": 0, "category_id": 7, "segmentation": {"counts": [1, 2], "size": [80, 100]}}
    (entry,) = read(write(tmp_path, coco([one(), mask]))).entries
    assert len(entry.boxes) == 1
    assert [note.code for note in entry.notes] == ["W118"] and "annotation 9" in entry.notes[0].message


def test_unknown_ids_are_said_and_no_box_gets_lost(tmp_path):
    file = read(write(tmp_path, coco([one(category_id=99), one(image_id=8)])))
    assert file.entries[0].boxes[0].class_name == "class_99"
    assert [note.code for note in file.notes] == ["W116", "W118"]
    assert "'8'" in file.notes[1].message and file.notes[1].line == 1


def test_each_box_has_the_line_of_its_annotation(tmp_path):
    path = write(tmp_path, coco([one(), one()]), indent=1)
    (entry,) = read(path).entries
    lines = path.read_text("utf-8").split("\n")
    places = [number for number, line in enumerate(lines, 1) if line == "  {"]
    assert [entry.line, *(box.line for box in entry.boxes)] == places[:3]
    assert {box.line for box in read(write(tmp_path, coco([one()]))).entries[0].boxes} == {1}


@pytest.mark.parametrize(("width", "xmax", "noted"), [(90.005, 100, 1), (90.5, 100.5, 0), (90 + 1e-9, 100, 0)])
def test_two_decimals_do_not_push_a_box_out(tmp_path, width, xmax, noted):
    box, entry = read_box(tmp_path, bbox=[10, 20, width, 40])
    assert box.xyxy_px[2] == xmax
    assert [note.code for note in entry.notes] == ["R212"] * noted


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"images": []},
        {"images": ["a.jpg"], "labels": []},
        {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "x"}]},  # captions
        coco([{"image_id": 0, "segments_info": []}]),  # panoptic
        "{ // comment\n}",
        "",
        "{[1]: 2}",
    ],
)
def test_other_json_is_no_coco(tmp_path, content):
    with pytest.raises(NotALabelError):
        read(write(tmp_path, content))


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_cut_file_is_an_error_with_its_line(tmp_path, cut):
    text = json.dumps(coco([one()] * 10), indent=1)
    with pytest.raises(LabelError, match="not well-formed json") as caught:
        read(write(tmp_path, text[:-cut]))
    assert not isinstance(caught.value, NotALabelError) and caught.value.line > 10


@pytest.mark.parametrize(
    ("images", "categories"),
    [
        ([{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}], None),
        (None, [{"id": 7, "name": "apple"}, {"id": 7, "name": "pear"}]),
    ],
)
def test_one_id_for_two_things_is_an_error(tmp_path, images, categories):
    with pytest.raises(LabelError, match="have the same .* id"):
        read(write(tmp_path, coco([one()], images, categories)))

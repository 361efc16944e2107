"""COCO files and exports of Label Studio as tools write them."""

import json
import math

import pytest

from scripts.data.dataset import LabelError, NotALabelError
from scripts.data.formats import coco, labelstudio
from scripts.data.formats.labelstudio import image_reference


def write(tmp_path, content, indent=None):
    path = tmp_path / "a.json"
    path.write_text(
        content if isinstance(content, str) else json.dumps(content, indent=indent), "utf-8"
    )
    return path


def coco_file(annotations, images=None, categories=None) -> dict:
    images = images or [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 80}]
    categories = categories or [
        {"id": 0, "name": "z"},
        {"id": 7, "name": "apple", "supercategory": "z"},
    ]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def row(**values) -> dict:
    return {"id": 5, "image_id": 0, "category_id": 7, "bbox": [10, 20, 30.5, 40], **values}


def read_box(tmp_path, **values):
    (entry,) = coco.read(write(tmp_path, coco_file([row(**values)]))).entries
    (box,) = entry.boxes
    return box, entry


def test_a_box_its_name_and_the_size_of_its_image(tmp_path):
    box, entry = read_box(tmp_path)
    assert (box.class_name, box.xyxy_px) == ("apple", (10, 20, 40.5, 60))
    assert (entry.image, entry.width_px, entry.height_px, entry.fractions) == (
        "a.jpg", 100, 80, False,
    )


def test_ids_with_holes_as_text_and_before_they_are_declared(tmp_path):
    content = {
        "annotations": [row(image_id="12", category_id="3"), row(image_id=4.0, category_id=0)],
        "categories": [{"id": 3, "name": "pear"}, {"id": "0", "name": "plum"}],
        "images": [{"id": "4", "file_name": "four.jpg"}, {"id": 12, "file_name": "twelve.jpg"}],
    }
    file = coco.read(write(tmp_path, content))
    found = [(entry.image, [box.class_name for box in entry.boxes]) for entry in file.entries]
    assert found == [("four.jpg", ["plum"]), ("twelve.jpg", ["pear"])]
    assert not file.notes


def test_an_image_without_annotations_is_an_entry_without_boxes(tmp_path):
    images = [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "empty.jpg"}]
    file = coco.read(write(tmp_path, coco_file([row()], images)))
    assert [(entry.image, len(entry.boxes)) for entry in file.entries] == [
        ("a.jpg", 1),
        ("empty.jpg", 0),
    ]


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


@pytest.mark.parametrize(
    "bbox", [[1, 2, 3], [1, 2, 3, "x"], [1, 2, None, 4], ["nan", 2, 3, 4], {"x": 1}]
)
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
    mask = {
        "id": 9,
        "image_id": 0,
        "category_id": 7,
        "segmentation": {"counts": [1, 2], "size": [80, 100]},
    }
    (entry,) = coco.read(write(tmp_path, coco_file([row(), mask]))).entries
    assert len(entry.boxes) == 1
    assert [note.code for note in entry.notes] == ["W118"] and "annotation 9" in entry.notes[
        0
    ].message


def test_unknown_ids_are_said_and_no_box_gets_lost(tmp_path):
    file = coco.read(write(tmp_path, coco_file([row(category_id=99), row(image_id=8)])))
    assert file.entries[0].boxes[0].class_name == "class_99"
    assert [note.code for note in file.notes] == ["W116", "W118"]
    assert "'8'" in file.notes[1].message and file.notes[1].line == 1


def test_each_box_has_the_line_of_its_annotation(tmp_path):
    path = write(tmp_path, coco_file([row(), row()]), indent=1)
    (entry,) = coco.read(path).entries
    lines = path.read_text("utf-8").split("\n")
    places = [number for number, line in enumerate(lines, 1) if line == "  {"]
    assert [entry.line, *(box.line for box in entry.boxes)] == places[:3]
    assert {
        box.line for box in coco.read(write(tmp_path, coco_file([row()]))).entries[0].boxes
    } == {1}


@pytest.mark.parametrize(
    ("width", "xmax", "noted"), [(90.005, 100, 1), (90.5, 100.5, 0), (90 + 1e-9, 100, 0)]
)
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
        coco_file([{"image_id": 0, "segments_info": []}]),  # panoptic
        "{ // comment\n}",
        "",
        "{[1]: 2}",
    ],
)
def test_other_json_is_no_coco(tmp_path, content):
    with pytest.raises(NotALabelError):
        coco.read(write(tmp_path, content))


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_cut_file_is_an_error_with_its_line(tmp_path, cut):
    text = json.dumps(coco_file([row()] * 10), indent=1)
    with pytest.raises(LabelError, match="not well-formed json") as caught:
        coco.read(write(tmp_path, text[:-cut]))
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
        coco.read(write(tmp_path, coco_file([row()], images, categories)))


# Label Studio.


def region(name="apple", kind="rectanglelabels", **value):
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, kind: [name], **value}
    return {
        "type": kind, "value": value, "original_width": 200, "original_height": 100,
        "image_rotation": 0,
    }


def annotation(*regions, key=1, updated="2022-01-01T00:00:00Z", **values):
    return {"id": key, "result": list(regions), "updated_at": updated, **values}


def task(*annotations, image="/data/upload/3/e1c994fe-a.jpg", key=9):
    guess = [annotation(region("guess"))]
    return {
        "id": key,
        "data": {"image": image},
        "annotations": list(annotations),
        "predictions": guess,
    }


def entry_of(tmp_path, *regions):
    (entry,) = labelstudio.read(write(tmp_path, [task(annotation(*regions))])).entries
    return entry


def test_a_rectangle_in_percent(tmp_path):
    entry = entry_of(tmp_path, region())
    assert (entry.image, entry.width_px, entry.height_px) == (
        "/data/upload/3/e1c994fe-a.jpg", 200, 100,
    )
    assert entry.fractions and not entry.notes
    assert entry.boxes[0].class_name == "apple" and entry.boxes[0].xyxy_px == pytest.approx(
        (0.1, 0.2, 0.4, 0.6)
    )


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("/data/local-files/?d=dir%2Fmy%20name.jpg", "dir/my name.jpg"),
        ("s3://bucket/a%20b/c%23.jpg", "s3://bucket/a b/c#.jpg"),
        ("https://host/x/a.jpg?token=1&b=2", "/x/a.jpg"),
        ("/data/upload/3/e1c994fe-a%231.jpg", "/data/upload/3/e1c994fe-a#1.jpg"),
        ("name #1.jpg", "name #1.jpg"),
    ],
)
def test_references_are_decoded(reference, image):
    assert image_reference(reference) == image


def test_the_image_may_have_another_key(tmp_path):
    content = task(annotation(region()))
    content["data"] = {"text": "hello", "photo": "x/b.png", "id": 3}
    assert labelstudio.read(write(tmp_path, [content])).entries[0].image == "x/b.png"


def test_turned_boxes_are_turned_in_pixels(tmp_path):
    # 20,20 to 80,60 px about 20,20 by 90 degrees clockwise: -20,20 to 20,80 px.
    entry = entry_of(tmp_path, region(x=10, y=20, width=30, height=40, rotation=90))
    assert entry.boxes[0].xyxy_px == pytest.approx((-0.1, 0.2, 0.1, 0.8))
    assert [note.code for note in entry.notes] == ["R213"]


def test_polygons_and_ellipses_become_the_box_around_them(tmp_path):
    polygon = {
        "type": "polygonlabels",
        "value": {"points": [[10, 20], [50, 30], [20, 90]], "polygonlabels": ["a"]},
    }
    round_one = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["b"]}
    ellipse = {"type": "ellipselabels", "value": round_one}
    entry = entry_of(tmp_path, polygon, ellipse)
    assert [box.class_name for box in entry.boxes] == ["a", "b"]
    assert entry.boxes[0].xyxy_px == pytest.approx((0.1, 0.2, 0.5, 0.9))
    assert entry.boxes[1].xyxy_px == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert [note.code for note in entry.notes] == ["R213", "R213"]


def test_shape_and_class_in_two_results_are_one_box(tmp_path):
    shape = {
        "id": "r1",
        "type": "rectangle",
        "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0},
    }
    label = {"id": "r1", "type": "labels", "value": {**shape["value"], "labels": ["apple"]}}
    assert [box.class_name for box in entry_of(tmp_path, shape, label).boxes] == ["apple"]
    assert [box.class_name for box in entry_of(tmp_path, label, shape).boxes] == ["apple"]


def test_what_is_no_object_or_not_read(tmp_path):
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    brush = {
        "type": "brushlabels",
        "value": {"format": "rle", "rle": [1], "brushlabels": ["apple"]},
    }
    entry = entry_of(tmp_path, choice, brush, region())
    assert len(entry.boxes) == 1 and [note.code for note in entry.notes] == ["W118"]


def test_a_view_turned_by_hand_is_an_error(tmp_path):
    turned = {**region(), "image_rotation": 90}
    assert [note.code for note in entry_of(tmp_path, turned, turned).notes] == ["E019"]


def test_the_last_of_several_annotations_counts(tmp_path):
    old, new = (
        annotation(region("old"), key=1),
        annotation(region("new"), key=2, updated="2023-01-01T00:00:00Z"),
    )
    skipped = annotation(
        region("skipped"), key=3, updated="2024-01-01T00:00:00Z", was_cancelled=True
    )
    (entry,) = labelstudio.read(write(tmp_path, [task(new, old, skipped)])).entries
    assert [box.class_name for box in entry.boxes] == ["new"]
    assert [note.code for note in entry.notes] == ["W117"]


def test_unlabeled_tasks_have_no_entry_and_empty_annotations_no_boxes(tmp_path):
    tasks = [
        task(key=1),
        task(annotation(was_cancelled=True), key=2),
        task(annotation(), image="empty.jpg", key=3),
    ]
    assert [
        (entry.image, entry.boxes) for entry in labelstudio.read(write(tmp_path, tasks)).entries
    ] == [("empty.jpg", ())]


def test_json_min(tmp_path):
    label = {
        "x": 10,
        "y": 20,
        "width": 30,
        "height": 40,
        "rotation": 0,
        "rectanglelabels": ["apple"],
    }
    label |= {"original_width": 200, "original_height": 100}
    rows = [
        {
            "image": "/data/upload/e1c994fe-a.jpg",
            "id": 1,
            "label": [label],
            "annotation_id": 5,
            "updated_at": "1",
        },
        {
            "image": "/data/upload/e1c994fe-a.jpg",
            "id": 1,
            "annotation_id": 6,
            "updated_at": "2",
            "label": [label] * 2,
        },
        {"image": "b.jpg", "id": 2, "annotation_id": 7},
    ]
    first, second = labelstudio.read(write(tmp_path, rows)).entries
    assert (
        len(first.boxes) == 2
        and first.width_px == 200
        and [note.code for note in first.notes] == ["W117"]
    )
    assert first.boxes[0].class_name == "apple" and first.boxes[0].xyxy_px == pytest.approx(
        (0.1, 0.2, 0.4, 0.6)
    )
    assert (second.image, second.boxes) == ("b.jpg", ())


def test_lines_are_those_of_the_tasks(tmp_path):
    path = write(
        tmp_path, [task(annotation(region()), key=1), task(annotation(region()), key=2)], indent=1
    )
    starts = [
        number for number, line in enumerate(path.read_text("utf-8").split("\n"), 1) if line == " {"
    ]
    assert [entry.boxes[0].line for entry in labelstudio.read(path).entries] == starts


@pytest.mark.parametrize(
    "content", [{}, [], [1], [{"image_id": 1, "bbox": [1, 2, 3, 4]}], "[1,", "x"]
)
def test_other_json_is_not_label_studio(tmp_path, content):
    with pytest.raises(NotALabelError):
        labelstudio.read(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps([task(annotation(region()))])[:-2], "not well-formed"),
        ([task(annotation(), image=3)], "no image"),
    ],
)
def test_broken_exports_are_errors(tmp_path, content, words):
    with pytest.raises(LabelError, match=words) as caught:
        labelstudio.read(write(tmp_path, content))
    assert not isinstance(caught.value, NotALabelError)

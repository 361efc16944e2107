"""Exports of Label Studio."""

import json

import pytest

from scripts.data.dataset import LabelError, NotALabelError
from scripts.data.formats.labelstudio import image_reference, read


def write(tmp_path, content, indent=None):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=indent), "utf-8")
    return path


def region(name="apple", kind="rectanglelabels", **value):
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, kind: [name], **value}
    return {"type": kind, "value": value, "original_width": 200, "original_height": 100, "image_rotation": 0}


def annotation(*regions, key=1, updated="2022-01-01T00:00:00Z", **values):
    return {"id": key, "result": list(regions), "updated_at": updated, **values}


def task(*annotations, image="/data/upload/3/e1c994fe-a.jpg", key=9):
    guess = [annotation(region("guess"))]
    return {"id": key, "data": {"image": image}, "annotations": list(annotations), "predictions": guess}


def entry_of(tmp_path, *regions):
    (entry,) = read(write(tmp_path, [task(annotation(*regions))])).entries
    return entry


def test_a_rectangle_in_percent(tmp_path):
    entry = entry_of(tmp_path, region())
    assert (entry.image, entry.width_px, entry.height_px) == ("/data/upload/3/e1c994fe-a.jpg", 200, 100)
    assert entry.fractions and not entry.notes
    assert entry.boxes[0].class_name == "apple" and entry.boxes[0].xyxy_px == pytest.approx((0.1, 0.2, 0.4, 0.6))


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
    assert read(write(tmp_path, [content])).entries[0].image == "x/b.png"


def test_turned_boxes_are_turned_in_pixels(tmp_path):
    # 20,20 to 80,60 px about 20,20 by 90 degrees clockwise: -20,20 to 20,80 px.
    entry = entry_of(tmp_path, region(x=10, y=20, width=30, height=40, rotation=90))
    assert entry.boxes[0].xyxy_px == pytest.approx((-0.1, 0.2, 0.1, 0.8))
    assert [note.code for note in entry.notes] == ["R213"]


def test_polygons_and_ellipses_become_the_box_around_them(tmp_path):
    polygon = {"type": "polygonlabels", "value": {"points": [[10, 20], [50, 30], [20, 90]], "polygonlabels": ["a"]}}
    round_one = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["b"]}
    ellipse = {"type": "ellipselabels", "value": round_one}
    entry = entry_of(tmp_path, polygon, ellipse)
    assert [box.class_name for box in entry.boxes] == ["a", "b"]
    assert entry.boxes[0].xyxy_px == pytest.approx((0.1, 0.2, 0.5, 0.9))
    assert entry.boxes[1].xyxy_px == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert [note.code for note in entry.notes] == ["R213", "R213"]


def test_shape_and_class_in_two_results_are_one_box(tmp_path):
    shape = {"id": "r1", "type": "rectangle", "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}}
    label = {"id": "r1", "type": "labels", "value": {**shape["value"], "labels": ["apple"]}}
    assert [box.class_name for box in entry_of(tmp_path, shape, label).boxes] == ["apple"]
    assert [box.class_name for box in entry_of(tmp_path, label, shape).boxes] == ["apple"]


def test_what_is_no_object_or_not_read(tmp_path):
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["apple"]}}
    entry = entry_of(tmp_path, choice, brush, region())
    assert len(entry.boxes) == 1 and [note.code for note in entry.notes] == ["W118"]


def test_a_view_turned_by_hand_is_an_error(tmp_path):
    turned = {**region(), "image_rotation": 90}
    assert [note.code for note in entry_of(tmp_path, turned, turned).notes] == ["E019"]


def test_the_last_of_several_annotations_counts(tmp_path):
    old, new = annotation(region("old"), key=1), annotation(region("new"), key=2, updated="2023-01-01T00:00:00Z")
    skipped = annotation(region("skipped"), key=3, updated="2024-01-01T00:00:00Z", was_cancelled=True)
    (entry,) = read(write(tmp_path, [task(new, old, skipped)])).entries
    assert [box.class_name for box in entry.boxes] == ["new"]
    assert [note.code for note in entry.notes] == ["W117"]


def test_unlabeled_tasks_have_no_entry_and_empty_annotations_no_boxes(tmp_path):
    tasks = [task(key=1), task(annotation(was_cancelled=True), key=2), task(annotation(), image="empty.jpg", key=3)]
    assert [(entry.image, entry.boxes) for entry in read(write(tmp_path, tasks)).entries] == [("empty.jpg", ())]


def test_json_min(tmp_path):
    label = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["apple"]}
    label |= {"original_width": 200, "original_height": 100}
    rows = [
        {"image": "/data/upload/e1c994fe-a.jpg", "id": 1, "label": [label], "annotation_id": 5, "updated_at": "1"},
        {"image": "/data/upload/e1c994fe-a.jpg", "id": 1, "annotation_id": 6, "updated_at": "2", "label": [label] * 2},
        {"image": "b.jpg", "id": 2, "annotation_id": 7},
    ]
    first, second = read(write(tmp_path, rows)).entries
    assert len(first.boxes) == 2 and first.width_px == 200 and [note.code for note in first.notes] == ["W117"]
    assert first.boxes[0].class_name == "apple" and first.boxes[0].xyxy_px == pytest.approx((0.1, 0.2, 0.4, 0.6))
    assert (second.image, second.boxes) == ("b.jpg", ())


def test_lines_are_those_of_the_tasks(tmp_path):
    path = write(tmp_path, [task(annotation(region()), key=1), task(annotation(region()), key=2)], indent=1)
    starts = [number for number, line in enumerate(path.read_text("utf-8").split("\n"), 1) if line == " {"]
    assert [entry.boxes[0].line for entry in read(path).entries] == starts


@pytest.mark.parametrize("content", [{}, [], [1], [{"image_id": 1, "bbox": [1, 2, 3, 4]}], "[1,", "x"])
def test_other_json_is_not_label_studio(tmp_path, content):
    with pytest.raises(NotALabelError):
        read(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [(json.dumps([task(annotation(region()))])[:-2], "not well-formed"), ([task(annotation(), image=3)], "no image")],
)
def test_broken_exports_are_errors(tmp_path, content, words):
    with pytest.raises(LabelError, match=words) as caught:
        read(write(tmp_path, content))
    assert not isinstance(caught.value, NotALabelError)

"""Whatever stands in a file: it is read, or refused with a reason. A traceback is a defect."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.data.formats.yolo import name_classes
from scripts.data.labels import READERS, read_label_file

TABLE = (
    "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,apple,1,2,3,4\nb.jpg,60,40,,,,,\n"
)
SAMPLES = {
    ".xml": "<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>"
    "</annotation>",
    ".csv": TABLE,
    ".txt": "0 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.2 0.2 0.3 0.3\nFrench fries 1 2 3 4\n",
    ".json": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}',
}
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=4),
        st.just(10**400),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def read_bytes(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Label", f"a{suffix}")
        path.parent.mkdir()
        path.write_bytes(data)
        for wanted in (
            "auto",
            *(name for name, (ending, _) in READERS.items() if ending == suffix),
        ):
            file = read_label_file((str(path), wanted))
            assert file.entries or file.format or file.error
            name_classes([file], [], Path(folder))


@pytest.mark.parametrize("suffix", SAMPLES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files(suffix, data):
    whole = SAMPLES[suffix].encode()
    start, end = sorted(
        (data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole))))
    )
    junk = data.draw(
        st.one_of(
            st.binary(max_size=8), st.sampled_from([b"\x00", b'"', b"\n", b",", b"\r", b"\xff\xfe"])
        )
    )
    read_bytes(whole[:start] + junk + whole[end:], suffix)


COCO_KEYS = (
    "id image_id category_id bbox segmentation iscrowd attributes name file_name width".split()
)
LABEL_STUDIO_KEYS = "x y width rotation points radiusX rectanglelabels labels id type value".split()


@given(record=st.fixed_dictionaries({}, optional=dict.fromkeys(COCO_KEYS, values)))
@example(record={"file_name": float("nan")})  # Unequal to itself.
@settings(max_examples=60, deadline=None)
def test_coco_records_of_any_kind(record):
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {
        "images": [{"id": 1, "file_name": "a"}, record],
        "annotations": [one, record],
        "categories": [record],
    }
    read_bytes(json.dumps(content).encode(), ".json")


@given(record=st.fixed_dictionaries({}, optional=dict.fromkeys(LABEL_STUDIO_KEYS, values)))
@settings(max_examples=60, deadline=None)
def test_label_studio_records_of_any_kind(record):
    region = {
        "type": "rectanglelabels",
        "value": {**record},
        "original_width": record.get("x"),
        "id": record.get("id"),
    }
    found = [
        {"id": 1, "result": [region, record], "updated_at": record.get("y")},
        {"id": 2, "result": record.get("x")},
    ]
    tasks = [{"id": 1, "data": {"image": "a.jpg", "x": record.get("id")}, "annotations": found}]
    read_bytes(json.dumps(tasks).encode(), ".json")
    read_bytes(
        json.dumps([{"image": "a.jpg", "annotation_id": 1, "label": [record], **record}]).encode(),
        ".json",
    )


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_names_files_of_any_kind(text):
    with tempfile.TemporaryDirectory() as folder:
        label, names = Path(folder, "a.txt"), Path(folder, "data.yaml")
        label.write_text("0 .5 .5 .1 .1", "utf-8")
        names.write_text(f"names: {text}", "utf-8")
        file = read_label_file((str(label), "yolo"))
        (named,), _ = name_classes([file], [names], Path(folder))
        assert named.entries[0].boxes[0].class_name

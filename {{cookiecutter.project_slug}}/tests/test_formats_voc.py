"""Pascal VOC as real tools write it, and as we write it."""

import json
import math
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.data.dataset import Box, LabelError, NotALabelError
from scripts.data.formats.label_text import parse_number
from scripts.data.formats.voc import format_number, read_voc, read_written, voc_xml
from scripts.data.formats.yolo import name_classes
from scripts.data.labels import READERS, read_label_file


def write(tmp_path, text: str):
    path = tmp_path / "a.xml"
    path.write_text(text, "utf-8")
    return path


def object_xml(inner: str) -> str:
    return f"<annotation>\n<object>{inner}</object></annotation>"


CORNERS = "<xmin>1.5</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40.25</ymax>"


@pytest.mark.parametrize(
    "inner",
    [
        f"<name>apple</name><bndbox>{CORNERS}</bndbox>",
        f"<bndbox>{CORNERS}</bndbox><name> apple\n</name>",  # VOC2012 order, white space
        f"<id>7</id><name>apple</name><part><bndbox><xmin>9</xmin></bndbox></part><bndbox>{CORNERS}</bndbox>",
        "<name>apple</name><bndbox><xmin>1.5</xmin><xmax>30</xmax><ymin>2</ymin><ymax>40.25</ymax></bndbox>",
    ],
)
def test_boxes_are_read_by_tag_and_not_by_position(tmp_path, inner):
    (box,) = read_voc(write(tmp_path, object_xml(inner))).boxes
    assert (box.class_name, box.xyxy_px, box.line) == ("apple", (1.5, 2.0, 30.0, 40.25), 2)


@pytest.mark.parametrize(
    ("text", "value", "comma"),
    [
        ("12", 12, False),
        (" 12.5 ", 12.5, False),
        ("12,5", 12.5, True),
        ("1e2", 100, False),
        ("-3", -3, False),
    ],
)
def test_numbers(text, value, comma):
    assert parse_number(text) == (value, comma)


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "1,2,3", "1,234.5", "12px"])
def test_what_is_no_number_is_nan(text):
    assert math.isnan(parse_number(text)[0])


def test_flags_are_read_in_the_forms_that_tools_write(tmp_path):
    flags = ("<truncated>1</truncated><difficult>true</difficult><iscrowd>1</iscrowd>"
             "<occluded>Unspecified</occluded>")
    (box,) = read_voc(
        write(tmp_path, object_xml(f"<name>a</name>{flags}<bndbox>{CORNERS}</bndbox>"))
    ).boxes
    assert (box.truncated, box.difficult, box.is_crowd, box.occluded, box.group_of) == (
        True, True, True, False, False,
    )


@pytest.mark.parametrize(
    "text", ["", "<annotation>", "not xml", "<annotation>&unknown;</annotation>"]
)
def test_broken_xml_is_named(tmp_path, text):
    with pytest.raises(LabelError):
        read_voc(write(tmp_path, text))


def test_another_kind_of_xml_is_told_apart(tmp_path):
    with pytest.raises(NotALabelError, match="<module>"):
        read_voc(write(tmp_path, "<module/>"))


def test_entities_are_not_expanded_from_files(tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    text = f'<!DOCTYPE a [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]>\n' + object_xml(
        "<name>&s;</name>"
    )
    try:
        names = [box.class_name for box in read_voc(write(tmp_path, text)).boxes]
    except LabelError:
        return
    assert "SECRET" not in names


def test_what_is_written_reads_back_the_same(tmp_path):
    boxes = (
        Box(
            "Kitchen & dining room <table>", (0.1, 2, 30, 39.999999), True, False, True, False, True
        ),
        Box("Ärger", (9, 9, 1, 1)),
        Box("broken", (math.nan, 1, 2, 3)),
    )
    data = voc_xml("train", "a b#%20.jpg", 60, 40, boxes)
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    voc = read_voc(path)
    assert (voc.image, voc.width_px, voc.height_px) == ("a b#%20.jpg", 60, 40)
    assert [(box.class_name, box.difficult, box.occluded, box.is_crowd) for box in voc.boxes] == [
        (box.class_name, box.difficult, box.occluded, box.is_crowd) for box in boxes
    ]
    assert [box.xyxy_px for box in voc.boxes[:2]] == [box.xyxy_px for box in boxes[:2]]
    assert math.isnan(voc.boxes[2].xyxy_px[0])


def test_whole_numbers_are_written_without_a_point():
    assert [format_number(value) for value in (12.0, 12.5, -0.25, math.nan)] == [
        "12", "12.5", "-0.25", "nan",
    ]


NAMES = [
    "fig",
    "",
    "  padded ",
    "a&b <c> \"d\" 'e'",
    "&amp;eacute; &#65;",
    "crème 🍎",
    "two\nlines\ttab",
    "\r",
    "]]>",
]
NUMBERS = [0.0, 12.0, 12.5, -3.25, 1 / 3, 1e-7, 123456.0, math.nan]


def test_what_we_wrote_is_read_the_same_by_the_fast_reader(tmp_path):
    chance = random.Random(7)
    for number in range(300):
        boxes = tuple(
            Box(chance.choice(NAMES), tuple(chance.choice(NUMBERS) for _ in range(4)),
                *(chance.random() < 0.3 for _ in range(5)))
            for _ in range(chance.choice([0, 1, 1, 3, 20]))
        )  # fmt: skip
        data = voc_xml(
            chance.choice(["train", "", "a&b"]),
            chance.choice(NAMES) + ".jpg",
            number,
            number + 1,
            boxes,
        )
        (tmp_path / "a.xml").write_bytes(data)
        assert repr(read_written(data)) == repr(read_voc(tmp_path / "a.xml"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<truncated>0", "<truncated>yes"),
        ("<object>", "<object><id>3</id>"),
        ("</name>", "</name><pose/>"),
        ("<size>", "<size><x/>"),
    ],
)
def test_the_fast_reader_leaves_alone_what_it_does_not_know(old, new):
    data = voc_xml(
        "train", "a.jpg", 60, 40, (Box("apple", (1, 2, 3, 4)), Box("pear", (1, 2, 3, 4)))
    )
    assert (
        read_written(data) is not None
        and read_written(data.replace(old.encode(), new.encode(), 1)) is None
    )


# Whatever stands in a file: it is read, or refused with a reason. A traceback is a defect.


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

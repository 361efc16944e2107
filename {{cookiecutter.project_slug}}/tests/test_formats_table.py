"""Tables of boxes: columns by name, of several tools."""

import math

import pytest

from scripts.data.dataset import LabelError, NotALabelError
from scripts.data.formats.csv_table import read

TUTORIAL = "filename,width,height,class,xmin,ymin,xmax,ymax"
OPEN_IMAGES = ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
               "IsGroupOf,IsDepiction,IsInside")


def write(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def rows(tmp_path, text):
    """(image, class, corners) of each box."""
    file = read(write(tmp_path, text))
    return [
        (entry.image, box.class_name, box.xyxy_px) for entry in file.entries for box in entry.boxes
    ]


def test_the_tutorials_table(tmp_path):
    rows = ["b.jpg,60,40,bell pepper,1,2,30,20", "a.jpg,50,40,apple,1.5,2,3,4",
            "b.jpg,60,40,pear,3,4,5,6"]
    text = "\n".join([TUTORIAL, *rows, ""])
    file = read(write(tmp_path, text))
    found = [(entry.image, entry.width_px, entry.height_px, entry.line) for entry in file.entries]
    assert found == [("b.jpg", 60, 40, 2), ("a.jpg", 50, 40, 3)]
    assert [(box.class_name, box.line) for box in file.entries[0].boxes] == [
        ("bell pepper", 2),
        ("pear", 4),
    ]
    assert file.entries[1].boxes[0].xyxy_px == (1.5, 2, 3, 4) and not file.entries[1].fractions


@pytest.mark.parametrize(
    "text",
    [
        "filename,xmin,xmax,ymin,ymax,class\na.jpg,1,30,2,20,apple",
        "Class; X Min; Y_MIN; x-max; YMax; Image Name\n apple ;1;2;30;20; a.jpg ",
        "x1\ty1\tx2\ty2\tlabel\timage_path\n1\t2\t30\t20\tapple\ta.jpg",
        '\ufeff"file","left","top","right","bottom","name"\r\n"a.jpg","1","2","30","20","apple"\r\n',
        "sep=;\nimage;category;xmin;ymin;xmax;ymax\na.jpg;apple;1;2;30;20",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\napple,1,2,29,18,a.jpg,60,40",
        "image,left,top,width,height,label\na.jpg,1,2,29,18,apple",
        "filename,class,xmin,ymin,xmax,ymax\n\n\na.jpg,apple,1,2,30,20\n,,,,,\n",
        "a.jpg,60,40,apple,1,2,30,20", "a.jpg,1,2,30,20,apple",
    ],
)
def test_columns_count_by_name(tmp_path, text):
    assert rows(tmp_path, text) == [("a.jpg", "apple", (1, 2, 30, 20))]


def test_utf_16_as_excel_writes_it(tmp_path):
    text = "filename\tclass\txmin\tymin\txmax\tymax\nä.jpg\täpfel\t1\t2\t30\t20\n"
    assert rows(tmp_path, text.encode("utf-16")) == [("ä.jpg", "äpfel", (1, 2, 30, 20))]


def test_decimal_commas_are_read_and_said(tmp_path):
    file = read(write(tmp_path, "filename;class;xmin;ymin;xmax;ymax\na.jpg;apple;1,5;2;30,25;20\n"))
    assert file.entries[0].boxes[0].xyxy_px == (1.5, 2, 30.25, 20)
    assert [(note.code, note.line) for note in file.entries[0].notes] == [("R206", 2)]


def test_a_row_with_an_image_only_shows_no_object(tmp_path):
    file = read(
        write(
            tmp_path, f"{TUTORIAL}\na.jpg,60,40,,,,,\nb.jpg,60,40,apple,,,,\nc.jpg,60,40,,1,2,3,4\n"
        )
    )
    empty, no_place, no_class = file.entries
    assert empty.boxes == () and (empty.width_px, empty.height_px) == (60, 40)
    assert all(map(math.isnan, no_place.boxes[0].xyxy_px))
    assert no_class.boxes[0].class_name == ""


def test_flags_and_split(tmp_path):
    head = f"{TUTORIAL},difficult,truncated,occluded,group_of,is_crowd,split"
    file = read(write(tmp_path, f"{head}\na.jpg,60,40,x,1,2,3,4,1,0,true,-1,,valid\n"))
    box = file.entries[0].boxes[0]
    assert (box.difficult, box.truncated, box.occluded, box.group_of, box.is_crowd) == (
        True, False, True, False, False,
    )
    assert file.entries[0].split == "validation"


def test_lines_where_a_cell_has_a_line_feed(tmp_path):
    rows = ['a.jpg,"two\nlines",x,1,2,3,4', 'b.jpg,,"a ""b"", c",1,2,3,4']
    text = "\n".join(["filename,note,class,xmin,ymin,xmax,ymax", *rows, ""])
    file = read(write(tmp_path, text))
    assert [entry.line for entry in file.entries] == [2, 4]
    assert file.entries[1].boxes[0].class_name == 'a "b", c'


def test_open_images_boxes_are_shares_with_x_before_y(tmp_path):
    text = f"{OPEN_IMAGES}\n0001eeaf4aed83f9,xclick,/m/0cmf2,1,0.1,0.9,0.2,0.6,1,0,-1,0,0\n"
    write(tmp_path, "/m/0cmf2,Airplane\n/m/01,Other\n", "class-descriptions-boxable.csv")
    file = read(write(tmp_path, text, "sub/validation-annotations-bbox.csv"))
    (box,) = file.entries[0].boxes
    assert (file.entries[0].image, file.entries[0].fractions) == ("0001eeaf4aed83f9", True)
    assert (box.class_name, box.xyxy_px) == ("Airplane", (0.1, 0.2, 0.9, 0.6))
    assert (box.occluded, box.truncated, box.group_of) == (True, False, False)
    assert not file.notes


@pytest.mark.parametrize("name", ["oidv7-class-descriptions-boxable.csv", "metadata/classes.csv"])
def test_class_names_with_a_header_and_where_fiftyone_keeps_them(tmp_path, name):
    write(tmp_path, "LabelName,DisplayName\n/m/0cmf2,Airplane\n", name)
    rows = [f"1,xclick,{code},1,0,1,0,1,0,0,0,0,0" for code in ("/m/0cmf2", "/m/zz")]
    text = "\n".join([OPEN_IMAGES, *rows, ""])
    file = read(write(tmp_path, text, "labels/detections.csv"))
    assert [box.class_name for box in file.entries[0].boxes] == ["Airplane", "/m/zz"]
    assert [(note.code, note.line) for note in file.notes] == [("W116", 3)]


def test_a_table_of_shares_is_recognized_and_said(tmp_path):
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    file = read(write(tmp_path, head + "a.jpg,x,0,0.25,1,1\nb.jpg,x,0,0,1,1\n"))
    assert file.entries[1].fractions and [note.code for note in file.notes] == ["W119"]
    for cells in ("0,0,1,1", "0.5,0.5,2,1", "-0.5,0,1,1"):
        file = read(write(tmp_path, f"{head}a.jpg,x,{cells}\n"))
        assert not file.entries[0].fractions and not file.notes


@pytest.mark.parametrize(
    "text",
    ["", "\n", "sha256,split\nab,train\n", "/m/011k07,Tortoise\n", "filename,label\na.jpg,cat\n",
     "xmin,ymin,xmax,ymax\n1,2,3,4", "a,b,c,d,e,f\n", "2022-01-01,1,2,3,4,x\n"],
)  # fmt: skip
def test_other_tables_are_no_labels(tmp_path, text):
    with pytest.raises(NotALabelError):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"{TUTORIAL}\na.jpg,60,40,x,1,2,3,4\na.jpg,60,40,salt, pepper,1,2,3,4\n", 3, "9 cells"),
        (f"{TUTORIAL}\na.jpg,60,40,x,1,5,2,3,4\n", 2, "9 cells"),
        ("image,label,x,y,width,height\na.jpg,x,1,2,3,4\n", 1, "corner or the center"),
        (f"{TUTORIAL}\na.jpg,60,40,\u00e4pfel,1,2,3,4\n".encode("latin-1"), 2, "UTF-8"),
    ],
)
def test_what_would_be_a_guess_is_an_error_with_its_line(tmp_path, text, line, words):
    with pytest.raises(LabelError, match=words) as caught:
        read(write(tmp_path, text))
    assert caught.value.line == line and not isinstance(caught.value, NotALabelError)


def test_a_row_without_an_image_is_said(tmp_path):
    file = read(write(tmp_path, f"{TUTORIAL}\n,60,40,x,1,2,3,4\na.jpg,60,40,x,1,2,3,4\n"))
    assert len(file.entries) == 1 and [(note.code, note.line) for note in file.notes] == [
        ("W118", 2)
    ]

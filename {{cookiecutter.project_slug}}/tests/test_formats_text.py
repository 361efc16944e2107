"""Label files of YOLO and OIDv4_ToolKit, and the many places where YOLO's class names stand."""

import math

import pytest

from scripts.data.dataset import LabelError, LabelFile, NotALabelError
from scripts.data.formats import oidv4, yolo
from scripts.data.formats.csv_table import read
from scripts.data.formats.yolo import name_classes
from scripts.data.labels import read_label_file


def write(tmp_path, text, name="a.txt"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def entry_of(tmp_path, text):
    (entry,) = yolo.read(write(tmp_path, text)).entries
    return entry


@pytest.mark.parametrize(
    "text",
    [
        "3 0.5 .25 0.5 0.5", "\n3\t0.5  0.25 0.5 0.5 \r\n\r\n", b"\xef\xbb\xbf3 0.5 0.25 0.5 0.5",
        "3.0 0.5 0.25 0.5 0.5",
    ],
)
def test_a_box_is_read_as_shares_whatever_the_white_space(tmp_path, text):
    entry = entry_of(tmp_path, text)
    assert entry.fractions and not entry.notes
    assert [(box.class_name, box.xyxy_px) for box in entry.boxes] == [("3", (0.25, 0.0, 0.75, 0.5))]


def test_lines_count_blank_ones(tmp_path):
    assert [box.line for box in entry_of(tmp_path, "1 .5 .5 .1 .1\n\n2 .5 .5 .1 .1\n").boxes] == [
        1, 3,
    ]


@pytest.mark.parametrize("text", ["", "\n  \r\n"])
def test_an_empty_file_is_an_image_without_objects(tmp_path, text):
    assert entry_of(tmp_path, text).boxes == ()


@pytest.mark.parametrize(
    ("line", "corners", "code"),
    [
        ("1 0.1 0.2 0.5 0.2 0.3 0.9", (0.1, 0.2, 0.5, 0.9), "R213"),  # polygon of three points
        ("1 0.3 0.1 0.5 0.3 0.3 0.5 0.1 0.3", (0.1, 0.1, 0.5, 0.5), "R213"),  # a turned box
        ("1 0.5 0.5 0.2 0.2 0.93", (0.4, 0.4, 0.6, 0.6), "W118"),  # a detection
        ("1 0.5 0.5 0.2 0.2 " + "0.1 0.1 2 " * 17, (0.4, 0.4, 0.6, 0.6), "W118"),  # key points
        ("1 0,5 0,5 0,2 0,2", (0.4, 0.4, 0.6, 0.6), "R206"),
    ],
)
def test_what_is_more_than_a_box_is_said(tmp_path, line, corners, code):
    entry = entry_of(tmp_path, line)
    assert entry.boxes[0].xyxy_px == pytest.approx(corners)
    assert [note.code for note in entry.notes] == [code]


@pytest.mark.parametrize(
    "bad", ["1 0.5 x 0.2 0.2", "1 0.5 0.5 0.2", "1 0.5 0.5 nan 0.2", "1 1 2 3 4 5 6 7 8 9"]
)
def test_a_broken_line_among_good_ones_is_a_box_without_numbers(tmp_path, bad):
    entry = entry_of(tmp_path, f"0 .5 .5 .1 .1\n{bad}\n0 .5 .5 .1 .1\n")
    assert len(entry.boxes) == 3 and entry.boxes[1].line == 2
    assert any(map(math.isnan, entry.boxes[1].xyxy_px))


@pytest.mark.parametrize(
    "text", ["apple\npear\n", "Readme\n\n1 of 2", "French fries 1 2 30 40", "x/a.jpg", "1 2 3"]
)
def test_other_text_is_no_yolo(tmp_path, text):
    with pytest.raises(NotALabelError):
        yolo.read(write(tmp_path, text))


def named(tmp_path, files: dict[str, str], label="labels/a.txt", line="1 .5 .5 .1 .1"):
    """The class name that a label file gets beside `files`, and the codes of the notes."""
    others = [write(tmp_path, text, name) for name, text in files.items()]
    label_files, notes = name_classes([yolo.read(write(tmp_path, line, label))], others, tmp_path)
    return label_files[0].entries[0].boxes[0].class_name, [note.code for _, note in notes]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("data.yaml", "names: ['no', bell pepper]\nnc: 2\n", "bell pepper"),
        ("data.yaml", "path: ..\nnames:\n  0: apple\n  1: no\n", "no"),  # a word of YAML 1.1
        ("voc.yml", "names: {1: Äpfel}", "Äpfel"),
        ("classes.txt", "apple\r\n pear \r\n", "pear"),
        ("classes.txt", "\ufeffapple\n7 up", "7 up"),
        ("obj.names", "apple\npear", "pear"),
        ("_darknet.labels", "apple\npear", "pear"),
        ("labels/classes.txt", "\npear", "pear"),  # a blank line is number 0
    ],
)
def test_names_are_found(tmp_path, name, text, found):
    assert named(tmp_path, {name: text}) == (found, [])


def test_the_nearest_names_count(tmp_path):
    files = {
        "classes.txt": "a\nfar", "labels/classes.txt": "a\nnear", "other/classes.txt": "a\nother",
    }
    assert named(tmp_path, files)[0] == "near"
    assert named(tmp_path, files, label="labels/train/deep/a.txt")[0] == "near"


def test_names_elsewhere_count_if_they_are_the_only_ones(tmp_path):
    assert named(tmp_path, {"meta/x/data.yaml": "names: [a, only]"})[0] == "only"
    both = {"meta/x/data.yaml": "names: [a, one]", "meta/y/data.yaml": "names: [a, another]"}
    assert named(tmp_path, both) == ("class_1", ["W116"])


def test_two_files_that_disagree_are_an_error(tmp_path):
    name, codes = named(tmp_path, {"data.yaml": "names: [a, b]", "classes.txt": "b\na"})
    assert (name, codes) == ("b", ["E020"])
    assert named(tmp_path, {"data.yaml": "names: [a, b]", "classes.txt": "a\nb"}) == ("b", [])


def test_yaml_that_is_no_data_yaml_is_passed_over(tmp_path):
    files = {
        "a.yaml": "model: {names: 3}",
        "b.yaml": "names: 5",
        "c.yaml": "- x",
        "d.yaml": "x: [1",
        "e.yaml": "",
    }
    assert named(tmp_path, files) == ("class_1", ["W116"])


def test_a_broken_data_yaml_is_an_error_with_its_line(tmp_path):
    others = [write(tmp_path, 'train: "C:\\data"\nnames: [a]', "data.yaml")]
    _, notes = name_classes([yolo.read(write(tmp_path, "0 .5 .5 .1 .1"))], others, tmp_path)
    assert [(path.name, note.code, note.line) for path, note in notes] == [
        ("data.yaml", "E019", 1),
        ("a.txt", "W116", 1),
    ]


def test_one_note_for_each_number_without_a_name(tmp_path):
    label_files = [yolo.read(write(tmp_path, "5 .5 .5 .1 .1\n" * 3, f"{n}.txt")) for n in range(4)]
    label_files += [yolo.read(write(tmp_path, "0 .5 .5 .1 .1\n11 .5 .5 .1 .1\n", "9.txt"))]
    found, notes = name_classes(label_files, [write(tmp_path, "apple\n", "classes.txt")], tmp_path)
    assert [box.class_name for box in found[4].entries[0].boxes] == ["apple", "class_11"]
    assert [(path.name, note.code, note.line) for path, note in notes] == [
        ("0.txt", "W116", 1),
        ("9.txt", "W116", 2),
    ]
    assert "(12 boxes, 4 files)" in notes[0][1].message


def test_files_of_other_formats_come_back_as_they_are(tmp_path):
    others = [
        LabelFile(tmp_path / "a.xml", "voc"),
        LabelFile(tmp_path / "classes.txt", "", error="not YOLO"),
    ]
    write(tmp_path, "apple\npear", "classes.txt")
    found, notes = name_classes(
        [*others, yolo.read(write(tmp_path, "1 .5 .5 .1 .1"))], [], tmp_path
    )
    assert found[:2] == others
    assert found[2].entries[0].boxes[0].class_name == "pear" and not notes


# OIDv4_ToolKit.


def write_oidv4(tmp_path, text, name="Bell pepper/Label/a.txt"):
    return write(tmp_path, text, name)


@pytest.mark.parametrize(
    "name",
    [
        "Apple", "French fries", "Kitchen & dining room table", "Band-aid", "Wood-burning stove",
        "Äpfel 2",
    ],
)
def test_a_line_is_read_from_the_right(tmp_path, name):
    (entry,) = oidv4.read(
        write_oidv4(tmp_path, f"{name} 5.12 56.94018 1023.36 681.3602841\r\n\n{name} 0.0 0 12 9\n")
    ).entries
    assert [(box.class_name, box.line) for box in entry.boxes] == [(name, 1), (name, 3)]
    assert entry.boxes[0].xyxy_px == (5.12, 56.94018, 1023.36, 681.3602841) and not entry.fractions


def test_an_empty_file_in_its_folder_gets_a_note(tmp_path):
    (entry,) = oidv4.read(write_oidv4(tmp_path, "")).entries
    assert entry.boxes == () and [note.code for note in entry.notes] == ["W120"]


@pytest.mark.parametrize("bad", ["French fries 1 2 x 4", "French fries 1 2", "fries"])
def test_a_broken_line_of_oidv4_is_a_box_without_numbers(tmp_path, bad):
    (entry,) = oidv4.read(write_oidv4(tmp_path, f"Apple 1 2 3 4\n{bad}\nApple 1 2 3 4")).entries
    assert len(entry.boxes) == 3 and any(map(math.isnan, entry.boxes[1].xyxy_px))


def test_a_name_that_is_not_utf_8_is_an_error(tmp_path):
    with pytest.raises(LabelError, match="UTF-8") as caught:
        oidv4.read(write_oidv4(tmp_path, "Äpfel 1 2 3 4".encode("latin-1")))
    assert not isinstance(caught.value, NotALabelError)


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("Label/a.txt", "", "oidv4"),
        ("labels/a.txt", "", "yolo"),
        ("labels/a.txt", "1 0.5 0.5 0.1 0.1", "yolo"),
        ("Label/a.txt", "1 0.5 0.5 0.1 0.1", "yolo"),
        ("Label/a.txt", "Apple 1 2 3 4", "oidv4"),
        ("any/a.txt", "Apple 1 2 3 4", "oidv4"),
        ("any/a.txt", "apple 0.5 0.5 0.1 0.1", ""),  # YOLO with names is nobody's format
        ("any/README.txt", "An image of 4 cats, 2 dogs\nand more", ""),
        ("any/classes.txt", "apple\npear", ""),
        ("any/latin.txt", "Straße".encode("latin-1"), ""),
    ],
)
def test_text_files_are_told_apart(tmp_path, name, text, form):
    assert read_label_file((str(write_oidv4(tmp_path, text, name)), "auto")).format == form


# Tables of boxes: columns by name, of several tools.


TUTORIAL = "filename,width,height,class,xmin,ymin,xmax,ymax"
OPEN_IMAGES = ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
               "IsGroupOf,IsDepiction,IsInside")


def write_of_formats_table(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def rows(tmp_path, text):
    """(image, class, corners) of each box."""
    file = read(write_of_formats_table(tmp_path, text))
    return [
        (entry.image, box.class_name, box.xyxy_px) for entry in file.entries for box in entry.boxes
    ]


def test_the_tutorials_table(tmp_path):
    rows = ["b.jpg,60,40,bell pepper,1,2,30,20", "a.jpg,50,40,apple,1.5,2,3,4",
            "b.jpg,60,40,pear,3,4,5,6"]
    text = "\n".join([TUTORIAL, *rows, ""])
    file = read(write_of_formats_table(tmp_path, text))
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
    file = read(write_of_formats_table(
        tmp_path, "filename;class;xmin;ymin;xmax;ymax\na.jpg;apple;1,5;2;30,25;20\n"))
    assert file.entries[0].boxes[0].xyxy_px == (1.5, 2, 30.25, 20)
    assert [(note.code, note.line) for note in file.entries[0].notes] == [("R206", 2)]


def test_a_row_with_an_image_only_shows_no_object(tmp_path):
    file = read(
        write_of_formats_table(
            tmp_path, f"{TUTORIAL}\na.jpg,60,40,,,,,\nb.jpg,60,40,apple,,,,\nc.jpg,60,40,,1,2,3,4\n"
        )
    )
    empty, no_place, no_class = file.entries
    assert empty.boxes == () and (empty.width_px, empty.height_px) == (60, 40)
    assert all(map(math.isnan, no_place.boxes[0].xyxy_px))
    assert no_class.boxes[0].class_name == ""


def test_flags_and_split(tmp_path):
    head = f"{TUTORIAL},difficult,truncated,occluded,group_of,is_crowd,split"
    file = read(
        write_of_formats_table(tmp_path, f"{head}\na.jpg,60,40,x,1,2,3,4,1,0,true,-1,,valid\n"))
    box = file.entries[0].boxes[0]
    assert (box.difficult, box.truncated, box.occluded, box.group_of, box.is_crowd) == (
        True, False, True, False, False,
    )
    assert file.entries[0].split == "validation"


def test_lines_where_a_cell_has_a_line_feed(tmp_path):
    rows = ['a.jpg,"two\nlines",x,1,2,3,4', 'b.jpg,,"a ""b"", c",1,2,3,4']
    text = "\n".join(["filename,note,class,xmin,ymin,xmax,ymax", *rows, ""])
    file = read(write_of_formats_table(tmp_path, text))
    assert [entry.line for entry in file.entries] == [2, 4]
    assert file.entries[1].boxes[0].class_name == 'a "b", c'


def test_open_images_boxes_are_shares_with_x_before_y(tmp_path):
    text = f"{OPEN_IMAGES}\n0001eeaf4aed83f9,xclick,/m/0cmf2,1,0.1,0.9,0.2,0.6,1,0,-1,0,0\n"
    write_of_formats_table(
        tmp_path, "/m/0cmf2,Airplane\n/m/01,Other\n", "class-descriptions-boxable.csv")
    file = read(write_of_formats_table(tmp_path, text, "sub/validation-annotations-bbox.csv"))
    (box,) = file.entries[0].boxes
    assert (file.entries[0].image, file.entries[0].fractions) == ("0001eeaf4aed83f9", True)
    assert (box.class_name, box.xyxy_px) == ("Airplane", (0.1, 0.2, 0.9, 0.6))
    assert (box.occluded, box.truncated, box.group_of) == (True, False, False)
    assert not file.notes


@pytest.mark.parametrize("name", ["oidv7-class-descriptions-boxable.csv", "metadata/classes.csv"])
def test_class_names_with_a_header_and_where_fiftyone_keeps_them(tmp_path, name):
    write_of_formats_table(tmp_path, "LabelName,DisplayName\n/m/0cmf2,Airplane\n", name)
    rows = [f"1,xclick,{code},1,0,1,0,1,0,0,0,0,0" for code in ("/m/0cmf2", "/m/zz")]
    text = "\n".join([OPEN_IMAGES, *rows, ""])
    file = read(write_of_formats_table(tmp_path, text, "labels/detections.csv"))
    assert [box.class_name for box in file.entries[0].boxes] == ["Airplane", "/m/zz"]
    assert [(note.code, note.line) for note in file.notes] == [("W116", 3)]


def test_a_table_of_shares_is_recognized_and_said(tmp_path):
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    file = read(write_of_formats_table(tmp_path, head + "a.jpg,x,0,0.25,1,1\nb.jpg,x,0,0,1,1\n"))
    assert file.entries[1].fractions and [note.code for note in file.notes] == ["W119"]
    for cells in ("0,0,1,1", "0.5,0.5,2,1", "-0.5,0,1,1"):
        file = read(write_of_formats_table(tmp_path, f"{head}a.jpg,x,{cells}\n"))
        assert not file.entries[0].fractions and not file.notes


@pytest.mark.parametrize(
    "text",
    ["", "\n", "sha256,split\nab,train\n", "/m/011k07,Tortoise\n", "filename,label\na.jpg,cat\n",
     "xmin,ymin,xmax,ymax\n1,2,3,4", "a,b,c,d,e,f\n", "2022-01-01,1,2,3,4,x\n"],
)  # fmt: skip
def test_other_tables_are_no_labels(tmp_path, text):
    with pytest.raises(NotALabelError):
        read(write_of_formats_table(tmp_path, text))


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
        read(write_of_formats_table(tmp_path, text))
    assert caught.value.line == line and not isinstance(caught.value, NotALabelError)


def test_a_row_without_an_image_is_said(tmp_path):
    file = read(
        write_of_formats_table(tmp_path, f"{TUTORIAL}\n,60,40,x,1,2,3,4\na.jpg,60,40,x,1,2,3,4\n"))
    assert len(file.entries) == 1 and [(note.code, note.line) for note in file.notes] == [
        ("W118", 2)
    ]

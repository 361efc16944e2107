"""Label files of OIDv4_ToolKit."""

import math

import pytest

from scripts.data.dataset import LabelError, NotALabelError
from scripts.data.formats.oidv4 import read
from scripts.data.labels import read_label_file


def write(tmp_path, text, name="Bell pepper/Label/a.txt"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "name", ["Apple", "French fries", "Kitchen & dining room table", "Band-aid", "Wood-burning stove", "Äpfel 2"]
)
def test_a_line_is_read_from_the_right(tmp_path, name):
    (entry,) = read(write(tmp_path, f"{name} 5.12 56.94018 1023.36 681.3602841\r\n\n{name} 0.0 0 12 9\n")).entries
    assert [(box.class_name, box.line) for box in entry.boxes] == [(name, 1), (name, 3)]
    assert entry.boxes[0].xyxy_px == (5.12, 56.94018, 1023.36, 681.3602841) and not entry.fractions


def test_an_empty_file_in_its_folder_gets_a_note(tmp_path):
    (entry,) = read(write(tmp_path, "")).entries
    assert entry.boxes == () and [note.code for note in entry.notes] == ["W120"]


@pytest.mark.parametrize("bad", ["French fries 1 2 x 4", "French fries 1 2", "fries"])
def test_a_broken_line_among_good_ones_is_a_box_without_numbers(tmp_path, bad):
    (entry,) = read(write(tmp_path, f"Apple 1 2 3 4\n{bad}\nApple 1 2 3 4")).entries
    assert len(entry.boxes) == 3 and any(map(math.isnan, entry.boxes[1].xyxy_px))


def test_a_name_that_is_not_utf_8_is_an_error(tmp_path):
    with pytest.raises(LabelError, match="UTF-8") as caught:
        read(write(tmp_path, "Äpfel 1 2 3 4".encode("latin-1")))
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
    assert read_label_file((str(write(tmp_path, text, name)), "auto")).format == form

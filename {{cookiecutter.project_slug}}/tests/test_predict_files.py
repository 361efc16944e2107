"""What `invoke predict` is given and writes, without any model: names, numbers, tables."""

import pytest

from scripts.core.files import write_json
from scripts.core.text import DetectorError, parse_number
from scripts.data.box_table import read_table
from scripts.deploy.predictions import results
from scripts.tools.predict import copy_targets, find_files, find_model

FOUND = {"class": 'a "b", c\u2028d', "class_id": 1, "score": 0.75,
         "box_xyxy_px": [1.0, 2.5, 30.0, 40.25]}
ROWS = [
    {"file": "in/ю.jpg", "width": 60, "height": 50, "detections": [FOUND, FOUND]},
    {"file": "in/empty.jpg", "width": 60, "height": 50, "detections": []},
    {"file": "in/a.mp4", "width": 60, "height": 50, "frame": 3, "time_s": 0.12,
     "detections": [FOUND]},
]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
def test_json_written_row_by_row_is_the_json_of_the_whole_list(tmp_path, rows):
    with results(tmp_path) as written:
        for row in rows:
            written.add(row)
    write_json(tmp_path / "whole.json", rows)
    assert (tmp_path / "predictions.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert (written.rows, written.detections) == (
        len(rows), sum(len(row["detections"]) for row in rows))


def test_the_table_is_read_as_the_tables_of_the_project_are(tmp_path):
    with results(tmp_path) as written:
        for row in ROWS:
            written.add(row)
    lines = (tmp_path / "predictions.csv").read_text("utf-8").split("\n")
    assert lines[0] == "filename,width,height,class,xmin,ymin,xmax,ymax,score,frame,time_s"
    assert lines[3] == "in/empty.jpg,60,50,,,,,,,,"
    assert lines[4].endswith("1,2.5,30,40.25,0.75,3,0.12")
    images = read_table(tmp_path / "predictions.csv")
    assert [len(image.boxes) for image in images] == [2, 0, 1]
    assert images[0].boxes[0].xyxy_px == (1.0, 2.5, 30.0, 40.25)
    assert images[0].boxes[0].class_name == FOUND["class"]


def test_files_of_an_earlier_run_stay_when_a_run_fails(tmp_path):
    with results(tmp_path) as written:
        written.add(ROWS[0])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt), results(tmp_path) as written:
        written.add(ROWS[2])
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_one_name_get_two_copies_and_a_video_beside_an_image_none(tmp_path):
    for name in (
        "a.jpg", "A.png", "a.mov", "b.jpg", "b.mp4", "c.MKV", "c.avi", "notes.txt", ".hidden.mp4"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    files = find_files([tmp_path / "in"], tmp_path / "out")
    drawn = {
        path.name: target.name for path, target in copy_targets(files, tmp_path / "out").items()}
    assert drawn == {"a.jpg": "a.jpg.jpg", "A.png": "A.png.jpg", "a.mov": "a.mp4", "b.jpg": "b.jpg",
                     "b.mp4": "b.mp4",
                     "c.MKV": "c.MKV.mp4", "c.avi": "c.avi.mp4"}  # fmt: skip
    with pytest.raises(DetectorError, match="would replace .*b.mp4.*name another folder"):
        copy_targets(find_files([tmp_path / "in" / "b.mp4"], tmp_path / "in"), tmp_path / "in")


def test_a_folder_without_anything_names_what_counts(tmp_path):
    with pytest.raises(DetectorError, match=r"no .*\.jpg.*\.mp4.*\.webm: .*: give a folder"):
        find_files([tmp_path], tmp_path / "out")
    (tmp_path / "a.png").touch()
    assert list(find_files([tmp_path, tmp_path / "a.png"], tmp_path / "out")) == [
        tmp_path / "a.png"], "given twice"


def test_a_model_is_a_variant_or_a_path(tmp_path):
    (tmp_path / "tflite").mkdir()
    shipped = tmp_path / "tflite" / "detector_int8.tflite"
    assert find_model(
        tmp_path, "", "int8") == shipped, "also when it is missing: the reader says what to run"
    with pytest.raises(DetectorError, match="'float16': tflite/: run `invoke tflite`"):
        find_model(tmp_path, "float16", "int8")
    for name in ("int8", "float32"):
        (tmp_path / "tflite" / f"detector_{name}.tflite").touch()
    assert find_model(tmp_path, "float32", "int8").name == "detector_float32.tflite"
    with pytest.raises(
        DetectorError, match="no variant and no path 'flot16': tflite/: name one of float32, int8"):
        find_model(tmp_path, "flot16", "int8")
    for path in ("other/m.tflite", "m.tflite", str(tmp_path / "tflite"), "inference/saved_model"):
        assert str(find_model(tmp_path, path, "int8")) == path


@pytest.mark.parametrize("text", ["abc", "", "-1", "1.01", "nan", "inf", "1,5"])
def test_a_slip_in_a_number_is_one_line(text):
    with pytest.raises(
        DetectorError, match="is not a number from 0 to 1: --threshold: .* --threshold 0.3"):
        parse_number(text, "threshold", float, 0, 1, "0.3")


def test_numbers_that_fit():
    assert parse_number("0.25", "threshold", float, 0, 1, "0.3") == 0.25
    assert parse_number("7", "every", int, 1, float("inf"), "5") == 7
    for text in ("0", "2.5"):
        with pytest.raises(DetectorError, match="is not a whole number of at least 1: --every"):
            parse_number(text, "every", int, 1, float("inf"), "5")

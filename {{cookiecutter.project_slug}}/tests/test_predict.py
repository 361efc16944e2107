"""`invoke predict` on folders, single images, phone images, a video and rubbish, with a detector
that runs."""

import json

import numpy as np
import pytest
from made_tflite import LABELS, image, tiny_tflite
from PIL import Image

from scripts.core.files import write_json
from scripts.core.text import DetectorError, parse_number
from scripts.data.box_table import read_table
from scripts.deploy.predictions import detection_rows, results
from scripts.evaluation.detections import Detections
from scripts.tools.predict import copy_targets, find_files, find_model, predict


def save(path, cells, side_px=160, exif=0, **options):
    """An image of tiny_tflite's colors, saved with an orientation tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    if exif:
        tags[0x0112] = exif
    Image.fromarray(image(cells, side_px)).save(path, exif=tags, **options)
    return path


@pytest.fixture
def model(tmp_path):
    """A shipped detector."""
    from scripts.deploy.metadata import with_metadata

    about = {"name": "n", "description": "d", "author": "a", "license": "l"}
    path = tmp_path / "tflite" / "detector_int8.tflite"
    path.parent.mkdir()
    path.write_bytes(with_metadata(tiny_tflite("int8"), list(LABELS), **about, provenance={}))
    return path


def rows_of(out):
    return json.loads((out / "predictions.json").read_text("utf-8"))


@pytest.mark.slow
def test_folder_is_searched_at_any_depth_and_every_image_is_drawn(tmp_path, model):
    photos, out = tmp_path / "my photos", tmp_path / "out"
    save(photos / "a.JPG", {(0, 0): 0}, format="JPEG")
    save(photos / "deep" / "ю.png", {(1, 1): 6, (2, 3): 1})
    save(photos / "empty.jpeg", {})
    (photos / "notes.txt").write_text("no image")
    (photos / "torn.jpg").write_bytes((photos / "a.JPG").read_bytes()[:300])
    counts = predict([photos], model, out, "0.3")
    assert (counts.images, counts.detections, len(counts.unreadable)) == (3, 3, 1)
    assert "torn.jpg" in str(counts) and "3 images, 3 detections" in str(counts)
    rows = {row["file"].rsplit("/", 1)[1]: row for row in rows_of(out)}
    assert sorted(rows) == ["a.JPG", "empty.jpeg", "ю.png"]
    assert rows["empty.jpeg"]["detections"] == []
    assert (rows["a.JPG"]["width"], rows["a.JPG"]["height"]) == (160, 160)
    (red,) = rows["a.JPG"]["detections"]
    assert (red["class"], red["class_id"]) == ("red", 0)
    assert red["box_xyxy_px"] == pytest.approx([0, 6, 38, 42], abs=2)
    assert {one["class"] for one in rows["ю.png"]["detections"]} == {"белый", "green"}
    drawn = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))
    assert drawn == ["a.jpg", "deep/ю.jpg", "empty.jpg"]
    # A second run with the copies inside the searched folder does not take them for images.
    inside = photos / "out"
    assert predict([photos], model, inside, "0.3").images == predict(
        [photos], model, inside, "0.3").images == 3


@pytest.mark.slow
def test_phone_image_is_seen_upright(tmp_path, model):
    # Stored turned by 90 degrees: what is at the top left of the file is at the top right of the
    # view (orientation 6).
    path = tmp_path / "phone.jpg"
    tags = Image.Exif()
    tags[0x0112] = 6
    stored = Image.fromarray(image({(0, 0): 1}, 160)).resize((320, 160))
    stored.save(path, exif=tags)
    predict([path], model, tmp_path / "out", "0.3")
    (row,) = rows_of(tmp_path / "out")
    assert (row["width"], row["height"]) == (160, 320)
    xmin, ymin, xmax, ymax = row["detections"][0]["box_xyxy_px"]
    assert 110 < xmin < xmax <= 160 and 0 <= ymin < ymax < 95
    assert Image.open(tmp_path / "out" / "phone.jpg").size == (160, 320)


@pytest.mark.slow
def test_threshold_leaves_out_what_is_below(tmp_path, model):
    path = save(tmp_path / "a.png", {(0, 0): 0})
    assert predict([path], model, tmp_path / "out", "1.0").detections == 0
    assert predict([path], model, tmp_path / "out", "0.0").detections >= 1


@pytest.mark.slow
def test_nothing_readable_and_originals_in_the_way_are_refused(tmp_path, model):
    path = tmp_path / "in" / "a.jpg"
    save(path, {(0, 0): 0})
    before = path.read_bytes()
    with pytest.raises(DetectorError, match="name another folder"):
        predict([path], model, path.parent, "0.3")
    assert path.read_bytes() == before
    path.write_bytes(b"no image")
    with pytest.raises(DetectorError, match="nothing can be read: .*a.jpg"):
        predict([path], model, tmp_path / "out", "0.3")


def test_missing_things_are_named_in_one_line(tmp_path):
    with pytest.raises(DetectorError, match="does not exist: .*nowhere"):
        predict([tmp_path / "nowhere"], tmp_path / "m.tflite", tmp_path / "out", "0.3")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DetectorError, match="folder has no .*.jpg"):
        predict([tmp_path / "bare"], tmp_path / "m.tflite", tmp_path / "out", "0.3")
    path = save(tmp_path / "a.png", {})
    with pytest.raises(DetectorError, match="run `invoke tflite` first"):
        predict([path], tmp_path / "m.tflite", tmp_path / "out", "0.3")
    with pytest.raises(DetectorError, match="--threshold"):
        predict([path], tmp_path / "m.tflite", tmp_path / "out", "30")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_advised_threshold_holds_when_none_is_given(tmp_path, model):
    from scripts.deploy.provenance import with_more_provenance

    path = save(tmp_path / "a.png", {(0, 0): 0})
    plain = predict([path], model, tmp_path / "out")
    assert (plain.detections, plain.threshold) == (1, 0.3)
    assert "(the model advises none)" in str(plain)
    model.write_bytes(with_more_provenance(model.read_bytes(), {"advised_score_threshold": 0.9999}))
    advised = predict([path], model, tmp_path / "out")
    assert (advised.detections, advised.threshold) == (0, 0.9999)
    assert "(advised by the model)" in str(advised)
    assert predict([path], model, tmp_path / "out", "0.3").detections == 1


@pytest.mark.slow
def test_frames_of_a_video_are_seen_as_images_are(tmp_path, model):
    import cv2

    rgb = image({(0, 0): 0, (2, 3): 1}, 160)
    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 160))
    for _ in range(3):
        writer.write(rgb[..., ::-1].copy())
    writer.release()
    path = save(tmp_path / "p.png", {(0, 0): 0, (2, 3): 1})
    counts = predict([path, tmp_path / "v.avi"], model, tmp_path / "out", "0.3")
    assert (counts.images, counts.videos, counts.frames, counts.detections) == (1, 1, 3, 8)
    first, *frames = rows_of(tmp_path / "out")
    for row in frames:
        for seen, frame in zip(first["detections"], row["detections"], strict=True):
            assert seen["class"] == frame["class"], "red and blue are not exchanged"
            assert seen["box_xyxy_px"] == pytest.approx(frame["box_xyxy_px"], abs=1)


def test_rows_are_clipped_named_and_best_first():
    found = Detections(np.float32([[-0.5, 0.25, 0.5, 2.0], [0, 0, 1, 1]]), np.int64([1, 7]),
                       np.float32([0.5, 0.75]))
    assert detection_rows(found, (200, 100), ["a", "b"], 0.3) == [
        {"class": "class 7", "class_id": 7, "score": 0.75, "box_xyxy_px": [0.0, 0.0, 200.0, 100.0]},
        {"class": "b", "class_id": 1, "score": 0.5, "box_xyxy_px": [50.0, 0.0, 200.0, 50.0]},
    ]


# What `invoke predict` is given and writes, without any model: names, numbers, tables.


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

"""`invoke predict` on folders, single images, phone images, a video and rubbish, with a detector
that runs."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_tflite import LABELS, image, tiny_tflite

from scripts.core.text import DetectorError
from scripts.deploy.predictions import detection_rows
from scripts.evaluation.detections import Detections
from scripts.tools.predict import predict


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

"""Frames of videos, their annotated copies, and videos that are turned, cut, empty or none."""

import csv
import json
import struct
import weakref

import numpy as np
import pytest

from scripts.core.text import DetectorError
from scripts.deploy.predictions import Video, VideoCopy, predict_video

FPS, SIZE_PX = 25, (96, 64)
RED, GRAY = (230, 20, 20), (90, 90, 90)


def write_video(path, frames=12, size_px=SIZE_PX, codec="mp4v", fps=FPS):
    """A gray video with a red left half; blue grows, so that frames differ."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, size_px)
    for number in range(frames):
        rgb = np.full((size_px[1], size_px[0], 3), GRAY, np.uint8)
        rgb[:, : size_px[0] // 2] = RED
        rgb[..., 2] += min(60, 2 * number)
        writer.write(rgb[..., ::-1].copy())
    writer.release()
    return path


def turned(path, quarter: bool = True):
    """Write the rotation of a phone held upright into the header of an .mp4: 90 degrees clockwise.
    """
    data = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, 8.3.2: after version, times, track, duration, layer ...
    matrix = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, matrix, 0, 65536, 0, -65536, 0, 0, SIZE_PX[1] << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def red_box(image) -> list[dict]:
    """A detector of red: one box around all red pixels."""
    red = np.asarray(image).astype(int)
    rows, columns = np.nonzero((red[..., 0] > 150) & (red[..., 1] < 80))
    if not len(rows):
        return []
    edges = [float(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    return [{"class": "red", "class_id": 2, "score": 0.9, "box_xyxy_px": edges}]


def frames_of(path):
    """All frames as players show them, RGB."""
    video = Video(path)
    frames = [np.asarray(frame.image) for frame in video.frames(1)]
    video.close()
    return frames


def run(path, every=1, look=red_box):
    """Rows, number of frames, flaw and the copy of a video."""
    rows, target = [], path.parent / "out" / "copy.mp4"
    count, flaw = predict_video(path, look, every, target, rows.append)
    return rows, count, flaw, target


def test_every_frame_has_a_row_and_its_copy_shows_the_box(tmp_path):
    path = write_video(tmp_path / "walk ü.mp4")
    rows, count, flaw, target = run(path)
    assert (count, flaw) == (12, "")
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["time_s"] for row in rows] == [round(number / FPS, 3) for number in range(12)]
    assert {(row["file"], row["width"], row["height"]) for row in rows} == {
        (path.as_posix(), *SIZE_PX)}
    assert rows[5]["detections"][0]["box_xyxy_px"] == pytest.approx([0, 0, 48, 64], abs=2)
    before, after = frames_of(path), frames_of(target)
    assert len(after) == 12 and after[0].shape == (64, 96, 3)
    unlike = np.abs(before[3].astype(int) - after[3]).max(2) > 60
    assert unlike[30:60, :4].any() or unlike[30:60,
                                             44:50].any(), "a frame is drawn at the edge of the box"
    assert not unlike[30:60, 60:].any(), "and nothing far from it"
    assert list(target.parent.iterdir()) == [target], "no temporary file stays"


def test_every_third_frame_keeps_numbers_times_and_the_pace_of_the_copy(tmp_path):
    rows, count, _, target = run(write_video(tmp_path / "a.mp4", frames=10), every=3)
    assert count == 4 and [row["frame"] for row in rows] == [0, 3, 6, 9]
    assert [row["time_s"] for row in rows] == [0, 0.12, 0.24, 0.36]
    copy = Video(target)
    assert copy.announced == 4 and copy.fps == pytest.approx(FPS / 3, abs=0.01)


def test_a_phone_video_is_seen_upright(tmp_path):
    rows, _, _, target = run(turned(write_video(tmp_path / "phone.mp4")))
    assert (rows[0]["width"], rows[0]["height"]) == (64, 96)
    # What is at the left of the stored frame is at the top of the view.
    assert rows[0]["detections"][0]["box_xyxy_px"] == pytest.approx([0, 0, 64, 48], abs=2)
    assert frames_of(target)[0].shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("ending", "codec"), [("avi", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80"), ("mov", "mp4v")])
def test_other_containers_are_read(tmp_path, ending, codec):
    rows, count, flaw, _ = run(write_video(tmp_path / f"a.{ending}", codec=codec))
    assert (count, flaw) == (12, "") and all(row["detections"] for row in rows)
    assert rows[-1]["time_s"] == 0.44


def test_of_a_video_that_breaks_off_the_frames_so_far_stay(tmp_path):
    path = write_video(tmp_path / "cut.avi", frames=40, codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    rows, count, flaw, target = run(path)
    assert 10 < count < 35 and len(rows) == count == len(frames_of(target))
    assert flaw == f"only {count} of 40 frames can be read"


def test_what_is_no_video_says_why(tmp_path):
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    blank = whole[:start] + bytes(end - start) + whole[end:]
    for data, why in ((b"", "empty"), (b"no video" * 99, "no video"),
                      (whole[:999], "where the table of frames"),
                      (blank, "no frame that can be read")):  # fmt: skip
        path = tmp_path / "x.mp4"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=why):
            run(path)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_no_frame_is_kept(tmp_path):
    alive, most = [], []

    def look(image):
        alive.append(weakref.ref(image))
        most.append(sum(reference() is not None for reference in alive))
        return []

    run(write_video(tmp_path / "long.mp4", frames=40), look=look)
    assert len(most) == 40 and max(most) <= 2


@pytest.mark.parametrize(("size_px", "copy_px"), [((97, 65), (96, 64)), ((4600, 32), (4096, 28))])
def test_odd_and_very_large_frames_have_a_copy(tmp_path, size_px, copy_px):
    rows, count, _, target = run(
        write_video(tmp_path / "a.avi", frames=2, size_px=size_px, codec="MJPG"))
    assert count == 2 and abs(rows[0]["width"] - size_px[0]) <= 1
    assert frames_of(target)[1].shape[1::-1] == copy_px


def test_a_copy_that_lost_frames_is_refused(tmp_path, monkeypatch):
    """As on a full disk, of which the encoder says nothing."""
    add, added = VideoCopy.add, []

    def forgetful(self, image):
        added.append(1)
        if len(added) == 7:
            self.frames += 1
        else:
            add(self, image)

    monkeypatch.setattr(VideoCopy, "add", forgetful)
    with pytest.raises(DetectorError, match="copy of .* is incomplete: .*: free some space"):
        run(write_video(tmp_path / "a.mp4"))
    assert not (tmp_path / "out" / "copy.mp4").exists()


def test_images_and_frames_stand_in_one_list_and_one_table(tmp_path, monkeypatch):
    from PIL import Image

    from scripts.tools import predict as module

    monkeypatch.setattr("scripts.tools.predict.open_detector", lambda _: None)
    monkeypatch.setattr(module, "_looker", lambda *_: red_box)
    source, out = tmp_path / "in", tmp_path / "out"
    write_video(source / "deep" / "a.mp4", frames=3)
    write_video(source / "cut.avi", frames=40, codec="MJPG")
    (source / "cut.avi").write_bytes((source / "cut.avi").read_bytes()[:-4000])
    (source / "torn.webm").write_bytes(b"x" * 300)
    Image.new("RGB", (40, 30), RED).save(source / "a.png")
    Image.new("RGB", (40, 30), GRAY).save(source / "b.png")
    counts = module.predict([source], tmp_path / "no.tflite", out, "0.4", "2")
    rows = json.loads((out / "predictions.json").read_text("utf-8"))
    assert (counts.images, counts.videos, counts.frames) == (2, 2, len(rows) - 2)
    text = str(counts)
    found = f"{counts.detections} detections from a score of 0.4 (--threshold)"
    assert text.startswith(f"2 images, 2 videos ({counts.frames} frames), {found} in ")
    assert "1 unreadable left out" in text and "torn.webm: it is no video" in text
    assert "1 broken off" in text and "cut.avi: only " in text and " of 40 frames" in text
    (image,) = [row for row in rows if row["file"].endswith("a.png")]
    assert set(image) == {
        "file", "width", "height", "detections"}, "images have the form they always had"
    assert [row["frame"] for row in rows if row["file"].endswith("a.mp4")] == [0, 2]
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:8] == [
        "filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    frames = [(row["frame"], row["time_s"]) for row in table if row["filename"].endswith("a.mp4")]
    assert frames == [("0", "0.0"), ("2", "0.08")]
    (empty,) = [row for row in table if row["filename"].endswith("b.png")]
    assert [empty[key] for key in ("width", "height", "class", "xmin", "score")] == [
        "40", "30", "", "", ""]
    assert sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file()) == [
        "a.jpg", "b.jpg", "cut.mp4", "deep/a.mp4", "predictions.csv", "predictions.json",
    ]  # fmt: skip
    inside = [module.predict([source], tmp_path / "no.tflite", source / "out", "0.4", "2")
              for _ in range(2)]
    assert inside[0] == inside[1], "copies are no sources"

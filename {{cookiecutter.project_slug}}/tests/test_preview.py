"""The contact sheet of `invoke preview`: which images are on it, where their boxes are, and what
cannot stop it."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data import drawing
from scripts.data.dataset import Box
from scripts.data.drawing import class_color, contact_sheet, draw_detections
from scripts.data.manifest import stored_images
from scripts.tools.preview import findings_by_image, preview, visible_edges_px


@pytest.fixture
def sheets(project, monkeypatch):
    """A function that runs `preview` and gives its line, the sheet, and the captions on it."""
    from scripts.tools import preview as module

    def run(count=24, flagged="", split="", seed=0, out="annotations/preview.png", ids=None):
        captions = []

        def noted(images, texts, *rest):
            captions.extend(texts)
            return original(images, texts, *rest)

        monkeypatch.setattr(module, "contact_sheet", noted)
        line = str(
            preview(project.root, project.root / out, count, flagged, split, seed, ids or {})
        )
        return line, np.asarray(Image.open(project.root / out)), captions

    original = module.contact_sheet
    project.sheet = run
    return project


def organized(project, bad=()):
    """Four good images a split and the `bad` ones (name, boxes), organized and checked."""
    for split in ("train", "validation", "test"):
        for index in range(4):
            project.add(
                f"{split}/{split}{index}.jpg",
                [("apple", (5, 5, 30, 20)), ("pear", (20, 10, 55, 35))],
            )
    for name, boxes in bad:
        project.add(f"train/{name}.jpg", boxes)
    project.organize()
    look(project)
    return project


def look(project):
    try:
        project.check()
    except DetectorError:
        pass


def test_random_images_as_many_as_asked_for_and_the_same_for_one_seed(sheets):
    organized(sheets)
    line, _, captions = sheets.sheet(count=5)
    assert line == "annotations/preview.png: 5 of 12 images" and len(captions) == 5
    assert sheets.sheet(count=5)[2] == captions != sheets.sheet(count=5, seed=1)[2]
    assert len(sheets.sheet(count=100)[2]) == 12
    line, _, captions = sheets.sheet(split="test")
    assert line.endswith("4 of 4 images") and all(
        caption.startswith("test/") for caption in captions
    )


def test_boxes_stand_where_they_are_on_the_stored_pixels(project):
    # Stored lying on its side: what training sees is 60 wide, whatever the camera says.
    project.add(
        "one.jpg", [("apple", (12, 8, 48, 32))], data=project.bytes_of("x", (60, 40), exif=6)
    )
    project.organize(exif="stored")
    out = project.root / "sheet.png"
    preview(project.root, out, 1, "", "", 0, {"apple": 3})
    sheet = np.asarray(Image.open(out))
    rows, columns = np.nonzero((sheet == class_color(3)).all(axis=2))
    width_px = sheet.shape[1] - 10
    assert (columns.max() - columns.min() + 1) / width_px == pytest.approx(36 / 60, abs=0.03)
    assert columns.min() == pytest.approx(5 + 12 / 60 * width_px, abs=3)
    assert rows.size and sheet.shape[0] < 300, "lies on its side"


DEFECTS = [
    # (name, corners, code, the note on the drawing)
    ("inverted", (30, 5, 5, 20), "E003", "inverted"),
    ("nan", (5, "abc", 30, 20), "E008", "ymin?"),
    ("nothing", ("", "", "", ""), "E008", "xmin? ymin? xmax? ymax?"),
    ("outside", (40, 5, 90, 20), "E005", "outside"),
    ("far", (5000, 5000, 6000, 6000), "E005", "outside"),
    ("left", (-300, -300, -200, -200), "E005", "outside"),
    ("empty", (5, 5, 5, 20), "E004", "no area"),
]


@pytest.mark.parametrize(("name", "corners", "code", "note"), DEFECTS)
def test_a_broken_box_is_drawn_with_what_is_wrong_with_it(
    sheets, monkeypatch, name, corners, code, note
):
    drawn = []
    original = drawing.draw_detections
    monkeypatch.setattr(
        drawing, "draw_detections", lambda *args: drawn.extend(args[1]) or original(*args)
    )
    organized(sheets, [(name, [("apple", corners)])])
    line, sheet, captions = sheets.sheet(flagged=True)
    assert captions[0].startswith(code) and captions[0].endswith(f"train/{name}.jpg")
    assert drawn[0]["note"] == f"{code} {note}"
    color = class_color(drawn[0]["class_id"])
    assert (sheet == color).all(axis=2).sum() > 50, "seen on the sheet"


def test_edges_are_in_order_and_near_the_image():
    for corners in (
        (9, 9, 1, 1),
        (math.nan,) * 4,
        (-1e9, -1e9, 1e9, 1e9),
        (math.inf, 0, -math.inf, 5),
    ):
        (left, top, right, bottom), note = visible_edges_px(Box("a", corners), (100, 50))
        assert -50 <= left <= right <= 150 and -25 <= top <= bottom <= 75 and note
    assert visible_edges_px(Box("a", (0, 0, 100, 50)), (100, 50)) == ((0, 0, 100, 50), "")


def test_a_crowded_image_is_not_hidden_by_its_names(sheets, monkeypatch):
    drawn = []
    original = drawing.draw_detections
    monkeypatch.setattr(
        drawing, "draw_detections", lambda *args: drawn.extend(args[1]) or original(*args)
    )
    boxes = [("apple", (x, 5, x + 3, 20)) for x in range(20)] + [
        ("pear", (0, 0, 9, 9)),
        ("pear", (9, 9, 0, 0)),
    ]
    sheets.add("one.jpg", boxes)
    sheets.organize()
    sheets.sheet()
    assert [row["class"] for row in drawn if row["class"]] == ["apple", "pear", "pear"] and len(
        drawn
    ) == 22


def test_flagged_shows_what_check_names_and_errors_before_the_rest(sheets):
    organized(
        sheets, [("bad", [("apple", (5, 5, 61, 20))]), ("thin", [("apple", (5, 5, 5.5, 20))])]
    )
    sheets.add("train/odd.jpg", size=(60, 40), declared=(61, 40))
    sheets.organize()
    look(sheets)
    assert [caption.split()[0] for caption in sheets.sheet(flagged=True)[2]] == [
        "E004", "E005", "R202",
    ]
    line, _, captions = sheets.sheet(flagged=True, count=2)
    assert line.endswith("2 of 3 flagged images") and all(
        caption.startswith("E0") for caption in captions
    )
    assert sheets.sheet(flagged="E005")[2] == ["E005 train/bad.jpg"]
    with pytest.raises(DetectorError, match="no E003 finding is about"):
        sheets.sheet(flagged="E003")


def test_a_finding_is_found_after_its_image_was_moved_or_edited_here(sheets):
    organized(sheets, [("bad", [("apple", (5, 5, 61, 20))])])
    for name in ("bad.jpg", "bad.xml"):
        path = sheets.find(name)
        path.rename(sheets.root / "images/test" / name)
    assert sheets.sheet(flagged="E005")[2] == ["E005 test/bad.jpg"]
    label = sheets.find("bad.xml")
    label.write_text(label.read_text("utf-8").replace("61", "65"), "utf-8")
    look(sheets)
    assert sheets.sheet(flagged="E005")[2] == ["E005 test/bad.jpg"]


def test_what_cannot_be_read_is_a_grey_tile(sheets):
    organized(sheets)
    sheets.find("train0.jpg").write_bytes(sheets.bytes_of("x", (400, 300))[:900])
    sheets.find("train1.xml").write_text("<annotation><object>", "utf-8")
    sheets.find("train2.xml").unlink()
    sheets.add("train/broken.jpg", data=b"no image")
    sheets.organize()
    look(sheets)
    line, _, captions = sheets.sheet(flagged=True)
    assert line.endswith("4 of 4 flagged images")
    (left_out,) = [caption for caption in captions if "broken.jpg" in caption]
    assert left_out.startswith("E010")
    assert any("(no label file)" in caption for caption in captions)
    assert any("(label file: not well-formed" in caption for caption in captions)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "0 images do not fit one sheet: --count"),
        ({"split": "valid"}, "'valid' is no split: --split: the nearest is 'validation'"),
        ({"flagged": "e5"}, "'e5' is no code, the nearest is 'E005': --flagged"),
        ({"out": "x.jpg"}, "--out"),
        ({"out": "images/train/x.png"}, "would be an image to train on"),
        ({"flagged": True}, "check.json: run `invoke check`"),
    ],
)
def test_refusals(sheets, options, words):
    sheets.add("train/a.jpg")
    sheets.organize()
    with pytest.raises(DetectorError, match=words) as caught:
        sheets.sheet(**options)
    assert "\n" not in str(caught.value)


def test_no_images(sheets):
    with pytest.raises(DetectorError, match="there are no images: images: run `invoke organize`"):
        sheets.sheet()


def test_many_boxes_from_one_label_file_are_told_apart_by_line(project):
    """Entries of `organize.json` that share a label file, as COCO has it."""
    for split, name in (("train", "a"), ("train", "b"), ("test", "c")):
        path = project.root / "images" / split / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(project.bytes_of(name))
    images = [{"name": name, "split": "train", "source": f"s/{name}.jpg", "label": "s/all.json",
               "lines": lines}
                for name, lines in (("a", [10, 20]), ("b", [30]), ("c", [0]))]  # fmt: skip
    note = {"code": "W116", "file": "s/all.json", "line": 3, "class": "", "message": "m"}
    manifest = {"schema": 1, "images": images, "findings": [{**note, "image": "c.jpg"}]}
    rows = [{**note, "line": line, "code": "E005"} for line in (20, 30, 99, 0)] + [note]
    rows.append({**note, "code": "W114", "line": 0, "message": "'b.jpg': 'fig' box covers all"})
    by_image = findings_by_image(rows, manifest, stored_images(project.root / "images"))
    found = {key: [row["line"] for row in each] for key, each in by_image.items()}
    assert found == {
        "train/a.jpg": [20],
        "train/b.jpg": [30, 0],
        "s/all.json": [99, 0],
        "test/c.jpg": [3],
    }


def test_memory_does_not_grow_with_the_size_of_an_image(project, tmp_path):
    from scripts.data.image_files import open_shrunk

    path = Path(tmp_path / "big.jpg")
    Image.new("RGB", (6000, 4000), (10, 200, 30)).save(path)
    image, size = open_shrunk(path, 300)
    assert image.size == (300, 200) and size == (6000, 4000) and image.getpixel((5, 5))[1] > 180


# Detections drawn on images, and sheets of images.


GRAY = (128, 128, 128)


def detection(box_xyxy_px, class_id=0, score=0.9, name="apple"):
    return {"class": name, "class_id": class_id, "score": score, "box_xyxy_px": box_xyxy_px}


def changed(image, drawn):
    return (np.asarray(image.convert("RGB"), int) != np.asarray(drawn, int)).any(axis=2)


def test_frame_is_drawn_on_the_edge_of_the_box_in_the_color_of_its_class():
    image = Image.new("RGB", (400, 300), GRAY)
    drawn = draw_detections(image, [detection([100.0, 80.0, 300.0, 200.0], class_id=3)])
    assert (
        drawn.getpixel((299, 150))
        == drawn.getpixel((200, 199))
        == drawn.getpixel((100, 150))
        == class_color(3)
    )
    for outside in ((300, 150), (200, 200), (99, 150)):
        assert drawn.getpixel(outside) == GRAY
    assert drawn.getpixel((200, 150)) == GRAY
    assert image.getcolors() == [(400 * 300, GRAY)], "the image given must stay as it was"


@pytest.mark.parametrize(
    "box_xyxy_px",
    [
        [0, 0, 40, 40],
        [360, 0, 400, 30],
        [390, 290, 400, 300],
        [0, 0, 400, 300],
        [-50, -50, 900, 900],
        [10, 5, 10, 5],
    ],
)
def test_label_is_whole_wherever_the_box_lies(box_xyxy_px):
    # The bar of the label is the only filled area: as many pixels of it must be seen as in the free
    # middle.
    image = Image.new("RGB", (400, 300), GRAY)
    color = class_color(0)

    def bar_px(box):
        pixels = (np.asarray(draw_detections(image, [detection(box)])) == color).all(axis=2)
        rows = np.flatnonzero(pixels.sum(axis=1) > 20)
        return pixels.sum() if not rows.size else pixels[rows[0] : rows[-1] + 1].sum()

    assert bar_px(box_xyxy_px) >= 0.9 * bar_px([200, 150, 201, 151])


def test_lines_and_labels_grow_with_the_image():
    shares = []
    for side_px in (500, 2500):
        image = Image.new("RGB", (side_px, side_px), GRAY)
        box = [0.3 * side_px, 0.3 * side_px, 0.7 * side_px, 0.7 * side_px]
        shares.append(changed(image, draw_detections(image, [detection(box)])).mean())
    assert 0.7 < shares[0] / shares[1] < 1.4


def test_name_too_long_for_the_image_keeps_its_score():
    image = Image.new("RGB", (90, 90), GRAY)
    long = draw_detections(image, [detection([5, 40, 60, 80], name="a" * 500, score=0.12)])
    other = draw_detections(image, [detection([5, 40, 60, 80], name="a" * 500, score=0.34)])
    assert changed(long, other).any()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_image_is_drawn_in_rgb(mode):
    drawn = draw_detections(Image.new(mode, (64, 48)), [detection([5, 5, 30, 30])])
    assert drawn.mode == "RGB" and drawn.size == (64, 48)


def test_no_detections_and_no_score():
    image = Image.new("RGB", (100, 100), GRAY)
    assert not changed(image, draw_detections(image, [])).any()
    labeled, scored = ([detection([20, 40, 60, 80], score=score)] for score in (None, 0.5))
    assert changed(draw_detections(image, labeled), draw_detections(image, scored)).any()


def test_classes_have_distinct_colors():
    colors = [np.asarray(class_color(class_id)) for class_id in range(12)]
    for index, one in enumerate(colors):
        assert all(np.abs(one - other).max() > 30 for other in colors[:index])


def test_sheet_shows_every_image_in_order():
    tones = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    images = [Image.new("RGB", (40, 20), tone) for tone in tones]
    sheet = np.asarray(contact_sheet(images, list("abcde"), columns=3, tile_px=60))
    centers = []
    for tone in tones:
        rows, columns = np.nonzero((sheet == tone).all(axis=2))
        assert len(rows) == 60 * 30, "fitted into the tile with its shape kept"
        centers.append((rows.mean(), columns.mean()))
    assert centers[0][0] == centers[1][0] == centers[2][0] < centers[3][0] == centers[4][0]
    assert centers[0][1] < centers[1][1] < centers[2][1] and centers[3][1] == centers[0][1]


def test_sheet_without_images_and_with_a_missing_caption():
    assert contact_sheet([], [], columns=4, tile_px=64).width > 0
    with pytest.raises(ValueError):
        contact_sheet([Image.new("RGB", (8, 8))], [], columns=4, tile_px=64)

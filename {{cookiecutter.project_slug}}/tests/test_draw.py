"""Detections drawn on images, and sheets of images."""

import numpy as np
import pytest
from PIL import Image

from scripts.data.drawing import class_color, contact_sheet, draw_detections

GREY = (128, 128, 128)


def detection(box_xyxy_px, class_id=0, score=0.9, name="apple"):
    return {"class": name, "class_id": class_id, "score": score, "box_xyxy_px": box_xyxy_px}


def changed(image, drawn):
    return (np.asarray(image.convert("RGB"), int) != np.asarray(drawn, int)).any(axis=2)


def test_frame_is_drawn_on_the_edge_of_the_box_in_the_color_of_its_class():
    image = Image.new("RGB", (400, 300), GREY)
    drawn = draw_detections(image, [detection([100.0, 80.0, 300.0, 200.0], class_id=3)])
    assert (
        drawn.getpixel((299, 150))
        == drawn.getpixel((200, 199))
        == drawn.getpixel((100, 150))
        == class_color(3)
    )
    for outside in ((300, 150), (200, 200), (99, 150)):
        assert drawn.getpixel(outside) == GREY
    assert drawn.getpixel((200, 150)) == GREY
    assert image.getcolors() == [(400 * 300, GREY)], "the image given must stay as it was"


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
    image = Image.new("RGB", (400, 300), GREY)
    color = class_color(0)

    def bar_px(box):
        pixels = (np.asarray(draw_detections(image, [detection(box)])) == color).all(axis=2)
        rows = np.flatnonzero(pixels.sum(axis=1) > 20)
        return pixels.sum() if not rows.size else pixels[rows[0] : rows[-1] + 1].sum()

    assert bar_px(box_xyxy_px) >= 0.9 * bar_px([200, 150, 201, 151])


def test_lines_and_labels_grow_with_the_image():
    shares = []
    for side_px in (500, 2500):
        image = Image.new("RGB", (side_px, side_px), GREY)
        box = [0.3 * side_px, 0.3 * side_px, 0.7 * side_px, 0.7 * side_px]
        shares.append(changed(image, draw_detections(image, [detection(box)])).mean())
    assert 0.7 < shares[0] / shares[1] < 1.4


def test_name_too_long_for_the_image_keeps_its_score():
    image = Image.new("RGB", (90, 90), GREY)
    long = draw_detections(image, [detection([5, 40, 60, 80], name="a" * 500, score=0.12)])
    other = draw_detections(image, [detection([5, 40, 60, 80], name="a" * 500, score=0.34)])
    assert changed(long, other).any()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_image_is_drawn_in_rgb(mode):
    drawn = draw_detections(Image.new(mode, (64, 48)), [detection([5, 5, 30, 30])])
    assert drawn.mode == "RGB" and drawn.size == (64, 48)


def test_no_detections_and_no_score():
    image = Image.new("RGB", (100, 100), GREY)
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

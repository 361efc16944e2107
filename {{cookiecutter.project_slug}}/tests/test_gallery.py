"""Images for TensorBoard: which are chosen, and what stands side by side."""

import numpy as np
from PIL import Image

from scripts.data.drawing import class_color
from scripts.training.summaries import PANEL_PX, choose, side_by_side

IMAGE = Image.new("RGB", (PANEL_PX, 240), (128, 128, 128))


def box(class_id, score=None, box_xyxy_px=(60, 60, 260, 200)):
    return {"class": f"class {class_id}", "class_id": class_id, "score": score, "box_xyxy_px": list(box_xyxy_px)}


def shown_px(image, class_id):
    return int((np.asarray(image) == class_color(class_id)).all(axis=2).sum())


def halves(sheet):
    middle = sheet.width // 2
    return sheet.crop((0, 0, middle, sheet.height)), sheet.crop((middle, 0, sheet.width, sheet.height))


def test_chosen_images_hold_labels_and_show_every_class():
    shown = [(number, {1}) for number in range(100)] + [(200, set()), (201, {2}), (202, {3}), (203, {1, 2})]
    chosen = choose(shown, 4)
    assert chosen == choose(shown, 4) and len(chosen) == len(set(chosen)) == 4
    assert {202, 201} < set(chosen) and 200 not in chosen


def test_there_may_be_fewer_images_than_asked_for():
    assert choose([(7, {1}), (8, set())], 8) == [7]
    assert choose([(8, set())], 8) == [] == choose([], 8)


def test_labels_stand_left_and_detections_right():
    sheet = side_by_side(IMAGE, [box(0)], [box(1, 0.8)])
    left, right = halves(sheet)
    assert sheet.width >= 2 * PANEL_PX and sheet.height > 240
    assert shown_px(left, 0) > 500 and shown_px(left, 1) == 0
    assert shown_px(right, 1) > 500 and shown_px(right, 0) == 0


def test_only_detections_that_are_sure_enough_are_drawn():
    found = [box(1, 0.29, (150, 110, 310, 230)), box(2, 0.3, (10, 30, 130, 100))]
    _, right = halves(side_by_side(IMAGE, [], found))
    assert shown_px(right, 1) == 0 and shown_px(right, 2) > 500

"""The error atlas: causes as TIDE defines them, what each costs, and the files that people read."""

import csv
import io
import random

import pytest

from scripts.core.layout import Layout
from scripts.data.manifest import read_manifest
from scripts.evaluation.errors import (
    CAUSES,
    LabelPlaces,
    error_report,
    errors_csv,
    errors_line,
    find_errors,
    gains,
    mended,
)
from scripts.evaluation.metrics import score

BOX = [100, 100, 100, 100]  # x, y, width, height in pixels
HALF_OFF = [150, 100, 100, 100]  # IoU 1/3 with BOX
ELSEWHERE = [300, 300, 50, 50]
APPLE, PEAR = 1, 2


def truth_of(*boxes, images=1):
    """A COCO ground truth of (category, bbox) or (category, bbox, crowd), all in image 1."""
    rows = [{"id": number, "image_id": 1, "category_id": box[0], "bbox": box[1],
             "area": box[1][2] * box[1][3],
             "iscrowd": int(box[2]) if len(box) > 2 else 0}
             for number, box in enumerate(boxes, start=1)]  # fmt: skip
    return {"images": [{"id": number, "file_name": f"{number}.jpg", "width": 400, "height": 400}
                       for number in range(1, images + 1)], "annotations": rows,
            "categories": [
                {"id": APPLE, "name": "apple"}, {"id": PEAR, "name": "pear"}]}  # fmt: skip


def seen(*rows):
    """COCO results of (category, bbox, score) in image 1."""
    return [{"image_id": 1, "category_id": row[0], "bbox": row[1], "score": row[2]} for row in rows]


def causes(groundtruth, detections, from_score=0.3):
    return [error.cause for error in find_errors(groundtruth, detections, from_score).errors]


@pytest.mark.parametrize(("boxes", "found", "expected"), [
    # right
    ([(APPLE, BOX)], [(APPLE, BOX, 0.9)], []),
    # the right class, half beside it: one error, and the box is not missed as well
    ([(APPLE, BOX)], [(APPLE, HALF_OFF, 0.9)], ["localization"]),
    # on the box, another class
    ([(APPLE, BOX)], [(PEAR, BOX, 0.9)], ["class"]),
    # another class and half beside it: nothing tells what was meant, so the box is missed too
    ([(APPLE, BOX)], [(PEAR, HALF_OFF, 0.9)], ["both", "missed"]),
    # a second one on a box that was found
    ([(APPLE, BOX)], [(APPLE, BOX, 0.9), (APPLE, BOX, 0.8)], ["duplicate"]),
    # where nothing is
    ([(APPLE, BOX)], [(APPLE, BOX, 0.9), (APPLE, ELSEWHERE, 0.8)], ["background"]),
    ([], [(APPLE, BOX, 0.9)], ["background"]),
    # nothing seen, or only with a lower score than the chosen one
    ([(APPLE, BOX)], [], ["missed"]),
    ([(APPLE, BOX)], [(APPLE, BOX, 0.2)], ["missed"]),
    # crowds are neither missed nor wrongly found, by their own class
    ([(APPLE, BOX, True)], [(APPLE, BOX, 0.9)], []),
    ([(APPLE, BOX, True)], [(PEAR, BOX, 0.9)], ["background"]),
    # half beside its own class, on one of another: TIDE asks for the place first
    ([(APPLE, BOX), (PEAR, HALF_OFF)], [(APPLE, HALF_OFF, 0.9)], ["localization", "missed"]),
    # a second one that lies on another class too: TIDE calls it confusion
    ([(APPLE, BOX), (PEAR, BOX)], [(APPLE, BOX, 0.9), (APPLE, BOX, 0.8)], ["class"]),
])  # fmt: skip
def test_a_wrong_detection_and_a_missed_box_have_the_cause_that_tide_gives_them(
    boxes, found, expected):
    assert causes(truth_of(*boxes), seen(*found)) == expected


def test_the_borders_are_tides():
    tenth, less = [100, 190, 100, 50], [100, 190, 100, 51]
    overlap = 1000 / (10000 + 5000 - 1000)
    assert overlap < 0.1, "10 px of 100: IoU 0.071"
    assert causes(truth_of((APPLE, BOX)), seen((APPLE, tenth, 0.9)))[0] == "background"
    # IoU 0.111
    assert causes(
        truth_of((APPLE, BOX)), seen((APPLE, [100, 180, 100, 100], 0.9)))[0] == "localization"
    # IoU 0.5 is found
    assert causes(truth_of((APPLE, BOX)), seen((APPLE, [100, 100, 100, 50], 0.9))) == []
    assert causes(truth_of((APPLE, BOX)), seen((PEAR, [100, 100, 100, 50], 0.9))) == ["class"]
    assert causes(truth_of((APPLE, BOX)), seen((PEAR, less, 0.9)))[0] == "background"


def test_of_several_detections_meant_for_one_box_the_best_is_mended_and_the_others_go():
    groundtruth = truth_of((APPLE, BOX))
    rows = seen((APPLE, HALF_OFF, 0.6), (APPLE, [50, 100, 100, 100], 0.9), (PEAR, BOX, 0.8))
    errors = find_errors(groundtruth, rows, 0.3).errors
    assert [(error.cause, error.detection["score"], error.mends) for error in errors] == [
        ("localization", 0.9, True), ("class", 0.8, False),
        ("localization", 0.6, False)]  # fmt: skip
    _, left = mended(groundtruth, rows, list(errors))
    assert left == seen((APPLE, BOX, 0.9))


def test_a_wrong_detection_beside_a_box_that_another_one_found_is_only_removed():
    groundtruth, rows = truth_of((APPLE, BOX)), seen((APPLE, HALF_OFF, 0.9), (APPLE, BOX, 0.5))
    (error,) = find_errors(groundtruth, rows, 0.3).errors
    assert error.cause == "localization" and not error.mends
    assert mended(groundtruth, rows, [error])[1] == rows[1:]


def drawn_at_random(seed, images=25):
    """A ground truth and detections with every kind of error, crowds and ties."""
    dice = random.Random(seed)
    groundtruth, rows = truth_of(images=images), []
    for image in range(1, images + 1):
        for _ in range(dice.randrange(4)):
            bbox = [dice.randrange(300), dice.randrange(300), dice.randrange(20, 100),
                    dice.randrange(20, 100)]
            number, category = len(groundtruth["annotations"]) + 1, dice.choice((APPLE, PEAR))
            groundtruth["annotations"].append({
                "id": number, "image_id": image, "category_id": category, "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": int(dice.random() < 0.1)})  # fmt: skip
            for _ in range(dice.randrange(3)):
                shifted = [value + dice.randrange(-15, 16) for value in bbox[:2]] + bbox[2:]
                rows.append({"image_id": image,
                             "category_id": category if dice.random() < 0.8 else 3 - category,
                             "bbox": shifted, "score": dice.randrange(1, 100) / 100})  # fmt: skip
        rows.append({"image_id": image, "category_id": dice.choice((APPLE, PEAR)),
                     "bbox": [dice.randrange(300)] * 4,
                     "score": dice.random()})  # fmt: skip
    return groundtruth, rows


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("from_score", [0.0, 0.4])
def test_ap50_is_pycocotools_without_a_fix_and_one_with_all(seed, from_score):
    groundtruth, rows = drawn_at_random(seed)
    analysis = find_errors(groundtruth, rows, from_score)
    before = score(groundtruth, rows)["AP50"]
    assert score(*mended(groundtruth, rows, []))["AP50"] == before
    assert score(*mended(groundtruth, rows, list(analysis.errors)))["AP50"] == 1.0
    gained = gains(groundtruth, rows, analysis)
    for cause in CAUSES:
        fixed = score(*mended(
            groundtruth, rows, [error for error in analysis.errors if error.cause == cause]))
        assert gained[cause] == pytest.approx(max(0.0, fixed["AP50"] - before), abs=1e-6)
        assert 0.0 <= gained[cause] <= 1.0 - before


@pytest.mark.parametrize("seed", range(8))
def test_every_detection_and_every_box_is_accounted_for_once(seed):
    groundtruth, rows = drawn_at_random(seed)
    analysis = find_errors(groundtruth, rows, 0.3)
    wrong = [error for error in analysis.errors if error.detection]
    assert analysis.shown == sum(row["score"] >= 0.3 for row in rows) >= analysis.right + len(wrong)
    scored = [row for row in groundtruth["annotations"] if not row["iscrowd"]]
    answered = [error for error in analysis.errors if error.mends or error.cause == "missed"]
    assert len(scored) == analysis.right + len(answered)


def test_without_any_box_nothing_can_be_gained_and_nothing_found_costs_all():
    assert gains(truth_of(), seen(), find_errors(truth_of(), [], 0.3)) == dict.fromkeys(CAUSES)
    groundtruth = truth_of((APPLE, BOX))
    assert gains(groundtruth, [], find_errors(groundtruth, [], 0.3))["missed"] == 1.0


@pytest.fixture
def labeled(project):
    """A project whose source labels two apples in one test image, on lines 8 and 17, organized and
    numbered."""
    from scripts.steps.labelmap import labelmap

    for split in ("train", "validation", "test"):
        project.add(f"{split}/{split}.jpg", [("apple", (5, 5, 25, 25)), ("apple", (30, 5, 50, 25))])
    project.organize()
    labelmap(project.root, [])
    return project


def one_missed():
    """What the labeled test image is scored against, and detections that miss the second box."""
    rows = [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400,
             "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [30, 5, 20, 20], "area": 400,
             "iscrowd": 0}]
    groundtruth = {"images": [{"id": 3, "file_name": "test.jpg", "width": 60, "height": 40}],
                   "annotations": rows,
                   "categories": [{"id": 1, "name": "apple"}]}
    return groundtruth, [{"image_id": 3, "category_id": 1, "bbox": bbox, "score": score}
                         for bbox, score in
                         (([5, 5, 20, 20], 0.9), ([0, 30, 5, 5], 0.8))]  # fmt: skip


def report_of(root):
    """What `invoke evaluate` notes of the errors from score 0.3 on."""
    places = LabelPlaces(
        Layout(root).images, read_manifest(Layout(root).manifest)["images"], ["apple"])
    return error_report(*one_missed(), 0.3, places)


def test_the_report_names_image_cause_and_the_line_of_the_sources_label(labeled):
    report = report_of(labeled.root)
    assert errors_line(
        report) == ("from score 0.30 on 1 of 2 boxes found; most costly: missed 1 (49.5 points), "
                                   "background 1 (0.0 points)")
    assert report["causes"]["missed"] == {"count": 1, "ap50_gain": pytest.approx(0.49505, abs=1e-4)}
    assert (report["boxes"], report["detections"], report["right"]) == (2, 2, 1)
    missed, background = report["errors"]
    assert missed["annotation"] == "../source/test/test.xml" and missed["line"] == 17
    assert missed["truth_box_xyxy_px"] == [30, 5, 50, 25]
    assert missed["class"] is missed["score"] is None
    assert background["annotation"] == "../source/test/test.xml" and background["line"] is None
    assert background["file"] == "images/test/test.jpg"
    assert background["box_xyxy_px"] == [0, 30, 5, 35]
    rows = list(csv.DictReader(io.StringIO(errors_csv(report["errors"]))))
    assert [(row["rank"], row["cause"], row["line"]) for row in rows] == [
        ("1", "missed", "17"), ("2", "background", "")]  # fmt: skip


def test_a_label_edited_in_images_is_named_there(labeled):
    path = labeled.find("test.xml")
    path.write_text("\n\n".join(path.read_text("utf-8").split("\n")[1:]), "utf-8")
    missed = report_of(labeled.root)["errors"][0]
    assert missed["annotation"] == "images/test/test.xml"
    assert path.read_text("utf-8").split("\n")[missed["line"] - 1].strip() == "<object>"

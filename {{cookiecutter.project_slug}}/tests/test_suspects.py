"""`invoke suspects`: wrong labels stand first, with the line to open; what a person has looked at
stays away."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data.dataset import ious
from scripts.evaluation.crop_classifier import background_boxes, leave_one_out_scores, reliability
from scripts.evaluation.label_issues import View, find_label_issues
from scripts.tools.suspects import TABLE, find_suspects, write_suspects

APPLE, PEAR = 1, 2
LEFT, RIGHT = (5.0, 5.0, 25.0, 25.0), (30.0, 5.0, 50.0, 25.0)
FEATURES = 6


def seen(split, name, labels, objects, noise=0):
    """An image as a network sees it that is right about `objects` [(class id, box, score)],
    whatever is labeled."""
    dice = np.random.default_rng(noise)
    anchors = np.array([box for _, box, _ in objects]).reshape(-1, 4)
    scores = np.full((len(objects), 2), 0.02)
    for row, (class_id, _, score) in zip(scores, objects, strict=True):
        row[class_id - 1] = score
    within = ious([box for _, box in labels], anchors)
    looks = [objects[int(row.argmax())][0] if row.max(initial=0) > 0.3 else 0 for row in within]

    def described(kinds):
        return np.eye(3, FEATURES)[kinds] + dice.normal(0, 0.1, (len(kinds), FEATURES))

    label_ids, boxes = tuple(label_id for label_id, _ in labels), tuple(box for _, box in labels)
    ids = np.array([class_id for class_id, _, _ in objects], int)
    return View(split, name, 60, 40, label_ids, boxes, (False,) * len(boxes), anchors, scores,
                anchors, ids, scores.max(1, initial=0),
                described(looks), described([0, 0]))  # fmt: skip


def images(wrong=()):
    """Forty good images of an apple and a pear, and the `wrong` ones."""
    good = [(APPLE, LEFT, 0.8), (PEAR, RIGHT, 0.7)]
    for number in range(40):
        yield seen("train", f"good{number}.jpg", [(APPLE, LEFT), (PEAR, RIGHT)], good, number)
    yield from wrong


WRONG = {
    "class": seen("train", "class.jpg", [(PEAR, LEFT)], [(APPLE, LEFT, 0.6)], 50),
    "box": seen("train", "box.jpg", [(APPLE, (15.0, 5.0, 35.0, 25.0))], [(APPLE, LEFT, 0.8)], 51),
    "missing": seen(
        "train", "missing.jpg", [(APPLE, LEFT)], [(APPLE, LEFT, 0.8), (PEAR, RIGHT, 0.7)], 52),
    "extra": seen("train", "extra.jpg", [(APPLE, LEFT), (PEAR, RIGHT)], [(APPLE, LEFT, 0.8)], 53),
}


def test_every_kind_of_wrong_label_stands_before_all_right_ones_under_its_name():
    found = find_label_issues(images(WRONG.values()))
    first = found[:4]
    assert {one.file_name: one.kind for one in first} == {f"{kind}.jpg": kind for kind in WRONG}
    assert first[-1].suspicion > 2 * found[4].suspicion
    assert all(0.0 <= one.suspicion <= 1.0 for one in found)


def test_what_is_suggested_is_what_the_network_sees():
    found = {one.kind: one for one in find_label_issues(images(WRONG.values()))[:4]}
    assert (found["class"].label_id, found["class"].suggested_id) == (PEAR, APPLE)
    assert found["box"].suggested_px == LEFT and found["box"].box_px == (15, 5, 35, 25)
    assert found["box"].iou == pytest.approx(1 / 3, abs=1e-6)
    assert found["missing"].suggested_px == RIGHT and found["missing"].suggested_id == PEAR
    assert found["missing"].box_px is None and found["extra"].suggested_px is None
    assert found["extra"].box_px == RIGHT


def test_a_wrong_class_that_the_network_has_learned_by_heart_is_found_all_the_same():
    learned = replace(WRONG["class"], scores=np.array([[0.05, 0.9]]), found_ids=np.array([PEAR]))
    first = find_label_issues(images([learned]))[0]
    assert (first.kind, first.file_name) == ("class", "class.jpg")


def test_without_a_crop_classifier_the_network_is_asked():
    def silent(view):
        return replace(view, label_features=np.zeros((len(view.label_ids), FEATURES)),
                       background_features=np.zeros((2, FEATURES)))  # fmt: skip

    found = find_label_issues(map(silent, images(WRONG.values())))
    assert {one.file_name for one in found[:4]} == {f"{kind}.jpg" for kind in WRONG}


def test_a_box_a_little_beside_its_object_is_found():
    beside = seen(
        "train", "beside.jpg", [(APPLE, (9.0, 5.0, 29.0, 25.0))], [(APPLE, LEFT, 0.8)], 60)
    first = find_label_issues(images([beside]))[0]
    assert (first.file_name, first.kind, first.suggested_px) == ("beside.jpg", "box", LEFT)


def test_a_network_that_often_sees_things_where_none_are_is_believed_less():
    free = (APPLE, (30.0, 28.0, 40.0, 38.0), 0.5)
    wrong = [replace(WRONG["missing"], file_name="missing.jpg")]
    fancies = [seen(
        "train", f"fancy{number}.jpg", [(APPLE, LEFT)], [(APPLE, LEFT, 0.8), free], number)
               for number in range(60)]  # fmt: skip

    def suspicion(images_seen):
        return {one.file_name: one.suspicion for one in find_label_issues(images_seen)
                if one.kind == "missing"}

    assert suspicion(images([*wrong, fancies[0]]))["fancy0.jpg"] > 0.3
    crowd = suspicion(images([*wrong, *fancies]))
    # What scores more is believed all the same.
    assert crowd["fancy0.jpg"] < 0.35 < crowd["missing.jpg"]


def test_that_a_network_sees_nothing_says_little_where_it_often_sees_nothing():
    blank = (APPLE, LEFT, 0.02)
    blind = [seen("test", f"blind{number}.jpg", [(APPLE, LEFT)], [blank], number)
             for number in range(12)]
    sharp = [seen("test", f"sharp{number}.jpg", [(APPLE, LEFT)], [(APPLE, LEFT, 0.8)], number)
             for number in range(14)]
    one_of_many = {
        one.file_name: one.suspicion for one in find_label_issues([*images(), *blind, *sharp])}
    only = {
        one.file_name: one.suspicion for one in find_label_issues([*images(), blind[0], *sharp])}
    assert one_of_many["blind0.jpg"] < 0.6 < 0.8 < only["blind0.jpg"]


def test_a_crowd_is_not_judged_and_nothing_is_missing_inside_it():
    crowd = replace(WRONG["missing"], label_ids=(APPLE,), xyxy_px=((0.0, 0.0, 60.0, 40.0),),
                    crowds=(True,))
    assert all(one.file_name != "missing.jpg" for one in find_label_issues(images([crowd])))


def test_images_without_labels_and_networks_without_detections_are_no_trouble():
    nothing = seen("test", "empty.jpg", [], [])
    assert find_label_issues([]) == find_label_issues([nothing]) == []
    (one,) = find_label_issues([seen("test", "found.jpg", [], [(APPLE, LEFT, 0.4)])])
    assert one.kind == "missing"
    blind = find_label_issues(
        [seen("test", f"{number}.jpg", [(APPLE, LEFT)], [], number) for number in range(3)])
    assert len(blind) == 3
    lone = find_label_issues(replace(view, scores=view.scores[:, :1]) for view in images()
                             if view.file_name == "good1.jpg")
    assert [each.label_id for each in lone] == [APPLE], "of a class that the network does not know"


def test_an_example_is_judged_as_if_it_had_not_been_learned():
    dice = np.random.default_rng(3)
    x, classes = dice.normal(size=(30, 4)), dice.integers(0, 3, 30)
    scores = leave_one_out_scores(x, classes)
    # What leaving one out by hand gives, with the same means and penalty.
    full = np.hstack([(x - x.mean(0)) / (x.std(0) + 1e-6), np.ones((30, 1))])
    for at in range(30):
        rest = np.delete(np.arange(30), at)
        penalty = 3.0 * 5 * np.eye(5)
        weights = np.linalg.solve(
            full[rest].T @ full[rest] + penalty, full[rest].T @ np.eye(3)[classes[rest]])
        assert scores[at] == pytest.approx(full[at] @ weights)
    assert reliability(np.eye(3)[classes], classes) == 1.0
    assert reliability(np.tile([1.0, 0, 0], (30, 1)), classes) == 0.0


def test_overlaps_do_not_depend_on_how_the_boxes_lie_in_memory():
    boxes = np.array([LEFT, RIGHT, (0, 0, 60, 40)])
    assert ious(np.asfortranarray(boxes), [LEFT])[:, 0] == pytest.approx([1, 0, 400 / 2400])


def test_background_is_where_neither_label_nor_detection_is():
    boxes = background_boxes("a.jpg", (600, 400), [(0, 0, 300, 400)], [(300, 0, 450, 400)])
    assert len(boxes) and ious(boxes, [(0, 0, 300, 400), (300, 0, 450, 400)]).max() < 0.15
    assert (boxes == background_boxes(
        "a.jpg", (600, 400), [(0, 0, 300, 400)], [(300, 0, 450, 400)])).all()
    assert len(background_boxes("a.jpg", (60, 40), [(0, 0, 60, 40)], [])) <= 3


@pytest.fixture
def judged(project):
    """A project with one wrong class in train and a missing box in test; `judge` makes the list."""
    from scripts.steps.labelmap import labelmap

    for number in range(40):
        project.add(f"train/good{number}.jpg", [("apple", LEFT), ("pear", RIGHT)])
    project.add("train/class.jpg", [("apple", RIGHT), ("pear", LEFT)])
    project.add("validation/validation.jpg")
    project.add("test/missing.jpg", [("apple", LEFT)])
    project.organize()
    labelmap(project.root, [])
    wrong = [seen("train", "class.jpg", [(APPLE, RIGHT), (PEAR, LEFT)],
                  [(APPLE, RIGHT, 0.8), (APPLE, LEFT, 0.8)], 50),
             replace(WRONG["missing"], split="test")]  # fmt: skip

    def judge(split="", count=0):
        line = str(write_suspects(project.root, images(wrong), "best_ckpt-7", split, count))
        return line, json.loads(
            (project.root / "eval/suspects.json").read_text("utf-8"))["suspects"]

    project.judge = judge
    return project


def table(project):
    with (project.root / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mark(project, *ranks, delimiter=","):
    """Write something into `looked` of these rows, as a spreadsheet would save it."""
    rows = [{**row, "looked": "ok" if row["rank"] in ranks else row["looked"]}
            for row in table(project)]
    with (project.root / TABLE).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def test_the_list_names_the_line_of_the_source_and_says_why(judged):
    line, rows = judged.judge()
    assert [(row["rank"], row["kind"], row["annotation"], row["line"]) for row in rows[:2]] == [
        (1, "class", "../source/train/class.xml", 17),
        (2, "missing", "../source/test/missing.xml", None)]  # fmt: skip
    assert rows[0]["why"] == "labeled pear, looks like apple"
    assert rows[1]["why"].startswith("pear is seen here (score 0.70, labels of test usually 0.80)")
    assert line.startswith("42 images, 83 boxes: ")
    assert " 1 in test: correcting those changes the figures" in line
    assert "first: class ../source/train/class.xml:17, missing ../source/test/missing.xml, " in line
    written = table(judged)
    assert written[0]["open"] == "../source/train/class.xml:17" and written[0]["looked"] == ""
    assert len(rows) == len(written) == 24, "a tenth of the boxes, but no fewer than these"
    assert len(judged.judge(count=3)[1]) == 3
    line, rows = judged.judge(split="test")
    assert line.startswith("1 image, 1 box: 1 missing, 1 ")
    assert {row["split"] for row in rows} == {"test"}


def test_the_sheet_shows_the_first_ones(judged):
    judged.judge(count=2)
    with Image.open(judged.root / "eval/suspects.png") as sheet:
        assert sheet.width > 2 * 360


def test_nothing_of_the_labels_is_changed(judged):
    before = {path: path.read_bytes() for folder in (judged.root / "images", judged.source)
              for path in folder.rglob("*.*")}  # fmt: skip
    judged.judge()
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_was_looked_at_leaves_the_list_and_stays_marked(judged, delimiter):
    judged.judge()
    mark(judged, "1", "2", delimiter=delimiter)
    for _ in range(2):
        line, rows = judged.judge(count=5)
        assert "2 looked at before" in line
        assert len(rows) == 5 and all(row["suspicion"] < 0.3 for row in rows)
        assert [row["file"] for row in table(judged) if row["looked"]] == [
            "images/train/class.jpg", "images/test/missing.jpg"]  # fmt: skip


def test_a_label_that_was_changed_after_it_was_looked_at_is_judged_anew(judged):
    judged.judge()
    mark(judged, "1")
    text = (judged.root / TABLE).read_text("utf-8-sig")
    (judged.root / TABLE).write_text(
        text.replace(",5.0,5.0,25.0,25.0,,,,", ",9.0,9.0,25.0,25.0,,,,"), "utf-8")
    assert judged.judge()[1][0]["class"] == "pear"


def test_a_table_that_cannot_be_read_is_not_overwritten(judged):
    judged.judge()
    for text in ("rank;kind\n1;class\n", "no table"):
        (judged.root / TABLE).write_text(text, "utf-8")
        with pytest.raises(
            DetectorError, match="column '.*' is missing: eval/suspects.csv:1: put it back"):
            judged.judge()
        assert (judged.root / TABLE).read_text("utf-8") == text
    (judged.root / TABLE).write_bytes(b"rank,\xff")
    with pytest.raises(DetectorError, match="not UTF-8: eval/suspects.csv"):
        judged.judge()


def test_a_split_that_does_not_exist_is_named(project):
    with pytest.raises(DetectorError, match="'tset' is no split: --split: the nearest is 'test'"):
        find_suspects(project.root, "best", "tset")


@pytest.mark.slow
def test_a_trained_project_gets_its_list_and_one_without_a_checkpoint_is_refused(copy):
    line = str(find_suspects(copy, "best", count=5))
    rows = json.loads((copy / "eval/suspects.json").read_text("utf-8"))["suspects"]
    assert line.startswith("24 images, ") and len(rows) == 5
    assert all((copy / row["file"]).is_file() and row["why"] for row in rows)
    (copy / "training/best/info.json").unlink()
    with pytest.raises(DetectorError, match="no checkpoint 'best'.*type invoke train"):
        find_suspects(copy, "best")

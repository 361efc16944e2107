"""Which detection found which box: cases small enough for a person, and equality with a matching
written out."""

import pytest
from by_hand import APPLE, BOX, DETECTIONS, PEAR, TRUTHS, found, groundtruth, matched
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.evaluation.metrics import match


def test_a_box_is_found_once_and_best_first():
    rows = match(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX, 0.4), found(1, APPLE, BOX, 0.8)]).rows
    assert [(row.score, row.hit, row.annotation_id) for row in rows] == [(0.8, True, 1), (0.4, False, None)]


def test_the_wrong_class_is_a_hit_only_where_classes_do_not_count():
    truth = groundtruth([(1, APPLE, BOX)])
    assert not match(truth, [found(1, PEAR, BOX)]).rows[0].hit
    (row,) = match(truth, [found(1, PEAR, BOX)], by_class=False).rows
    assert row.hit and row.category_id == PEAR and row.annotation_id == 1


def test_a_crowd_may_be_found_often_and_counts_neither_way():
    matches = match(groundtruth([(1, APPLE, BOX, True), (2, APPLE, BOX)]), [found(1, APPLE, BOX)] * 2)
    assert [(row.hit, row.ignored) for row in matches.rows] == [(False, True)] * 2
    assert matches.boxes == {APPLE: 1, PEAR: 0}


def test_no_image_and_no_detection_are_no_matches():
    assert match(groundtruth([], count=0), []).rows == ()
    assert match(groundtruth([(1, APPLE, BOX)]), []).boxes == {APPLE: 1, PEAR: 0}


@pytest.mark.parametrize(("iou", "hit"), [(0.5, True), (0.55, False)])
def test_the_overlap_asked_for_decides(iou, hit):
    (row,) = match(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, [10, 20, 100, 26])], iou).rows  # IoU 0.52
    assert row.hit is hit


@settings(deadline=None, max_examples=80)
@given(TRUTHS, DETECTIONS, st.booleans())
def test_matches_are_those_of_a_matching_written_out(truth, detections, by_class):
    matches = match(truth, detections, by_class=by_class)
    expected = [(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"], box is not None, ignored)
                for row, (box, ignored) in ((detections[place], outcome)
                                            for place, outcome in matched(truth, detections, by_class).items())]
    assert sorted(expected) == sorted((row.image_id, row.category_id, row.bbox, row.score, row.hit, row.ignored)
                                      for row in matches.rows)
    assert sum(matches.boxes.values()) == sum(not box["iscrowd"] for box in truth["annotations"])

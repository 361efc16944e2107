"""Which detection found which box: cases small enough for a person, and equality with a matching written out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.evaluation.matching import match
from tests.test_scorer import APPLE, BOX, PEAR, found, groundtruth

ELSEWHERE = [400.0, 300.0, 100.0, 50.0]


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


def test_no_picture_and_no_detection_are_no_matches():
    assert match(groundtruth([], pictures=0), []).rows == ()
    assert match(groundtruth([(1, APPLE, BOX)]), []).boxes == {APPLE: 1, PEAR: 0}


@pytest.mark.parametrize(("iou", "hit"), [(0.5, True), (0.55, False)])
def test_the_overlap_asked_for_decides(iou, hit):
    (row,) = match(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, [10, 20, 100, 26])], iou).rows  # IoU 0.52
    assert row.hit is hit


# Whole numbers and few scores, so that equal overlaps and equal scores are common.
BOXES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6)).map(
    lambda box: [8.0 * value for value in box])
LABELLED = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), BOXES, st.booleans()), max_size=12)
FOUND = st.lists(st.builds(found, st.integers(1, 3), st.integers(1, 3), BOXES, st.sampled_from([0.1, 0.5, 0.9])),
                 max_size=20)


def overlap(one, other, crowd) -> float:
    """IoU of two xywh boxes; of a crowd the share of the detection that lies in it."""
    sides = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / (one[2] * one[3] + (0 if crowd else other[2] * other[3] - both))


def matched_by_hand(truth, detections, by_class) -> dict[int, tuple]:
    """Number of the detection -> (hit, ignored), by COCO's rules as its paper and manual state them."""
    outcome, taken = {}, set()
    for number in sorted(range(len(detections)), key=lambda n: (-detections[n]["score"], detections[n]["category_id"])):
        row = detections[number]
        near = [(overlap(row["bbox"], box["bbox"], box["iscrowd"]), box) for box in truth["annotations"]
                if box["image_id"] == row["image_id"] and (not by_class or box["category_id"] == row["category_id"])]
        near = [(iou, box) for iou, box in near if iou >= 0.5]
        free = [(iou, box["category_id"], box["id"]) for iou, box in near
                if not box["iscrowd"] and box["id"] not in taken]
        if free:
            taken.add(max(free)[2])  # of equal ones the last: pycocotools goes through classes, then through ids
        outcome[number] = (bool(free), not free and any(box["iscrowd"] for _, box in near))
    return outcome


@settings(deadline=None, max_examples=300)
@given(LABELLED, FOUND, st.booleans())
def test_matches_are_those_of_a_matching_written_out(labelled, detections, by_class):
    truth = groundtruth(labelled, 3, ("apple", "pear", "plum"))
    matches = match(truth, detections, by_class=by_class)
    byhand = matched_by_hand(truth, detections, by_class)
    key = sorted((row.image_id, row.category_id, row.bbox, row.score, row.hit, row.ignored) for row in matches.rows)
    assert key == sorted((d["image_id"], d["category_id"], tuple(d["bbox"]), d["score"], *byhand[number])
                         for number, d in enumerate(detections))
    assert sum(matches.boxes.values()) == sum(not crowd for *_, crowd in labelled)

"""eval/analysis.json: equal to an independent pycocotools, a confusion matrix and the counts at
each score by hand, and what people read.
"""

import json

import pytest
from hypothesis import given, settings
from made_detections import (
    APPLE,
    BOX,
    DETECTIONS,
    ELSEWHERE,
    PEAR,
    TRUTHS,
    differences,
    figures_of_files,
    found,
    groundtruth,
    made,
    matched,
)

from scripts.evaluation.analysis import analyze, by_size, confusion, precision_over_recall, remarks
from scripts.evaluation.intervals import cannot_tell
from scripts.evaluation.metrics import evaluated, match, score
from scripts.evaluation.thresholds import (
    SCORES,
    advice_of,
    advice_text,
    best_cost,
    best_f1,
    curves,
    read_advice,
    thresholds,
    together,
)


def agree(folder, truth, detections):
    (folder / "groundtruth.json").write_text(json.dumps(truth), "utf-8")
    (folder / "detections.json").write_text(json.dumps(detections), "utf-8")
    evaluation = evaluated(truth, detections)
    analysis = {"sizes": by_size(evaluation), "pr": precision_over_recall(evaluation)}
    independent = figures_of_files(folder / "groundtruth.json", folder / "detections.json")
    assert max(differences(score(truth, detections), analysis, independent)) < 1e-6


@settings(deadline=None, max_examples=25)
@given(TRUTHS, DETECTIONS)
def test_every_figure_is_that_of_an_independent_pycocotools(tmp_path_factory, truth, detections):
    agree(tmp_path_factory.mktemp("files"), truth, detections)


@pytest.mark.parametrize(("images", "classes"), [(30, 12), (60, 3)])
def test_so_is_every_figure_of_many_classes_and_images(tmp_path, images, classes):
    agree(tmp_path, *made(images, 3, classes))


def test_sizes_count_the_boxes_that_are_scored():
    truth = groundtruth([(1, APPLE, [0, 0, 31, 31]), (1, APPLE, [50, 50, 32, 32]),
                         (2, APPLE, [0, 0, 200, 90], True),
                         (2, PEAR, [0, 0, 200, 90])])
    sizes = by_size(evaluated(truth, [found(2, PEAR, [0, 0, 200, 90])]))
    counts = {name: [part["boxes"] for part in sizes[name].values()] for name in sizes}
    assert counts == {
        "apple": [2, 1, 0], "pear": [0, 0, 1], "all": [2, 1, 1]}, "32 x 32 px is small and medium"
    assert sizes["pear"]["large"]["AP"] == 1.0 and sizes["pear"]["small"]["AP"] is None


def test_the_confusion_matrix_of_a_few_boxes():
    truth = groundtruth(
        [(1, APPLE, BOX), (1, PEAR, ELSEWHERE), (2, APPLE, BOX), (2, APPLE, ELSEWHERE, True)])
    detections = [found(1, APPLE, BOX), found(1, APPLE, ELSEWHERE, 0.8),
                  found(2, APPLE, [200, 10, 40, 40]),
                  found(2, PEAR, ELSEWHERE), found(2, APPLE, BOX, 0.4)]
    assert confusion(truth, detections, 0.5) == {
        "score": 0.5, "labels": ["apple", "pear", "background"],
        "rows": [[1, 0, 1], [1, 0, 0], [1, 0, 0]]}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(TRUTHS, DETECTIONS)
def test_the_confusion_matrix_is_that_counted_by_hand(truth, detections):
    shown = [row for row in detections if row["score"] >= 0.35]
    labels = {box["id"]: box["category_id"] for box in truth["annotations"] if not box["iscrowd"]}
    count = len(truth["categories"])
    expected = [[0] * (count + 1) for _ in range(count + 1)]
    hit = set()
    for place, (box, crowd) in matched(truth, shown, by_class=False).items():
        if not crowd:
            expected[labels[box] - 1 if box else count][shown[place]["category_id"] - 1] += 1
            hit.add(box)
    for box, label in labels.items():
        expected[label - 1][count] += box not in hit
    assert confusion(truth, detections, 0.35)["rows"] == expected


def test_the_analysis_has_every_part_in_its_form():
    truth, detections = made(30)
    analysis = analyze(truth, detections, made(20, 5), 2.0)
    names = [category["name"] for category in truth["categories"]]
    json.dumps(analysis)
    assert analysis["iou"] == 0.5 and analysis["thresholds"]["miss_cost"] == 2.0
    assert set(analysis["intervals"]) == {"AP", "AP50", "per_class"}
    assert list(analysis["sizes"]) == list(analysis["curves"]) == [*names, "all"]
    assert list(analysis["thresholds"]["per_class"]) == list(analysis["pr"]) == names
    assert {len(part) for part in analysis["curves"]["all"].values()} == {99}
    assert {len(part) for part in analysis["pr"][names[0]].values()} == {101}
    best = analysis["thresholds"]["all"]["best_f1"]
    at = analysis["curves"]["all"]["score"].index(best["score"])
    assert best == {name: analysis["curves"]["all"][name][at]
                    for name in ("score", "precision", "recall", "f1")}
    assert analysis["confusion"]["score"] == best["score"]
    assert sum(map(sum, analysis["confusion"]["rows"][:-1])) == sum(
        not row["iscrowd"] for row in truth["annotations"])


def test_thresholds_come_from_the_validation_images_and_their_figures_from_the_test_images():
    right, wrong = [found(1, APPLE, BOX, 0.9), found(2, PEAR, BOX, 0.9)], [
        found(1, APPLE, ELSEWHERE, 0.6)]
    truth = groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)])
    validation = truth, [found(1, APPLE, BOX, 0.4), found(2, PEAR, BOX, 0.2)]
    chosen = analyze(truth, right + wrong, validation, 1.0)["thresholds"]
    figures = {"precision": 0.666667, "recall": 1.0, "f1": 0.8}
    assert chosen["all"]["best_f1"] == {"score": 0.11, **figures}
    assert chosen["all"]["best_cost"] == {"score": 0.11, **figures, "misses": 0, "false_alarms": 1}
    assert chosen["per_class"]["apple"]["best_f1"] == {
        "score": 0.21, "precision": 0.5, "recall": 1.0, "f1": 0.666667}
    assert chosen["per_class"]["pear"]["best_f1"] == {
        "score": 0.11, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_people_read_what_the_figures_are_worth():
    truth, detections = made(30)
    small, advice, cost = remarks(analyze(truth, detections, (truth, detections), 2.0))
    assert small.startswith("30 test images cannot tell 5.0 points of AP from chance")
    assert advice.startswith("show detections from a score of 0.")
    assert "evaluate.miss_cost = 2: from 0." in cost and "missed" in cost


def test_a_model_that_finds_nothing_is_said_so_and_its_confusions_are_taken_at_the_usual_score():
    truth, _ = made(30)
    analysis = analyze(truth, [], (truth, []), 1.0)
    assert analysis["thresholds"]["all"]["best_f1"] is None
    assert analysis["confusion"]["score"] == 0.3
    assert remarks(analysis)[-1].startswith("no score is advised")


@pytest.mark.parametrize(
    ("images", "interval", "told", "enough"),
    [
        (200, (0.50, 0.58), 0.05, True),
        (200, (0.50, 0.58), 0.01, False),
        (60, (0.40, 0.56), 0.05, False),
        # one and the same in every draw says nothing of other images
        (12, (1.0, 1.0), 0.05, False),
        (60, None, 0.05, False),
    ],
)
def test_a_test_split_is_too_small_when_its_interval_is_wide(images, interval, told, enough):
    assert (cannot_tell(images, interval, told) == "") is enough


# Precision, recall and F1 over scores, and the scores that are advised.

def curve(truth, detections):
    return together(curves(match(truth, detections)).values())


def test_the_best_threshold_keeps_hits_and_leaves_out_the_rest():
    truth = groundtruth([(1, APPLE, BOX), (2, APPLE, BOX), (3, APPLE, BOX), (4, PEAR, BOX)], 4)
    hits = [found(1, APPLE, BOX, 0.9), found(2, APPLE, BOX, 0.8), found(3, APPLE, BOX, 0.6),
            found(4, PEAR, BOX, 0.55)]
    # Elsewhere, of the wrong class, found twice.
    wrong = [found(1, APPLE, ELSEWHERE, 0.4), found(4, APPLE, BOX, 0.3), found(2, APPLE, BOX, 0.45)]
    both = curve(truth, hits + wrong)
    assert SCORES[best_f1(
        both)] == 0.51, "the middle of all that keep exactly the hits: 0.46 to 0.55"
    assert both.figures(best_f1(both)) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    late = curve(
        truth, [*hits[:2], found(3, APPLE, ELSEWHERE, 0.7), found(4, PEAR, ELSEWHERE, 0.65)])
    assert 0.70 < SCORES[best_f1(late)] <= 0.80
    assert late.figures(best_f1(late)) == {
        "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3, abs=1e-6)}


def test_a_score_on_a_threshold_is_shown():
    one = curve(groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX, 0.35)])
    assert one.shown[SCORES.index(0.35)] == 1 and one.shown[SCORES.index(0.36)] == 0


def test_crowds_count_neither_way():
    truth = groundtruth([(1, APPLE, BOX), (2, APPLE, BOX, True)])
    assert curve(truth, [found(1, APPLE, BOX, 0.5), found(2, APPLE, BOX)]).figures(0) == {
        "precision": 1.0, "recall": 1.0, "f1": 1.0}  # fmt: skip


def test_what_is_undefined_is_none():
    nothing = curve(groundtruth([]), [])
    assert nothing.figures(0) == {"precision": None, "recall": None, "f1": None}
    assert best_f1(nothing) is None and best_cost(nothing, 1.0) is None
    assert curve(groundtruth([], 0), []) == nothing
    assert thresholds(nothing, nothing, 1.0) == {"best_f1": None, "best_cost": None}


def test_a_model_that_covers_images_with_boxes_is_not_advised_to_show_them():
    truth = groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)])
    cover = [found(image, APPLE, [3.0 * number, 300, 40, 40], 0.012) for image in (1, 2)
             for number in range(99)]
    hardly = curve(truth, [found(1, APPLE, BOX, 0.011), *cover])
    assert hardly.hits[0] == 1 and best_f1(hardly) is None
    lucky = curve(
        groundtruth([(1, APPLE, BOX)] + [(2, APPLE, ELSEWHERE)] * 30), [found(1, APPLE, BOX, 0.02)])
    assert best_f1(lucky) is None, "one of 31 boxes found is next to nothing"
    weak = curve(truth, [found(1, APPLE, BOX, 0.06), *cover])
    assert 0.01 < SCORES[best_f1(weak)] <= 0.06, "low scores alone are no reason"


@pytest.mark.parametrize(("miss_cost", "score", "misses", "false_alarms"), [
    (0.5, 0.85, 2, 0),  # showing the pear costs a false alarm, and is worth half of one
    (3.0, 0.45, 1, 1),
    (100.0, 0.15, 0, 7),
])
def test_the_cost_of_a_miss_decides_how_much_is_shown(miss_cost, score, misses, false_alarms):
    truth = groundtruth([(1, APPLE, BOX), (1, PEAR, ELSEWHERE), (2, APPLE, BOX)])
    wrong = [found(2, APPLE, ELSEWHERE, 0.7)]
    wrong += [found(2, PEAR, [30.0 * number, 300, 20, 20], 0.3) for number in range(6)]
    detections = [found(1, APPLE, BOX, 0.9), found(1, PEAR, ELSEWHERE, 0.6),
                  found(2, APPLE, BOX, 0.2), *wrong]
    both = curve(truth, detections)
    best = thresholds(both, both, miss_cost)["best_cost"]
    assert best["score"] == pytest.approx(score, abs=0.06)
    assert (best["misses"], best["false_alarms"]) == (misses, false_alarms)


def test_thresholds_are_chosen_on_validation_and_measured_on_test():
    validation = curve(
        groundtruth([(1, APPLE, BOX)]), [found(1, APPLE, BOX, 0.8), found(2, APPLE, BOX, 0.6)])
    truth = groundtruth([(1, APPLE, BOX), (2, APPLE, BOX)])
    test = curve(truth, [found(1, APPLE, BOX, 0.75), found(2, PEAR, BOX, 0.9)])
    best = thresholds(validation, test, 1.0)
    assert best["best_f1"] == {"score": 0.71, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert best["best_cost"] == {**best["best_f1"], "misses": 1, "false_alarms": 1}


def test_tflite_takes_its_advice_from_what_evaluate_wrote(tmp_path):
    best = {"score": 0.51, "precision": 0.8, "recall": None, "f1": 0.72}
    (tmp_path / "eval").mkdir()
    (tmp_path / "analysis.json").write_text(
        json.dumps({"thresholds": {"all": {"best_f1": best}}}), "utf-8")
    advice = read_advice(tmp_path / "analysis.json")
    assert advice.as_dict() == {"split": "test", "F1": 0.72, "precision": 0.8, "recall": None}
    words = "from a score of 0.51 on: F1 72.0 on test (precision 80.0, recall undefined)"
    assert words in advice_text(advice)
    assert advice_of({"thresholds": {"all": {"best_f1": None}}}) is None
    assert advice_text(None).startswith("no score is advised")
    assert "0.3 is taken" in advice_text(None)


@settings(deadline=None, max_examples=40)
@given(TRUTHS, DETECTIONS)
def test_counts_at_every_score_are_those_by_hand(truth, detections):
    by_class = curves(match(truth, detections))
    for place in range(0, len(SCORES), 7):
        shown = [row for row in detections if row["score"] >= SCORES[place]]
        outcome = matched(truth, shown)
        for label, ours in by_class.items():
            of_class = [
                outcome[number] for number, row in enumerate(shown) if row["category_id"] == label]
            boxes = sum(
                box["category_id"] == label and not box["iscrowd"] for box in truth["annotations"])
            right = sum(box is not None for box, _ in of_class)
            wrong = sum(box is None and not crowd for box, crowd in of_class)
            assert (ours.hits[place], ours.false_alarms(place), ours.misses(place)) == (
                right, wrong, boxes - right)
            precision, recall = right / (
                right + wrong) if right + wrong else None, right / boxes if boxes else None
            figures = ours.figures(place)
            assert figures["precision"] == (
                None if precision is None else pytest.approx(precision, abs=1e-6))
            assert figures["recall"] == (
                None if recall is None else pytest.approx(recall, abs=1e-6))
            if precision and recall:
                assert figures["f1"] == pytest.approx(2 / (1 / precision + 1 / recall), abs=1e-6)

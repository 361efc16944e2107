"""eval/analysis.json: equal to an independent pycocotools, a confusion matrix counted by hand, and
what people read."""

import json

import pytest
from by_hand import APPLE, BOX, DETECTIONS, ELSEWHERE, PEAR, TRUTHS, found, groundtruth, matched
from hypothesis import given, settings
from independent import differences, figures_of_files
from made_detections import made

from scripts.evaluation.analysis import analyze, by_size, confusion, precision_over_recall, remarks
from scripts.evaluation.intervals import cannot_tell
from scripts.evaluation.metrics import evaluated, score


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
    truth = groundtruth([(1, APPLE, [0, 0, 31, 31]), (1, APPLE, [50, 50, 32, 32]), (2, APPLE, [0, 0, 200, 90], True),
                         (2, PEAR, [0, 0, 200, 90])])
    sizes = by_size(evaluated(truth, [found(2, PEAR, [0, 0, 200, 90])]))
    counts = {name: [part["boxes"] for part in sizes[name].values()] for name in sizes}
    assert counts == {"apple": [2, 1, 0], "pear": [0, 0, 1], "all": [2, 1, 1]}, "32 x 32 px is small and medium"
    assert sizes["pear"]["large"]["AP"] == 1.0 and sizes["pear"]["small"]["AP"] is None


def test_the_confusion_matrix_of_a_few_boxes():
    truth = groundtruth([(1, APPLE, BOX), (1, PEAR, ELSEWHERE), (2, APPLE, BOX), (2, APPLE, ELSEWHERE, True)])
    detections = [found(1, APPLE, BOX), found(1, APPLE, ELSEWHERE, 0.8), found(2, APPLE, [200, 10, 40, 40]),
                  found(2, PEAR, ELSEWHERE), found(2, APPLE, BOX, 0.4)]
    assert confusion(truth, detections, 0.5) == {
        "score": 0.5, "labels": ["apple", "pear", "background"], "rows": [[1, 0, 1], [1, 0, 0], [1, 0, 0]]}  # fmt: skip


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
    assert best == {name: analysis["curves"]["all"][name][at] for name in ("score", "precision", "recall", "f1")}
    assert analysis["confusion"]["score"] == best["score"]
    assert sum(map(sum, analysis["confusion"]["rows"][:-1])) == sum(not row["iscrowd"] for row in truth["annotations"])


def test_thresholds_come_from_the_validation_images_and_their_figures_from_the_test_images():
    right, wrong = [found(1, APPLE, BOX, 0.9), found(2, PEAR, BOX, 0.9)], [found(1, APPLE, ELSEWHERE, 0.6)]
    truth = groundtruth([(1, APPLE, BOX), (2, PEAR, BOX)])
    validation = truth, [found(1, APPLE, BOX, 0.4), found(2, PEAR, BOX, 0.2)]
    chosen = analyze(truth, right + wrong, validation, 1.0)["thresholds"]
    figures = {"precision": 0.666667, "recall": 1.0, "f1": 0.8}
    assert chosen["all"]["best_f1"] == {"score": 0.11, **figures}
    assert chosen["all"]["best_cost"] == {"score": 0.11, **figures, "misses": 0, "false_alarms": 1}
    assert chosen["per_class"]["apple"]["best_f1"] == {"score": 0.21, "precision": 0.5, "recall": 1.0, "f1": 0.666667}
    assert chosen["per_class"]["pear"]["best_f1"] == {"score": 0.11, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_people_read_what_the_figures_are_worth():
    truth, detections = made(30)
    small, advice, cost = remarks(analyze(truth, detections, (truth, detections), 2.0))
    assert small.startswith("30 test images cannot tell 5.0 points of AP from chance")
    assert advice.startswith("show detections from a score of 0.")
    assert "evaluate.miss_cost = 2: from 0." in cost and "missed" in cost


def test_a_model_that_finds_nothing_is_said_so_and_its_confusions_are_taken_at_the_usual_score():
    truth, _ = made(30)
    analysis = analyze(truth, [], (truth, []), 1.0)
    assert analysis["thresholds"]["all"]["best_f1"] is None and analysis["confusion"]["score"] == 0.3
    assert remarks(analysis)[-1].startswith("no score is advised")


@pytest.mark.parametrize(
    ("images", "interval", "told", "enough"),
    [
        (200, (0.50, 0.58), 0.05, True),
        (200, (0.50, 0.58), 0.01, False),
        (60, (0.40, 0.56), 0.05, False),
        (12, (1.0, 1.0), 0.05, False),  # one and the same in every draw says nothing of other images
        (60, None, 0.05, False),
    ],
)
def test_a_test_split_is_too_small_when_its_interval_is_wide(images, interval, told, enough):
    assert (cannot_tell(images, interval, told) == "") is enough

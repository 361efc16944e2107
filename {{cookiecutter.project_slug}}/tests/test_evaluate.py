"""What `invoke evaluate` writes, on real records."""

import json
import random

import pytest
from independent import differences, figures_of_files

pytestmark = pytest.mark.slow


def moved_boxes(root, model, score_threshold, max_detections, split="test"):
    """Most labeled boxes of a split, moved a little: two steps of training find nothing."""
    from scripts.evaluation.detections import coco_groundtruth

    dice, truth = random.Random(7), coco_groundtruth(root, split)
    for row in truth["annotations"]:
        label = row["category_id"] if dice.random() < 0.9 else 1
        bbox = [round(value + dice.gauss(0, 3), 3) for value in row["bbox"][:2]] + row["bbox"][2:]
        yield {"image_id": row["image_id"], "category_id": label, "bbox": bbox, "score": round(dice.random(), 2)}


def test_the_written_files_give_pycocotools_the_written_figures(copy, monkeypatch, capsys):
    from scripts.steps import evaluate

    monkeypatch.setattr(evaluate, "checkpoint_detections", moved_boxes)
    evaluate.evaluate(copy, "best", 0.01, 100, 1.0)
    files = [copy / "eval/metrics.json", copy / "eval/analysis.json"]
    metrics, analysis = (json.loads(path.read_text("utf-8")) for path in files)
    assert metrics["AP"] > 0.1 and metrics["checkpoint"] == analysis["checkpoint"]
    independent = figures_of_files(copy / "eval/groundtruth.json", copy / "eval/detections.json")
    assert max(differences(metrics, analysis, independent)) < 1e-6
    printed = capsys.readouterr().out
    assert (copy / "eval/table.txt").read_text("utf-8") in printed
    assert f"from a score of {analysis['thresholds']['all']['best_f1']['score']:.2f} on" in printed
    assert "test images cannot tell" in printed, "there are but a few"

"""What `invoke evaluate` writes, on real records."""

import json
import random

import pytest
from independent import differences, figures_of_files

pytestmark = pytest.mark.slow


def moved_boxes(model, images, score_threshold, max_detections):
    """Most labeled boxes of images, moved a little: two steps of training find nothing."""
    dice = random.Random(7)
    for image in images:
        for label_id, edges in zip(image.label_ids, image.xyxy_px, strict=True):
            xmin, ymin, xmax, ymax = edges
            label = label_id if dice.random() < 0.9 else 1
            corner = [round(value + dice.gauss(0, 3), 3) for value in (xmin, ymin)]
            bbox = [*corner, round(xmax - xmin, 3), round(ymax - ymin, 3)]
            yield {"image_id": image.image_id, "category_id": label, "bbox": bbox,
                   "score": round(dice.random(), 2)}


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
    errors = json.loads((copy / "eval/errors.json").read_text("utf-8"))
    assert errors["checkpoint"] == metrics["checkpoint"] and errors["boxes"] == metrics["boxes"]
    assert len((copy / "eval/errors.csv").read_text("utf-8").splitlines()) == len(errors["errors"]) + 1
    assert [path.name for path in (copy / "eval/runs").glob("*/run.json")] == ["run.json"]

"""The whole chain, for real and small: `invoke tflite` in a freshly baked project."""

import json

import pytest

# Training this short gives a model that finds little: the gate is opened, and no figure is looked
# at.
SMALL = {
    "INVOKE_DEMO_IMAGES": "48",
    "INVOKE_TRAIN_MINUTES": "0.2",
    "INVOKE_TFLITE_MAX_AP_DROP": "1.0",
    "INVOKE_TFLITE_CALIBRATION_IMAGES": "8",
}
STEPS = "download organize check labelmap csv records pretrained configure train evaluate export tflite".split()
WRITTEN = [
    "annotations/label_map.pbtxt",
    "annotations/train_labels.csv",
    "annotations/check.json",
    "training/experiment.yaml",
    "training/run.json",
    "eval/metrics.json",
    "eval/analysis.json",
    "eval/detections.json",
    "eval/groundtruth.json",
    "inference/saved_model/saved_model.pb",
    "inference/labels.txt",
    "tflite/detector_int8.tflite",
    "tflite/labels.txt",
    "tflite/metrics.json",
]


@pytest.mark.slow
def test_a_fresh_project_reaches_a_measured_tflite(bake):
    project = bake()
    first = project.invoke("tflite", timeout_s=1200, **SMALL)
    assert first.returncode == 0, first.stdout + first.stderr
    assert_each_step_said_what_it_did(first.stdout)
    for path in WRITTEN:
        assert project.has_file(path), path
    assert_measured(project)

    again = project.invoke("tflite", **SMALL)
    assert again.returncode == 0
    assert " ran " not in again.stdout
    status = json.loads(project.invoke("status", "--json", **SMALL).stdout)
    assert {step["name"]: step["state"] for step in status["steps"]
            if step["name"] in STEPS[1:]} == dict.fromkeys(
        STEPS[1:], "done"
    )


def assert_each_step_said_what_it_did(printed: str) -> None:
    """Every step printed one line `NAME: ran SECONDS s: COUNTS`."""
    for step in STEPS[1:]:
        assert f"{step}: ran " in printed, f"{step} is missing in:\n{printed}"


def assert_measured(project) -> None:
    """The figures of the shipped file stand in tflite/metrics.json, and its labels are the demo's.
    """
    metrics = json.loads(project.read("tflite/metrics.json"))
    row = metrics["variants"][metrics["ship"]]
    assert row["passed"] and 0 <= row["AP"] <= 1 and row["latency_ms"]["median"] > 0
    assert row["bytes"] == (
        project.folder / "tflite" / row["file"].rpartition("/")[2]).stat().st_size
    evaluated = json.loads(project.read("eval/metrics.json"))
    labels = project.read("tflite/labels.txt").split("\n")
    assert [label for label in labels if label] == list(evaluated["per_class"])

"""The `evaluate` step: score a checkpoint on the test images, and say what its errors are."""

from pathlib import Path

from scripts.core.files import write_json, write_text
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, points
from scripts.data.label_map import read_label_map
from scripts.data.manifest import read_manifest
from scripts.evaluation.analysis import analyze, remarks
from scripts.evaluation.detections import coco_groundtruth, record_images
from scripts.evaluation.detector import checkpoint_detections, checkpoint_path, load_model
from scripts.evaluation.errors import LabelPlaces, error_report, errors_csv, errors_line
from scripts.evaluation.metrics import score, table_text
from scripts.evaluation.runs import keep_run
from scripts.evaluation.thresholds import USUAL_SCORE, Advice, advice_of
from scripts.training.run_file import read_run
from scripts.training.summaries import write_events


def evaluate(root: Path, which: str, score_threshold: float, max_detections: int,
             miss_cost: float) -> str:
    """Score a checkpoint on the test split, write `eval/` and print the table of classes.

    Args:
        root: the project.
        which: the checkpoint: `best`, `last` or a step.
        score_threshold: detections below this score (0..1) are dropped.
        max_detections: the best so many of each image are scored.
        miss_cost: how many false alarms a missed box costs, for the choice of a threshold.

    Returns:
        The summary of the step.
    """
    layout = Layout(root)
    test, validation = layout.records("test"), layout.records("validation")
    names = read_label_map(layout.label_map)
    groundtruth = coco_groundtruth(test, names)
    if not groundtruth["images"]:
        raise DetectorError("no images in split test: annotations/test_labels.csv: add images or "
                            "change [split] in detector.toml, then invoke organize")
    checkpoint = checkpoint_path(layout.training, which)
    model = load_model(layout.experiment, checkpoint)
    limits = {"score_threshold": score_threshold, "max_detections": max_detections}
    detections = list(checkpoint_detections(model, record_images(test), **limits))

    # What is chosen on images can no longer be measured on them: score thresholds are chosen on
    # the validation images.
    chosen_on = (coco_groundtruth(validation, names),
                 list(checkpoint_detections(model, record_images(validation), **limits)))

    # The test images are measured with the thresholds chosen above.
    about = {"schema": 1, "split": "test", "checkpoint": model.checkpoint}
    metrics = about | score(groundtruth, detections)
    analysis = about | analyze(groundtruth, detections, chosen_on, miss_cost)
    write_json(layout.groundtruth, groundtruth)
    write_json(layout.detections, detections)
    write_json(layout.metrics, metrics)
    write_json(layout.analysis, analysis)
    table = table_text(metrics, analysis["intervals"])
    write_text(layout.eval / "table.txt", table + "\n")

    errors = _write_errors(layout, about, groundtruth, detections, advice_of(analysis))
    write_events(layout.eval / "tensorboard", metrics, groundtruth, detections, test)
    keep_run(layout.runs, checkpoint, read_run(layout.run) or {}, limits,
             (groundtruth, detections), metrics, analysis["intervals"])
    print("\n".join([table, *remarks(analysis), errors]))
    return (f"{metrics['images']:,} images, {metrics['boxes']:,} boxes, {model.checkpoint}: "
            f"AP {points(metrics['AP'])}, AP50 {points(metrics['AP50'])}")


def _write_errors(layout: Layout, about: dict, groundtruth: dict, detections: list[dict],
                  advice: Advice | None) -> str:
    """Write the cause of each error among the detections that a user would see; return a line."""
    # Without an advised score the model has hardly learned; the usual one shows what it does.
    shown_from = advice.score_threshold if advice else USUAL_SCORE
    entries = read_manifest(layout.manifest)["images"]
    names = [category["name"] for category in groundtruth["categories"]]
    places = LabelPlaces(layout.images, entries, names)
    report = error_report(groundtruth, detections, shown_from, places)
    write_json(layout.eval / "errors.json", about | report)
    write_text(layout.eval / "errors.csv", errors_csv(report["errors"]))
    return f"{errors_line(report)}; see eval/errors.csv"

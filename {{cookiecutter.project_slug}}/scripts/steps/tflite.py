"""The `tflite` step: converts, scores and times each variant, and gates the one that ships."""

import json
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from scripts.core.files import write_bytes, write_json, write_text
from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.box_table import read_table
from scripts.data.label_map import read_label_map
from scripts.deploy.conversion import CALIBRATED, calibration_images, variant_bytes
from scripts.deploy.gate import passes, refusal, summary, variant_line
from scripts.deploy.provenance import advised, description, note_scores, read_about
from scripts.deploy.quantization import equalize, quantization_aware
from scripts.deploy.reader import TfliteDetector, time_detector
from scripts.deploy.tflite_file import LABELS, label_lines, labels_text
from scripts.evaluation.detections import (
    coco_groundtruth,
    decode_rgb,
    detector_detections,
    record_images,
)
from scripts.evaluation.detector import TrainedModel, checkpoint_path, load_model
from scripts.evaluation.intervals import ap_drop_interval
from scripts.evaluation.metrics import score
from scripts.evaluation.thresholds import Advice, advice_text, read_advice
from scripts.modeling.experiment import read_experiment, with_absolute_paths
from scripts.training.run_file import installed_versions, read_run

TIMED_RUNS = 50


@dataclass(frozen=True)
class Inputs:
    """What all variants share, each file read once.

    `texts` are `name`, `author` and `license` of the metadata. `test_records`, `groundtruth` and
    `detections` are of the test split: its files, its labels and what the checkpoint finds, in
    COCO form. `metrics` are those of the checkpoint.
    """

    checkpoint: Path
    model: TrainedModel
    labels: list[str]
    texts: dict
    advice: Advice | None
    provenance: dict
    calibration: list
    test_records: list[Path]
    groundtruth: dict
    metrics: dict
    detections: list[dict]


def tflite(root: Path, name: str, settings) -> str:
    """Write every variant of `settings.tflite.variants` and `tflite/metrics.json`.

    Args:
        root: the project.
        name: its name where `pyproject.toml` says none.
        settings: all of them (`Settings`).

    Returns:
        The summary of the shipped file.

    Raises:
        DetectorError: The shipped variant does not pass the gate, or `eval/` is of another
            checkpoint. A file that did not pass is then in `tflite/rejected/`.
    """
    layout, ship = Layout(root), settings.tflite.ship
    inputs = _read_inputs(layout, name, settings)
    write_text(layout.tflite / LABELS, labels_text(inputs.labels))

    rows = {}
    for variant in settings.tflite.variants:
        data = _convert(layout, inputs, variant, settings)
        rows[variant] = _measure(layout, inputs, variant, data, settings)
        print(variant_line(variant, rows[variant]), flush=True)

    # The scores are known only now; the network that was scored keeps every byte.
    scores = {"split": "test", "checkpoint": inputs.metrics["AP"]}
    scores |= {variant: row["AP"] for variant, row in rows.items()}
    noted = note_scores({variant: root / row["file"] for variant, row in rows.items()}, scores)
    rows = {variant: row | noted[variant] for variant, row in rows.items()}

    _remove_stale(layout, {root / row["file"] for row in rows.values()})
    checkpoint = {key: inputs.metrics[key] for key in ("AP", "AP50")}
    write_json(layout.tflite_metrics, {
        "schema": 1, "split": "test", "ship": ship, "variants": rows, **advised(inputs.advice),
        "checkpoint": {"name": inputs.model.checkpoint, **checkpoint}})
    print(f"  {advice_text(inputs.advice)}", flush=True)

    images = len(inputs.groundtruth["images"])
    if not rows[ship]["passed"]:
        raise DetectorError(refusal(rows[ship], settings.tflite, images))
    return summary(rows[ship], settings.tflite.max_ap_drop, images)


def _read_inputs(layout: Layout, name: str, settings) -> Inputs:
    checkpoint = checkpoint_path(layout.training, settings.export.checkpoint)
    model = load_model(layout.experiment, checkpoint)
    metrics = json.loads(layout.metrics.read_text("utf-8"))
    if metrics["checkpoint"] != model.checkpoint:
        raise DetectorError(
            f"eval/metrics.json is of {metrics['checkpoint']}, not of {model.checkpoint}: eval/: "
            "type invoke forget evaluate, then invoke evaluate")
    names, about = read_label_map(layout.label_map), read_about(layout.pyproject)
    advice, test_records = read_advice(layout.analysis), layout.records("test")
    calibration, options = [], settings.tflite
    if set(options.variants) & set(CALIBRATED):
        total = len(read_table(layout.table("train")))
        calibration = calibration_images(record_images(layout.records("train")), total,
                                         model.input_px, options.calibration_images)
    return Inputs(
        checkpoint, model, label_lines(names),
        {"name": about.name or name, "author": about.author, "license": about.license},
        advice, _provenance(layout, model, metrics, settings) | advised(advice), calibration,
        test_records, coco_groundtruth(test_records, names), metrics,
        json.loads(layout.detections.read_text("utf-8")))


def _provenance(layout: Layout, model: TrainedModel, metrics: dict, settings) -> dict:
    """Return where the files come from, as far as it is the same for all of them."""
    run = read_run(layout.run) or {}
    return {
        "model": settings.model.id, "checkpoint": model.checkpoint, "checkpoint_AP": metrics["AP"],
        "data_sha256": run.get("data_sha256"), "weights": run.get("weights"),
        "versions": installed_versions(),
        "settings": settings.subset(["model.id", "train", "evaluate", "overrides"]),
        "training": {key: run.get(key) for key in ("steps", "seconds", "stopped_by", "seed")}}


def _convert(layout: Layout, inputs: Inputs, variant: str, settings) -> bytes:
    model = inputs.model
    if variant in CALIBRATED:
        # Its weights are rewritten: the float variants keep those of the checkpoint.
        model = load_model(layout.experiment, inputs.checkpoint)
        equalize(model, inputs.calibration)
    if variant == "int8_qat":
        experiment = with_absolute_paths(read_experiment(layout.experiment), layout.root)
        model = quantization_aware(model, experiment, settings.tflite.qat_share, inputs.calibration)
    texts = inputs.texts | {"description": description(settings.model.id, variant, inputs.advice)}
    return variant_bytes(model, variant, inputs.calibration, settings.evaluate.score_threshold,
                         inputs.labels, texts, inputs.provenance)


def _measure(layout: Layout, inputs: Inputs, variant: str, data: bytes, settings) -> dict:
    """Score and time a variant as LiteRT runs it, and put the file where it belongs.

    Returns its row of `tflite/metrics.json`.
    """
    options, path = settings.tflite, layout.variant(variant)
    # Until it is measured it does not lie where files lie that may be used.
    rejected = layout.tflite / "rejected" / path.name
    write_bytes(rejected, data)
    detector = TfliteDetector(rejected, options.threads)

    # The test images are read anew for each variant: all at once may not fit into memory.
    images = tqdm(record_images(inputs.test_records), desc=f"tflite {variant}", disable=None,
                  leave=False, total=len(inputs.groundtruth["images"]))
    detections = detector_detections(images, detector.detect, settings.evaluate.max_detections)
    figures = score(inputs.groundtruth, detections)
    first = next(iter(record_images(inputs.test_records)))
    latency = time_detector(detector, decode_rgb(first.encoded), TIMED_RUNS)

    # Only the file that ships has to pass.
    drop, interval, passed = None, None, True
    if None not in (inputs.metrics["AP"], figures["AP"]):
        drop = round(inputs.metrics["AP"] - figures["AP"], 6)
    if variant == options.ship:
        if drop is not None:
            interval = ap_drop_interval(inputs.groundtruth, inputs.detections, detections)
        passed = passes(drop, interval, options.max_ap_drop)
    if passed:
        rejected.replace(path)
    else:
        path.unlink(missing_ok=True)
    return {"file": layout.shown(path if passed else rejected), "AP": figures["AP"],
            "AP50": figures["AP50"], "ap_drop": drop, "ap_drop_interval": interval,
            "latency_ms": latency, "passed": passed, "bytes": len(data)}


def _remove_stale(layout: Layout, made: set[Path]) -> None:
    """Remove files that an earlier run made and this one did not, so that none of them is shipped.
    """
    rejected = layout.tflite / "rejected"
    for folder in (layout.tflite, rejected):
        for path in folder.glob("detector_*.tflite"):
            if path not in made:
                path.unlink()
    if rejected.is_dir() and not any(rejected.iterdir()):
        rejected.rmdir()

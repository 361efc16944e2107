"""The `tflite` step: converts, adds metadata, scores and times each variant, and gates the one that
ships."""

import json
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from scripts.core.files import sha256_file, write_bytes, write_json
from scripts.core.text import DetectorError, points
from scripts.deploy.conversion import variant_bytes
from scripts.deploy.metadata import advised, note_scores
from scripts.deploy.reader import TfliteDetector, time_detector, write_labels
from scripts.evaluation.analysis import cannot_tell
from scripts.evaluation.detections import coco_groundtruth, decode_rgb, record_images
from scripts.evaluation.intervals import ap_drop_interval
from scripts.evaluation.metrics import score
from scripts.evaluation.thresholds import advice_text, read_advice
from scripts.steps.evaluate import detector_detections

METRICS = "tflite/metrics.json"
TIMED_RUNS = 50
ENOUGH_IMAGES = 200
"""Calibration images from which more of them hardly change the ranges."""


@dataclass(frozen=True)
class TfliteCounts:
    """The shipped variant's figures; AP is a fraction 0..1."""

    file: str
    ap: float | None
    ap_drop: float | None
    interval: tuple[float, float]
    allowed: float
    megabytes: float
    median_ms: float
    images: int

    def __str__(self):
        low, high = self.interval
        remark = ", more than is allowed, but chance explains it" if self.ap_drop > self.allowed else ""
        too_small = cannot_tell(self.images, self.interval, self.allowed)
        remark += f"; {too_small}" if too_small else ""
        return (f"{self.file}: AP {points(self.ap)}, {points(self.ap_drop)} points below the checkpoint "
                f"(95 % interval {points(low)} to {points(high)}{remark}), "
                f"{self.megabytes:.1f} MB, {self.median_ms:.1f} ms here")


def make_tflite(root: Path, name: str, settings) -> TfliteCounts:
    """Writes every variant of `settings.tflite.variants` (a `Settings`) and `tflite/metrics.json`.

    Raises DetectorError if the shipped variant does not pass the gate (`passes`); its file is then
    in `tflite/rejected/`.
    """
    from scripts.evaluation.detector import load_model

    model = load_model(root, settings.export.checkpoint)
    metrics = json.loads((root / "eval/metrics.json").read_text(encoding="utf-8"))
    if metrics["checkpoint"] != model.checkpoint:
        raise DetectorError(f"eval/metrics.json is of {metrics['checkpoint']}, not of {model.checkpoint}: "
                            "eval/: type invoke forget evaluate, then invoke evaluate")
    labels, groundtruth = write_labels(root, root / "tflite/labels.txt"), coco_groundtruth(root, "test")
    advice = read_advice(root)
    rows = {}
    for variant in settings.tflite.variants:
        data = variant_bytes(root, model, name, variant, labels, metrics, settings, advice)
        rows[variant] = _measure(root, variant, data, groundtruth, metrics["AP"], settings)
        print(_row_text(variant, rows[variant]), flush=True)
    note_scores(root, rows, metrics["AP"])
    _forget_others(root, rows)
    print(f"  {advice_text(advice)}", flush=True)
    write_json(root / METRICS, {
        "schema": 1, "split": "test", "ship": settings.tflite.ship, "variants": rows, **advised(advice),
        "checkpoint": {"name": model.checkpoint, "AP": metrics["AP"], "AP50": metrics["AP50"]}})
    return _gate(rows[settings.tflite.ship], settings.tflite, len(groundtruth["images"]))


def _measure(root: Path, variant: str, data: bytes, groundtruth: dict, checkpoint_ap: float | None, settings) -> dict:
    """Scores and times a variant as LiteRT runs it; the file goes where it belongs by its result.
    """
    path = root / f"tflite/detector_{variant}.tflite"
    rejected = root / "tflite/rejected" / path.name
    write_bytes(rejected, data)  # Until it is measured it is not in the place of files that may be used.
    detector = TfliteDetector(rejected, settings.tflite.threads)
    rows = detector_detections(
        root, detector.detect, settings.evaluate.max_detections,
        lambda images: tqdm(images, desc=f"tflite {variant}", total=len(groundtruth["images"]), disable=None,
                              leave=False))
    figures = score(groundtruth, rows)
    drop = None if None in (checkpoint_ap, figures["AP"]) else round(checkpoint_ap - figures["AP"], 6)
    interval = None
    if variant == settings.tflite.ship and drop is not None:
        interval = ap_drop_interval(groundtruth, json.loads((root / "eval/detections.json").read_text("utf-8")), rows)
    passed = variant != settings.tflite.ship or passes(drop, interval, settings.tflite.max_ap_drop)
    latency = time_detector(detector, decode_rgb(next(iter(record_images(root, "test"))).encoded), TIMED_RUNS)
    final = rejected
    if passed:
        rejected.replace(path)
        final = path
    else:
        path.unlink(missing_ok=True)
    return {"file": final.relative_to(root).as_posix(), "sha256": sha256_file(final), "bytes": len(data),
            "AP": figures["AP"], "AP50": figures["AP50"], "ap_drop": drop, "ap_drop_interval": interval,
            "latency_ms": latency, "passed": passed}


def passes(drop: float | None, interval: tuple[float, float] | None, allowed: float) -> bool:
    """The gate, all in fractions of AP.

    A loss over `allowed` fails when its 95 % interval lies above zero, that is when chance does not
    explain it; a loss over twice `allowed` always fails, and so does one that cannot be computed.
    """
    if drop is None or interval is None:
        return False
    return drop <= allowed or (drop <= 2 * allowed and interval[0] <= 0)


def _row_text(variant: str, row: dict) -> str:
    return (f"  {variant:<8} {row['bytes'] / 1e6:5.1f} MB  AP {points(row['AP']):>5}  AP50 {points(row['AP50']):>5}  "
            f"drop {points(row['ap_drop']):>5}  {row['latency_ms']['median']:6.1f} ms")


def _forget_others(root: Path, rows: dict) -> None:
    """Removes files of ours that an earlier run made and this one did not, so that no stale file is
    shipped."""
    made = {row["file"] for row in rows.values()}
    for path in [*(root / "tflite").glob("detector_*.tflite"), *(root / "tflite/rejected").glob("detector_*.tflite")]:
        if path.relative_to(root).as_posix() not in made:
            path.unlink()
    rejected = root / "tflite/rejected"
    if rejected.is_dir() and not any(rejected.iterdir()):
        rejected.rmdir()


def _gate(row: dict, settings, images: int) -> TfliteCounts:
    if not row["passed"]:
        lost = "an AP that cannot be compared"
        if row["ap_drop"] is not None:
            low, high = (points(edge) for edge in row["ap_drop_interval"])
            lost = f"{points(row['ap_drop'])} points of AP (95 % interval {low} to {high} on {images} test images)"
        raise DetectorError(f"{settings.ship} loses {lost}, {points(settings.max_ap_drop)} are allowed: {row['file']}: "
                            f"in detector.toml set {what_to_try(settings)}")
    return TfliteCounts(row["file"], row["AP"], row["ap_drop"], row["ap_drop_interval"], settings.max_ap_drop,
                        row["bytes"] / 1e6, row["latency_ms"]["median"], images)


def what_to_try(settings) -> str:
    """The setting that most likely helps a shipped file that lost too much; `settings` is
    `[tflite]`."""
    if settings.ship in ("int8", "int8_raw") and settings.calibration_images < ENOUGH_IMAGES:
        return f"calibration_images = {ENOUGH_IMAGES}"
    if settings.ship in ("int8", "dynamic"):
        return 'ship = "int8_qat", and name it in variants'
    return 'ship = "float16", and name it in variants'

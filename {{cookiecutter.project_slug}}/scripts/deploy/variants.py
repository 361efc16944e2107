"""The bytes of each variant of the file, with metadata: what is scored is what is shipped."""

from pathlib import Path

from scripts.deploy.about import advised, description, read_about

CALIBRATED = ("int8", "int8_qat", "int8_raw")
"""Variants whose ranges are measured on training pictures."""


def variant_bytes(root: Path, model, name: str, variant: str, labels: list[str], metrics: dict, settings,
                  advice) -> bytes:
    """A `.tflite` of a `TrainedModel`, whose weights stay as they are.

    `name` stands for the one in `pyproject.toml` where that has none; `metrics` are those of `eval/metrics.json`,
    `settings` a `Settings`, `advice` an `Advice` or None.
    """
    from scripts.deploy.convert import anchors_yxhw, convert
    from scripts.deploy.metadata import with_metadata

    model, calibration = _prepared(root, model, variant, settings)
    data = convert(model, variant, settings.evaluate.score_threshold, calibration)
    about = read_about(root)
    return with_metadata(
        data, labels, name=about.name or name, description=description(settings.model.id, variant, advice),
        author=about.author, licence=about.licence,
        provenance=_provenance(root, model, variant, metrics, settings, advice, len(calibration)),
        anchors_yxhw=anchors_yxhw(model) if variant == "int8_raw" else None)


def _prepared(root: Path, model, variant: str, settings) -> tuple:
    """The model to convert and the pictures that set its ranges, none for a variant without."""
    from scripts.deploy.convert import calibration_pictures
    from scripts.deploy.equalize import equalize
    from scripts.deploy.qat import quantisation_aware
    from scripts.evaluation.model import load_model

    if variant not in CALIBRATED:
        return model, []
    pictures = calibration_pictures(root, model.input_px, settings.tflite.calibration_pictures)
    model = load_model(root, settings.export.checkpoint)  # Its weights are rewritten; the float files keep theirs.
    equalize(model, pictures)
    if variant == "int8_qat":
        model = quantisation_aware(root, model, settings.tflite.qat_share, pictures)
    return model, pictures


def _provenance(root: Path, model, variant: str, metrics: dict, settings, advice, pictures: int) -> dict:
    """Where the file comes from; of `int8_raw` also what its reader does after the network."""
    from scripts.evaluation.model import DETECTIONS
    from scripts.training.experiment import SUPPRESSION_IOU
    from scripts.training.run_file import installed_versions, read_run

    run = read_run(root) or {}
    facts = {
        "model": settings.model.id, "variant": variant, "checkpoint": model.checkpoint,
        "checkpoint_AP": metrics["AP"], "data_sha256": run.get("data_sha256"), "weights": run.get("weights"),
        "versions": installed_versions(), "calibration_pictures": pictures,
        "settings": settings.subset(["model.id", "train", "evaluate", "overrides"]),
        "training": {key: run.get(key) for key in ("steps", "seconds", "stopped_by", "seed")}, **advised(advice)}
    if variant == "int8_raw":
        facts["decoding"] = {"score_threshold": settings.evaluate.score_threshold, "suppression_iou": SUPPRESSION_IOU,
                             "max_detections": DETECTIONS}
    return facts

"""The `evaluate` step: detections of a checkpoint on the test split, and their score."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import write_json, write_text
from scripts.core.text import DetectorError, points
from scripts.evaluation.analysis import analyze, remarks
from scripts.evaluation.detections import (
    Detections,
    coco_detections,
    coco_groundtruth,
    decode_rgb,
    record_images,
)
from scripts.evaluation.errors import write_errors
from scripts.evaluation.metrics import score, table_text
from scripts.evaluation.thresholds import ANALYSIS, USUAL_SCORE, advice_of

BATCH = 8


@dataclass(frozen=True)
class EvaluateCounts:
    """What was scored; AP and AP50 are fractions 0..1 or None where undefined. `table` is for
    people."""

    images: int
    boxes: int
    checkpoint: str
    ap: float | None
    ap50: float | None

    def __str__(self):
        return (f"{self.images:,} images, {self.boxes:,} boxes, {self.checkpoint}: "
                f"AP {points(self.ap)}, AP50 {points(self.ap50)}")


def evaluate(root: Path, which: str, score_threshold: float, max_detections: int,
             miss_cost: float) -> EvaluateCounts:
    """Scores checkpoint `which` on the test split and writes `eval/`; prints the table of classes
    and what to know.

    The arguments are `export.checkpoint` and those of `[evaluate]`. The validation images are
    looked at once, to choose score thresholds. Raises DetectorError if there is no such checkpoint
    or no test image.
    """
    from scripts.evaluation.detector import checkpoint_path, load_model
    from scripts.evaluation.runs import keep_run
    from scripts.training.summaries import write_events

    groundtruth = coco_groundtruth(root, "test")
    if not groundtruth["images"]:
        raise DetectorError("no images in split test: annotations/test_labels.csv: add images or change "
                            "[split] in detector.toml, then invoke organize")
    model = load_model(root, which)
    detections = list(checkpoint_detections(root, model, score_threshold, max_detections))
    validation = list(checkpoint_detections(root, model, score_threshold, max_detections, "validation"))
    about = {"schema": 1, "split": "test", "checkpoint": model.checkpoint}
    metrics = about | score(groundtruth, detections)
    chosen_on = (coco_groundtruth(root, "validation"), validation)
    analysis = about | analyze(groundtruth, detections, chosen_on, miss_cost)
    table = table_text(metrics, analysis["intervals"])
    write_json(root / "eval/groundtruth.json", groundtruth)
    write_json(root / "eval/detections.json", detections)
    write_json(root / "eval/metrics.json", metrics)
    write_json(root / ANALYSIS, analysis)
    write_text(root / "eval/table.txt", table + "\n")
    write_events(root, metrics, groundtruth, detections)
    keep_run(root, checkpoint_path(root, which), {"score_threshold": score_threshold, "max_detections": max_detections},
             (groundtruth, detections), metrics, analysis["intervals"])
    advice = advice_of(analysis)
    shown_from = advice.score_threshold if advice else USUAL_SCORE
    errors = write_errors(root, groundtruth, detections, model.checkpoint, shown_from)
    print("\n".join([table, *remarks(analysis), str(errors)]))
    return EvaluateCounts(metrics["images"], metrics["boxes"], model.checkpoint, metrics["AP"], metrics["AP50"])


def checkpoint_detections(root: Path, model, score_threshold: float, max_detections: int,
                          split: str = "test") -> Iterator[dict]:
    """Detections of a `TrainedModel` on a split in COCO form, in pixels of the stored images."""
    import tensorflow as tf

    from scripts.evaluation.detector import stretch

    detect = tf.function(lambda pixels: model.detect(pixels, score_threshold))
    for images in batched(record_images(root, split), BATCH):
        pixels = tf.stack([stretch(decode_rgb(image.encoded), model.input_px) for image in images])
        found = [output.numpy() for output in detect(pixels)]
        for image, boxes, classes, scores, count in zip(images, *found, strict=True):
            kept = min(int(count), max_detections)
            yield from coco_detections(image.image_id, image.width_px, image.height_px,
                                       Detections(boxes[:kept], classes[:kept].astype(int), scores[:kept]))


def detector_detections(root: Path, detect: Callable, max_detections: int, progress: Callable = iter) -> list[dict]:
    """Detections of any reader (`detect(rgb) -> Detections`) on the test split in COCO form, one
    image at a time."""
    rows = []
    for image in progress(record_images(root, "test")):
        found = detect(decode_rgb(image.encoded))
        kept = Detections(*(part[:max_detections] for part in (found.yxyx_norm, found.class_ids, found.scores)))
        rows += coco_detections(image.image_id, image.width_px, image.height_px, kept)
    return rows


def batched(items: Iterator, size: int) -> Iterator[list]:
    """Lists of `size` items; the last may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

"""Detectors of others on our test split: opened, their classes paired with ours, scored as our own files are."""

from collections import Counter
from pathlib import Path

from scripts.deploy.foreign_labels import ClassMap, class_map
from scripts.evaluation.detections import Detections
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file

NAMED = 8
"""So many class names stand in a line; all of them are in benchmark.json."""


def foreign_contestants(root: Path, foreign, settings, shipped) -> list:
    """A `Contestant` for each path of `foreign` (a `Foreign`), scored; all are opened before the first is scored.

    `shipped`: our own contestant, which is scored on the shared classes where a foreign file does not know all of ours.
    """
    from scripts.deploy.foreign import ForeignDetector
    from scripts.records.label_map import LABEL_MAP, read_label_map

    if not foreign.paths:
        return []
    names = read_label_map(root / LABEL_MAP)
    opened = []
    for path in foreign.paths:
        detector = ForeignDetector(path, settings.tflite.threads, foreign.mean, foreign.std, foreign.labels)
        classes = class_map(detector.labels, names)
        if not classes.ids:
            raise DetectorError(
                f"none of its {len(detector.labels)} classes ({_some(detector.labels)}) is one of ours "
                f"({_some(list(names.values()))}): {path}: --labels FILE can name its classes in our words")
        opened.append((path, detector, classes))
    return [_scored(root, *one, settings, shipped) for one in opened]


def _scored(root: Path, path: Path, detector, classes: ClassMap, settings, shipped):
    from scripts.deploy.benchmark import Contestant

    unscored: Counter = Counter()
    detect = _in_our_classes(detector, classes, settings.evaluate.score_threshold, unscored)
    figures = {"file": path.as_posix(), "sha256": sha256_file(path), "bytes": path.stat().st_size,
               **_figures(root, detect, classes, settings)}
    ours = None
    if classes.only_ours and shipped is not None:
        ours = _figures(root, shipped.detector.detect, classes, settings)["AP_shared"]
    figures |= {
        "shipped_AP_shared": ours, "notes": [*detector.notes, *_notes(classes, unscored)],
        "classes": {"shared": list(classes.shared), "only_theirs": list(classes.only_theirs),
                    "only_ours": list(classes.only_ours), "detections_not_scored": dict(unscored.most_common())}}
    return Contestant(path, detector, figures)


def _in_our_classes(detector, classes: ClassMap, threshold: float, unscored: Counter):
    """A function of a picture whose detections have class ids of ours; `unscored` counts the others by name."""
    import numpy as np

    def detect(rgb) -> Detections:
        found = detector.detect(rgb)
        enough = found.scores >= threshold
        known = np.array([class_id in classes.ids for class_id in found.class_ids], bool)
        labels = dict(enumerate(detector.labels))
        unscored.update(labels.get(int(class_id), f"class {class_id}") for class_id in found.class_ids[enough & ~known])
        kept = enough & known
        class_ids = np.array([classes.ids[int(class_id)] - 1 for class_id in found.class_ids[kept]], int)
        return Detections(found.yxyx_norm[kept], class_ids, found.scores[kept])

    return detect


def _figures(root: Path, detect, classes: ClassMap, settings) -> dict:
    """AP and AP50 over all classes of ours, and AP over those that both sides know."""
    from tqdm import tqdm

    from scripts.evaluation.evaluate import detector_detections
    from scripts.evaluation.groundtruth import coco_groundtruth
    from scripts.evaluation.scorer import score

    groundtruth = coco_groundtruth(root, "test")
    rows = detector_detections(
        root, detect, settings.evaluate.max_detections,
        lambda pictures: tqdm(pictures, desc="scoring", total=len(groundtruth["images"]), disable=None, leave=False))
    metrics = score(groundtruth, rows)
    each = [metrics["per_class"][name]["AP"] for name in classes.shared]
    defined = [ap for ap in each if ap is not None]
    return {"AP": metrics["AP"], "AP50": metrics["AP50"],
            "AP_shared": round(sum(defined) / len(defined), 6) if defined else None}


def _notes(classes: ClassMap, unscored: Counter) -> list[str]:
    """Sentences on the classes that only one side knows."""
    notes = [f"classes: {len(classes.shared)} shared ({_some(classes.shared)})"]
    if classes.only_ours:
        notes.append(f"only ours: {len(classes.only_ours)} ({_some(classes.only_ours)}); it can find none of them, "
                     "which lowers its AP, so that of the shared classes is given too")
    if classes.only_theirs:
        notes.append(f"only its own: {len(classes.only_theirs)} ({_some(classes.only_theirs)}); "
                     f"{unscored.total():,} detections of them are not scored")
    return notes


def _some(names) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")

"""Time and memory of a `.tflite`, measured in a process of its own that holds nothing else.

The child knows no contract: it loads any file, puts the given values into its first input, and runs it.
    python -m scripts.deploy.measure MODEL VALUES.npy THREADS RUNS
"""

import json
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.core.files import sha256_file
from scripts.core.text import DetectorError
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.deploy.reader import times_ms
from scripts.deploy.third_party import ClassMap, ThirdPartyDetector, class_map
from scripts.evaluation.detections import Detections, coco_groundtruth
from scripts.evaluation.metrics import score
from scripts.steps.evaluate import detector_detections

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each run; the most memory that the process held, and how much of it came with
    the model."""

    times_ms: list[float]
    peak_bytes: int
    model_bytes: int


def measure(model: Path, values: Path, threads: int, runs: int) -> Measured:
    """Runs the model in a fresh process. DetectorError when that ends badly, with the last thing it
    said."""
    line = [sys.executable, "-m", "scripts.deploy.measure", str(model.resolve()), str(values), str(threads), str(runs)]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = " ".join((done.stderr.strip().splitlines() or ["nothing said"])[-1].split())[:160]
        raise DetectorError(f"process that times it ended with {done.returncode} ({said}): {model}: "
                            "free memory, or leave this file out")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def peak_bytes() -> int:
    """The most physical memory that this process has held.

    On Linux from the process itself: getrusage there also counts what the parent held when it
    started the process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(model: str, values: str, threads: str, runs: str) -> None:
    """The child: prints a `Measured` as JSON on its last line."""
    from ai_edge_litert.interpreter import Interpreter

    image = np.load(values)
    before = peak_bytes()
    interpreter = Interpreter(model_path=model, num_threads=int(threads))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    times = [round(one, 4) for one in times_ms(interpreter.invoke, int(runs))]
    peak = peak_bytes()
    print(json.dumps({"times_ms": times, "peak_bytes": peak, "model_bytes": peak - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])


# Detectors of others on our test split: opened, their classes paired with ours, scored as our own
# files are.

NAMED = 8
"""So many class names stand in a line; all of them are in benchmark.json."""


def third_party_contestants(root: Path, third_party, settings, shipped) -> list:
    """A `Contestant` for each path of `third-party` (a `Third-party`), scored; all are opened
    before the first is scored.

    `shipped`: our own contestant, which is scored on the shared classes where a third-party file
    does not know all of ours.
    """
    if not third_party.paths:
        return []
    names = read_label_map(root / LABEL_MAP)
    opened = []
    for path in third_party.paths:
        detector = ThirdPartyDetector(path, settings.tflite.threads, third_party.mean, third_party.std, third_party.labels)
        classes = class_map(detector.labels, names)
        if not classes.ids:
            raise DetectorError(
                f"none of its {len(detector.labels)} classes ({_some(detector.labels)}) is one of ours "
                f"({_some(list(names.values()))}): {path}: --labels FILE can name its classes in our words")
        opened.append((path, detector, classes))
    return [_scored(root, *one, settings, shipped) for one in opened]


def _scored(root: Path, path: Path, detector, classes: ClassMap, settings, shipped):

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
    """A function of an image whose detections have class ids of ours; `unscored` counts the others
    by name."""
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
    groundtruth = coco_groundtruth(root, "test")
    rows = detector_detections(
        root, detect, settings.evaluate.max_detections,
        lambda images: tqdm(images, desc="scoring", total=len(groundtruth["images"]), disable=None, leave=False))
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



@dataclass
class Contestant:
    """A file to be measured: `figures` is its part of the report, `detector` reads images for it.
    """

    path: Path
    detector: Any
    figures: dict[str, Any]
    measured: dict[int, list[Measured]] = field(default_factory=dict)

"""Scored checkpoints that are kept, so that a later one can be compared with them.

A run is a folder of `eval/runs/`: `run.json` says what it is, `detections.json` and
`groundtruth.json` are what was scored. The folder belongs to the user: no step needs it, and any
run may be deleted.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.core.files import replace_dir, sha256_file, temporary_beside, write_json
from scripts.core.text import DetectorError

# The folder as messages name it.
RUNS = "eval/runs"
_FROM_TRAINING = ("model", "input_px", "steps", "seconds", "stopped_by", "seed", "classes",
                  "data_sha256", "weights", "settings", "versions")
_DAMAGE = (ValueError, TypeError, KeyError)


@dataclass(frozen=True)
class Run:
    """The main facts of a `run.json`; APs are fractions 0..1, `seconds` those of training.

    `time` is when the checkpoint was scored (UTC), `ap_interval` the 95 % interval of AP.
    """

    id: str
    time: str
    model: str
    checkpoint: str
    steps: int
    seconds: float
    images: int
    ap: float | None
    ap50: float | None
    ap_interval: list[float] | None

    @classmethod
    def of(cls, run: dict) -> "Run":
        """Return the facts of the content of a `run.json`."""
        figures, training, interval = run["figures"], run["training"], run["intervals"]["AP"]
        return cls(run["id"], str(run["time"]), training["model"] or "", run["checkpoint"],
                   training["steps"] or 0, training["seconds"] or 0.0, int(figures["images"]),
                   figures["AP"], figures["AP50"], interval and list(interval))


def keep_run(runs: Path, checkpoint: Path, training: dict, settings: dict,
             scored: tuple[dict, list[dict]], metrics: dict, intervals: dict) -> str:
    """Keep what was scored in the folder `runs`.

    Args:
        runs: the folder of all runs.
        checkpoint: its path without ending.
        training: the content of `training/run.json`.
        settings: those that decide the detections.
        scored: ground truth and detections in COCO form.
        metrics: the figures of `score`.
        intervals: those of `ap_intervals`.

    Returns:
        The id of the run. The same weights with the same `settings` keep their id.
    """
    groundtruth, detections = scored
    now = datetime.now(UTC)
    known = {"weights_sha256": _checkpoint_sha256(checkpoint), "evaluate": settings}
    run_id = _same_run(runs, known) or _free_id(runs, now, str(training.get("model", "model")))
    digest = hashlib.sha256(json.dumps(groundtruth, sort_keys=True).encode()).hexdigest()
    run = {"schema": 1, "id": run_id, "time": now.isoformat(timespec="milliseconds"), **known,
           "checkpoint": checkpoint.name,
           "training": {key: training.get(key) for key in _FROM_TRAINING},
           "figures": metrics, "intervals": intervals, "groundtruth_sha256": digest}
    # A new folder appears complete. In an existing one the user may keep other files, they stay.
    folder = runs / run_id
    new = not folder.exists()
    target = temporary_beside(folder) if new else folder
    for name, value in (("detections", detections), ("groundtruth", groundtruth), ("run", run)):
        write_json(target / f"{name}.json", value)
    if new:
        replace_dir(target, folder)
    return run_id


def _checkpoint_sha256(checkpoint: Path) -> str:
    """Identify the weights: TensorFlow writes a checkpoint as several files."""
    files = sorted(checkpoint.parent.glob(f"{checkpoint.name}.*"))
    return hashlib.sha256("".join(sha256_file(path) for path in files).encode()).hexdigest()


def _run_files(runs: Path) -> Iterator[Path]:
    return runs.glob("[!.]*/run.json")


def _same_run(runs: Path, known: dict) -> str | None:
    """Return the id of the run of these weights and settings."""
    for path in _run_files(runs):
        try:
            run = json.loads(path.read_text("utf-8"))
            if {key: run[key] for key in known} == known:
                return path.parent.name
        except _DAMAGE:
            continue  # a damaged record is no reason to lose a new one
    return None


def _free_id(runs: Path, now: datetime, model: str) -> str:
    """Return an id such as `20260131-0930-lite0-256`: ids sort by time."""
    first = f"{now:%Y%m%d-%H%M}-{model}"
    ids = (first, *(f"{first}-{number}" for number in range(2, 1000)))
    return next(run_id for run_id in ids if not (runs / run_id).exists())


def read_runs(runs: Path) -> list[dict]:
    """Return the content of every `run.json`, oldest first.

    Raises DetectorError when one is damaged.
    """
    found = []
    for path in _run_files(runs):
        try:
            run = json.loads(path.read_text("utf-8"))
            Run.of(run)
        except _DAMAGE:
            raise DetectorError(f"damaged: {RUNS}/{path.parent.name}/run.json: "
                                f"delete the folder {RUNS}/{path.parent.name}") from None
        found.append(run | {"id": path.parent.name})  # the user may have renamed the folder
    return sorted(found, key=lambda run: (run["time"], run["id"]))

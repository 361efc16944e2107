"""`eval/runs/`: the figures of every checkpoint that was scored, kept when the next training comes.

A folder a run: `run.json` says what it is, `detections.json` and `groundtruth.json` are what was
scored, so that any two runs can be compared later, on the images that both have. The folder belongs
to the user; nothing else here needs it, and any run may be deleted.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.core.files import replace_dir, sha256_file, temporary_beside, write_json
from scripts.core.text import DetectorError, aligned, points
from scripts.training.run_file import read_run

RUNS = "eval/runs"
METRICS = "eval/metrics.json"
_FROM_TRAINING = ("model", "input_px", "steps", "seconds", "stopped_by", "seed", "classes", "data_sha256", "weights",
                  "settings", "versions")


@dataclass(frozen=True)
class Run:
    """One row of `invoke runs`. `time` is when it was scored (UTC); `ap`, `ap50` are fractions 0..1
    or None.

    `ap_interval` is the 95 % interval of AP; `seconds` of training; `current` says that `eval/`
    holds this run.
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
    current: bool


def keep_run(root: Path, prefix: Path, settings: dict, scored: tuple[dict, list[dict]], metrics: dict,
             intervals: dict) -> str:
    """Keep what was scored in `eval/runs/`; return the id. The same weights with the same
    `settings` keep their id.

    `prefix` is the checkpoint, `settings` those of `[evaluate]`, `scored` ground truth and
    detections in COCO form.
    """
    groundtruth, detections = scored
    now = datetime.now(UTC)
    training = read_run(root) or {}
    known = {"weights_sha256": checkpoint_sha256(prefix), "evaluate": settings}
    number = _same(root, known) or _free_id(root, now, str(training.get("model", "model")))
    run = {"schema": 1, "id": number, "time": now.isoformat(timespec="milliseconds"), **known,
           "checkpoint": prefix.name, "training": {key: training.get(key) for key in _FROM_TRAINING},
           "figures": metrics, "intervals": intervals, "groundtruth_sha256": _digest(groundtruth)}
    folder = root / RUNS / number
    new = not folder.exists()
    target = temporary_beside(folder) if new else folder  # what else the user keeps in the folder of a run stays
    for name, value in (("detections", detections), ("groundtruth", groundtruth), ("run", run)):
        write_json(target / f"{name}.json", value)
    if new:
        replace_dir(target, folder)
    return number


def checkpoint_sha256(prefix: Path) -> str:
    """SHA-256 over the files of a TensorFlow checkpoint: the same training's, and no other's."""
    files = sorted(prefix.parent.glob(f"{prefix.name}.*"))
    return hashlib.sha256("".join(sha256_file(path) for path in files).encode()).hexdigest()


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _same(root: Path, known: dict) -> str | None:
    """The id of the run of these weights and settings; a damaged record is no reason to lose a new
    one."""
    for path in (root / RUNS).glob("[!.]*/run.json"):
        try:
            run = json.loads(path.read_text("utf-8"))
            if {key: run[key] for key in known} == known:
                return path.parent.name
        except (ValueError, TypeError, KeyError):
            continue
    return None


def _free_id(root: Path, now: datetime, model: str) -> str:
    """Such as `20260131-0930-lite0-256`; the ids of a day sort as they were made."""
    first = f"{now:%Y%m%d-%H%M}-{model}"
    ids = (first, *(f"{first}-{number}" for number in range(2, 1000)))
    return next(number for number in ids if not (root / RUNS / number).exists())


def read_runs(root: Path) -> list[dict]:
    """The contents of every `run.json`, oldest first. DetectorError for one that is damaged."""
    runs = []
    for path in (root / RUNS).glob("[!.]*/run.json"):
        try:
            run = json.loads(path.read_text("utf-8"))
            _row(run, None)
        except (ValueError, TypeError, KeyError):
            where = path.relative_to(root).as_posix()
            raise DetectorError(f"damaged: {where}: delete the folder {RUNS}/{path.parent.name}") from None
        runs.append(run | {"id": path.parent.name})  # a folder that was renamed is called what it is called
    return sorted(runs, key=lambda run: (run["time"], run["id"]))


def list_runs(root: Path, as_json: bool = False) -> str:
    """The table of runs, oldest first, or JSON `{"runs": [...]}` of `Run` for programs."""
    rows = [_row(run, _current_figures(root)) for run in read_runs(root)]
    if as_json:
        return json.dumps({"runs": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
    if not rows:
        return f"no runs yet: {RUNS}/: `invoke evaluate` keeps each checkpoint that it scores"
    heads = ("run", "scored (UTC)", "model", "checkpoint", "minutes", "images", "AP", "95 % interval", "AP50")
    text = aligned([heads, *map(_cells, rows)], texts=4)
    return text + ("\n* is in eval/ now" if any(row.current for row in rows) else "")


def _row(run: dict, current: dict | None) -> Run:
    figures, training, interval = run["figures"], run["training"], run["intervals"]["AP"]
    return Run(run["id"], str(run["time"]), training["model"] or "", run["checkpoint"], training["steps"] or 0,
               training["seconds"] or 0.0, int(figures["images"]), figures["AP"], figures["AP50"],
               interval and list(interval), figures == current)


def _current_figures(root: Path) -> dict | None:
    """What `eval/metrics.json` holds."""
    try:
        return json.loads((root / METRICS).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _cells(row: Run) -> tuple[str, ...]:
    interval = " to ".join(points(edge) for edge in row.ap_interval) if row.ap_interval else "-"
    return (row.id + (" *" if row.current else ""), row.time[:16].replace("T", " "), row.model, row.checkpoint,
            f"{row.seconds / 60:.1f}", f"{row.images:,}", points(row.ap), interval, points(row.ap50))

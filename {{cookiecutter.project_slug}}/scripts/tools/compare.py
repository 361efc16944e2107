"""`invoke runs` lists the scored checkpoints, `invoke compare A B` says whether B is better than A.

Two runs are compared by a paired bootstrap over the images that both were scored on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.core.layout import Layout
from scripts.core.text import DetectorError, aligned, counted, nearest, points
from scripts.evaluation.intervals import Interval, difference_intervals
from scripts.evaluation.metrics import score
from scripts.evaluation.runs import RUNS, Run, read_runs

BY_AGE = {"last": -1, "previous": -2}
# Of settings that differ, at most so many are named.
NAMED_SETTINGS = 6


def list_runs(root: Path, as_json: bool = False) -> str:
    """Return the table of runs, oldest first, or as JSON `{"runs": [...]}` of `Run`."""
    layout = Layout(root)
    runs = read_runs(layout.runs)
    metrics = _read_json(layout.metrics)
    rows = [(Run.of(run), run["figures"] == metrics) for run in runs]
    if as_json:
        found = [asdict(run) | {"current": current} for run, current in rows]
        return json.dumps({"runs": found}, indent=1, ensure_ascii=False)
    if not rows:
        return f"no runs yet: {RUNS}/: `invoke evaluate` keeps each checkpoint that it scores"
    heads = ("run", "scored (UTC)", "model", "checkpoint", "minutes", "images", "AP",
             "95 % interval", "AP50")
    text = aligned([heads, *(_run_cells(*row) for row in rows)], texts=4)
    return text + ("\n* is in eval/ now" if any(current for _, current in rows) else "")


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _run_cells(run: Run, current: bool) -> tuple[str, ...]:
    interval = " to ".join(map(points, run.ap_interval)) if run.ap_interval else "-"
    return (run.id + " *" * current, run.time[:16].replace("T", " "), run.model, run.checkpoint,
            f"{run.seconds / 60:.1f}", f"{run.images:,}", points(run.ap), interval,
            points(run.ap50))


# The result of a comparison.


@dataclass(frozen=True)
class Difference:
    """One figure of both runs, 0..1 or None, and the 95 % interval of that of B less that of A."""

    name: str
    a: float | None
    b: float | None
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """What can be said of B."""
        if self.interval is None:
            return "too few images"
        low, high = self.interval
        if low > 0:
            return "better"
        return "worse" if high < 0 else "not distinguishable"

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        change = "-" if None in (self.a, self.b) else _signed(self.b - self.a)
        interval = " to ".join(map(_signed, self.interval)) if self.interval else "-"
        return self.name, points(self.a), points(self.b), change, interval, self.verdict


@dataclass(frozen=True)
class Comparison:
    """Two runs, by id, on the images that both have with equal labels.

    `only` counts the other images of A and B, `notes` say what differs between the trainings. The
    first two differences are AP and AP50.
    """

    a: str
    b: str
    images: int
    only: tuple[int, int]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]

    def __str__(self):
        where = f"on {counted(self.images, 'image')}"
        if any(self.only):
            where += (f" that both scored with equal labels ({self.only[0]:,} more of A and "
                      f"{self.only[1]:,} more of B are left out)")
        heads = ("", "A", "B", "B - A", "95 % interval", "B is")
        table = aligned([heads, *(difference.cells() for difference in self.differences)])
        return "\n".join([f"A  {self.a}", f"B  {self.b}", where, *self.notes, "", table, "",
                          self._conclusion()])

    def _conclusion(self) -> str:
        ap = self.differences[0]
        if ap.interval is None:
            return "too few images with boxes to compare"
        if ap.verdict == "not distinguishable":
            width = (ap.interval[1] - ap.interval[0]) / 2
            return (f"{self.b} and {self.a} are not distinguishable by AP: on these images only "
                    f"differences of about {points(width)} points are")
        _, _, _, change, interval, verdict = ap.cells()
        return f"{self.b} is {verdict} than {self.a} by AP: {change} points, {interval}"


def _signed(fraction: float) -> str:
    """In points, never -0.0."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"


def compare(root: Path, first: str, second: str) -> Comparison:
    """Compare two runs, each named by its id, the beginning of it, `last` or `previous`.

    Raises DetectorError when a name fits no run or several, both fit the same run, or the runs
    share no image.
    """
    folder = Layout(root).runs
    runs = read_runs(folder)
    if len(runs) < 2:
        raise DetectorError(f"comparing takes two runs, there {'is 1' if runs else 'are none'}: "
                            f"{RUNS}/: train with other settings, then `invoke evaluate`")
    a, b = (find_run(runs, name) for name in (first, second))
    if a["id"] == b["id"]:
        raise DetectorError(f"both are the run {a['id']}: {RUNS}/: name two, `invoke runs` lists "
                            "them")
    return _compared(*(_read_scored(folder / run["id"], run) for run in (a, b)))


def find_run(runs: list[dict], name: str) -> dict:
    """Return the run of that name among `runs`, which are oldest first.

    Raises DetectorError that suggests the nearest ones.
    """
    if name in BY_AGE:
        return runs[BY_AGE[name]]
    found = ([run for run in runs if run["id"] == name]
             or [run for run in runs if run["id"].startswith(name)])
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(run["id"] for run in found)
        raise DetectorError(f"{name!r} is the beginning of {len(found)} runs: {RUNS}/: "
                            f"type more of one of {ids}")
    close = nearest(name, [run["id"] for run in runs], cutoff=0.3)
    advice = f"did you mean {close}?" if close else "`invoke runs` lists them"
    raise DetectorError(f"no run is named {name!r}: {RUNS}/: {advice}")


@dataclass(frozen=True)
class _Scored:
    """A run with what was scored by file name of the image, classes by name."""

    run: dict
    labels: dict
    detections: dict


def _read_scored(folder: Path, run: dict) -> _Scored:
    try:
        groundtruth, detections = (json.loads((folder / f"{name}.json").read_text("utf-8"))
                                   for name in ("groundtruth", "detections"))
        return _by_image(run, groundtruth, detections)
    except (OSError, ValueError, TypeError, KeyError):
        raise DetectorError(f"damaged: {RUNS}/{run['id']}: delete that folder; `invoke evaluate` "
                            "makes the run of the current checkpoint again") from None


def _by_image(run: dict, groundtruth: dict, detections: list[dict]) -> _Scored:
    """Key by names: numbers of images and classes may differ between runs."""
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    files = {image["id"]: image["file_name"] for image in groundtruth["images"]}
    labels = {image["file_name"]: (image["width"], image["height"], [])
              for image in groundtruth["images"]}
    found = {file: [] for file in labels}
    for row in groundtruth["annotations"]:
        box = names[row["category_id"]], row["iscrowd"], row["bbox"]
        labels[files[row["image_id"]]][2].append(box)
    for row in detections:
        found[files[row["image_id"]]].append((names[row["category_id"]], row["bbox"], row["score"]))
    for _, _, boxes in labels.values():
        boxes.sort()
    return _Scored(run, labels, found)


def _compared(a: _Scored, b: _Scored) -> Comparison:
    # With other labels a difference might be one of the labels.
    shared = sorted(name for name, labels in a.labels.items() if b.labels.get(name) == labels)
    if not shared:
        raise DetectorError(f"{a.run['id']} and {b.run['id']} share no image with equal labels: "
                            f"{RUNS}/: compare runs on the same test images")
    groundtruth, of_a, of_b = _in_coco_form(shared, a, b)
    figures = [score(groundtruth, rows) for rows in (of_a, of_b)]
    # B less A: an interval above zero speaks for B.
    intervals = difference_intervals(groundtruth, of_b, of_a)
    differences = [Difference(name, figures[0][name], figures[1][name], intervals[name])
                   for name in ("AP", "AP50")]
    # Of classes, those that have a box in the shared images.
    for name, part in intervals["per_class"].items():
        class_a, class_b = (metrics["per_class"][name] for metrics in figures)
        if class_a["boxes"]:
            differences.append(Difference(name, class_a["AP"], class_b["AP"], part["AP"]))
    only = tuple(len(side.labels) - len(shared) for side in (a, b))
    return Comparison(a.run["id"], b.run["id"], len(shared), only, _notes(a.run, b.run),
                      tuple(differences))


def _notes(a: dict, b: dict) -> tuple[str, ...]:
    """Say how training and scoring of A and B differ; of many settings the first."""
    of_a, of_b = _settings(a), _settings(b)
    keys = sorted(key for key in of_a.keys() | of_b.keys() if of_a.get(key) != of_b.get(key))
    notes = [f"{key}: A {of_a.get(key)}, B {of_b.get(key)}" for key in keys[:NAMED_SETTINGS]]
    if len(keys) > NAMED_SETTINGS:
        notes.append(f"{len(keys) - NAMED_SETTINGS} more settings differ: {RUNS}/*/run.json")
    if a["training"].get("data_sha256") != b["training"].get("data_sha256"):
        notes.append("A and B were trained on different images or labels")
    return tuple(notes)


def _settings(run: dict) -> dict:
    evaluation = {f"evaluate.{key}": value for key, value in run["evaluate"].items()}
    model = {"model": run["training"].get("model")}
    return evaluation | model | (run["training"].get("settings") or {})


def _in_coco_form(shared: list[str], a: _Scored, b: _Scored) -> tuple[dict, list[dict], list[dict]]:
    """Return the ground truth of the shared images and both runs' detections, numbered anew."""
    names = {row[0] for file in shared
             for rows in (a.labels[file][2], a.detections[file], b.detections[file])
             for row in rows}
    numbers = {name: number for number, name in enumerate(sorted(names), start=1)}
    images, boxes, results = [], [], ([], [])
    for image_id, file in enumerate(shared, start=1):
        width_px, height_px, labels = a.labels[file]
        images.append({"id": image_id, "file_name": file, "width": width_px, "height": height_px})
        for name, crowd, bbox in labels:
            boxes.append({"id": len(boxes) + 1, "image_id": image_id, "category_id": numbers[name],
                          "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": crowd})
        for rows, side in zip(results, (a, b), strict=True):
            for name, bbox, value in side.detections[file]:
                rows.append({"image_id": image_id, "category_id": numbers[name], "bbox": bbox,
                             "score": value})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": boxes, "categories": categories}, *results

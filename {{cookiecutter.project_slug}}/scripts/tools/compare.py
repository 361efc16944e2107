"""`invoke compare A B`: whether run B is better than run A, by a paired bootstrap over the images
of both."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from scripts.core.text import DetectorError, aligned, counted, points
from scripts.evaluation.intervals import Interval, difference_intervals
from scripts.evaluation.metrics import score
from scripts.evaluation.runs import RUNS, read_runs

BY_AGE = {"last": -1, "previous": -2}
NOTES = 6
"""Settings that differ and are named."""


@dataclass(frozen=True)
class Difference:
    """One figure of both runs, fractions 0..1 or None, and the 95 % interval of B less A."""

    name: str
    a: float | None
    b: float | None
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """What can be said of B: `better`, `worse`, `not distinguishable`, or `too few images` with
        boxes to tell."""
        if self.interval is None:
            return "too few images"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """Two runs on the images that both have with equal labels; the first two differences are AP and
    AP50."""

    a: str
    b: str
    images: int
    left_out: tuple[int, int]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]

    def __str__(self):
        where = f"on {counted(self.images, 'image')}"
        if any(self.left_out):
            where += (f" that both scored with equal labels ({self.left_out[0]:,} more of A and {self.left_out[1]:,} "
                      "more of B are left out)")
        heads = ("", "A", "B", "B - A", "95 % interval", "B is")
        rows = [(*cells, each.verdict) for each, cells in zip(self.differences, map(_cells, self.differences),
                                                              strict=True)]
        table = aligned([heads, *rows])
        return "\n".join([f"A  {self.a}", f"B  {self.b}", where, *self.notes, "", table, "", self._conclusion()])

    def _conclusion(self) -> str:
        ap = self.differences[0]
        if ap.interval is None:
            return "too few images with boxes to compare"
        if ap.verdict == "not distinguishable":
            width = (ap.interval[1] - ap.interval[0]) / 2
            return (f"{self.b} and {self.a} are not distinguishable by AP: on these images only differences of about "
                    f"{points(width)} points are")
        return f"{self.b} is {ap.verdict} than {self.a} by AP: {_cells(ap)[3]} points, {_cells(ap)[4]}"


def _cells(each: Difference) -> tuple[str, ...]:
    change = "-" if None in (each.a, each.b) else _signed(each.b - each.a)
    interval = " to ".join(map(_signed, each.interval)) if each.interval else "-"
    return each.name, points(each.a), points(each.b), change, interval


def _signed(fraction: float) -> str:
    """In points, never -0.0."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"


def compare(root: Path, first: str, second: str) -> Comparison:
    """Compare two runs, each named by its id, the beginning of it, `last` or `previous`.

    DetectorError for names that are none or several runs', for one run only, and for runs that
    share no image.
    """
    runs = read_runs(root)
    if len(runs) < 2:
        raise DetectorError(f"comparing takes two runs, there {'is 1' if runs else 'are none'}: {RUNS}/: "
                            "train with other settings, then `invoke evaluate`")
    one, other = (find_run(runs, name) for name in (first, second))
    if one["id"] == other["id"]:
        raise DetectorError(f"both are the run {one['id']}: {RUNS}/: name two, `invoke runs` lists them")
    return _compared(*(_scored(root, run) for run in (one, other)))


def find_run(runs: list[dict], name: str) -> dict:
    """The run of that name among `runs`, oldest first. DetectorError names the nearest ones."""
    if name in BY_AGE:
        return runs[BY_AGE[name]]
    found = [run for run in runs if run["id"] == name] or [run for run in runs if run["id"].startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(run["id"] for run in found)
        raise DetectorError(f"{name!r} is the beginning of {len(found)} runs: {RUNS}/: type more of one of {ids}")
    close = difflib.get_close_matches(name, [run["id"] for run in runs], 1, 0.3)
    advice = f"did you mean {close[0]}?" if close else "`invoke runs` lists them"
    raise DetectorError(f"no run is named {name!r}: {RUNS}/: {advice}")


@dataclass(frozen=True)
class _Scored:
    """A run with what was scored: detections and ground truth by the name of the image, classes by
    name."""

    run: dict
    labels: dict
    detections: dict


def _scored(root: Path, run: dict) -> _Scored:
    folder = root / RUNS / run["id"]
    try:
        groundtruth, detections = (json.loads((folder / f"{name}.json").read_text("utf-8"))
                                   for name in ("groundtruth", "detections"))
        return _by_image(run, groundtruth, detections)
    except (OSError, ValueError, TypeError, KeyError):
        raise DetectorError(f"damaged: {RUNS}/{run['id']}: delete that folder; `invoke evaluate` makes the run of "
                            "the current checkpoint again") from None


def _by_image(run: dict, groundtruth: dict, detections: list[dict]) -> _Scored:
    """Numbers of images and classes may differ between runs, names do not."""
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    files = {image["id"]: image["file_name"] for image in groundtruth["images"]}
    labels = {image["file_name"]: (image["width"], image["height"], []) for image in groundtruth["images"]}
    found = {file: [] for file in labels}
    for row in groundtruth["annotations"]:
        labels[files[row["image_id"]]][2].append((names[row["category_id"]], row["iscrowd"], row["bbox"]))
    for row in detections:
        found[files[row["image_id"]]].append((names[row["category_id"]], row["bbox"], row["score"]))
    for _, _, boxes in labels.values():
        boxes.sort()
    return _Scored(run, labels, found)


def _compared(one: _Scored, other: _Scored) -> Comparison:
    shared = sorted(name for name, labels in one.labels.items() if other.labels.get(name) == labels)
    if not shared:
        raise DetectorError(f"{one.run['id']} and {other.run['id']} share no image with equal labels: {RUNS}/: "
                            "compare runs on the same test images")
    groundtruth, first, second = _in_coco_form(shared, one, other)
    figures = [score(groundtruth, rows) for rows in (first, second)]
    intervals = difference_intervals(groundtruth, second, first)
    differences = [Difference(name, *(part[name] for part in figures), intervals[name]) for name in ("AP", "AP50")]
    for name, part in intervals["per_class"].items():
        a, b = (each["per_class"][name] for each in figures)
        if a["boxes"]:
            differences.append(Difference(name, a["AP"], b["AP"], part["AP"]))
    left_out = tuple(len(each.labels) - len(shared) for each in (one, other))
    return Comparison(one.run["id"], other.run["id"], len(shared), left_out, _notes(one.run, other.run),
                      tuple(differences))


def _notes(one: dict, other: dict) -> tuple[str, ...]:
    """What A and B were trained and scored with that differs; of many settings the first."""
    sides = [_settings(run) for run in (one, other)]
    keys = sorted(key for key in sides[0].keys() | sides[1].keys() if sides[0].get(key) != sides[1].get(key))
    notes = [f"{key}: A {sides[0].get(key)}, B {sides[1].get(key)}" for key in keys[:NOTES]]
    if len(keys) > NOTES:
        notes.append(f"{len(keys) - NOTES} more settings differ: {RUNS}/*/run.json")
    if one["training"].get("data_sha256") != other["training"].get("data_sha256"):
        notes.append("A and B were trained on different images or labels")
    return tuple(notes)


def _settings(run: dict) -> dict:
    evaluation = {f"evaluate.{key}": value for key, value in run["evaluate"].items()}
    return evaluation | {"model": run["training"].get("model")} | (run["training"].get("settings") or {})


def _in_coco_form(shared: list[str], one: _Scored, other: _Scored) -> tuple[dict, list[dict], list[dict]]:
    """Ground truth of the shared images and the detections of both runs on it, numbered anew."""
    sides = [one.detections, other.detections]
    names = {row[0] for file in shared for rows in (one.labels[file][2], *(side[file] for side in sides))
             for row in rows}
    numbers = {name: number for number, name in enumerate(sorted(names), start=1)}
    images, boxes, results = [], [], ([], [])
    for image_id, file in enumerate(shared, start=1):
        width_px, height_px, labels = one.labels[file]
        images.append({"id": image_id, "file_name": file, "width": width_px, "height": height_px})
        for name, crowd, bbox in labels:
            boxes.append({"id": len(boxes) + 1, "image_id": image_id, "category_id": numbers[name], "bbox": bbox,
                          "area": bbox[2] * bbox[3], "iscrowd": crowd})
        for rows, side in zip(results, sides, strict=True):
            rows += [{"image_id": image_id, "category_id": numbers[name], "bbox": bbox, "score": value}
                     for name, bbox, value in side[file]]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": boxes, "categories": categories}, *results

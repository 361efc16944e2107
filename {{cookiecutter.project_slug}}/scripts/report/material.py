"""What a report is made of: the files that the steps have left, each None where there is none."""

import csv
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.core.files import sha256_file
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, points
from scripts.data.dataset import SPLITS
from scripts.data.label_map import LABEL_MAP, read_label_map
from scripts.report.html import Html, paragraph, table, tag

FILES = {
    "check": ("annotations/check.json", "check"),
    "run": ("training/run.json", "train"),
    "metrics": ("eval/metrics.json", "evaluate"),
    "groundtruth": ("eval/groundtruth.json", "evaluate"),
    "detections": ("eval/detections.json", "evaluate"),
    "analysis": ("eval/analysis.json", "evaluate"),
    "errors": ("eval/errors.json", "evaluate"),
    "suspects": ("eval/suspects.json", "suspects"),
    "tflite": ("tflite/metrics.json", "tflite"),
}
"""Name in `Material` -> file, and the command that writes it."""
KEYS = {
    "check": ("findings", "warnings"),
    "run": ("model", "input_px", "classes", "steps", "seconds"),
    "metrics": ("AP", "AP50", "AR100", "per_class", "checkpoint", "images", "boxes"),
    "groundtruth": ("images", "annotations", "categories"),
    "analysis": ("intervals", "too_small", "sizes", "thresholds", "curves", "pr", "confusion"),
    "errors": ("score", "boxes", "detections", "right", "causes", "errors"),
    "suspects": ("boxes", "suspects"),
    "tflite": ("ship", "variants", "checkpoint"),
}
"""What each of them has to hold; one that does not was written by another version, or by hand."""


@dataclass(frozen=True)
class LabeledBox:
    """One row of the CSV tables: edges in pixels of an image of `width_px` x `height_px`."""

    split: str
    class_name: str
    width_px: float
    height_px: float
    xyxy_px: tuple[float, float, float, float]

    @property
    def size_norm(self) -> float:
        """Side of a square of the same area as a fraction of that of the image, 0..1."""
        xmin, ymin, xmax, ymax = self.xyxy_px
        return ((xmax - xmin) * (ymax - ymin) / (self.width_px * self.height_px)) ** 0.5

    @property
    def aspect(self) -> float:
        """Width by height in pixels."""
        xmin, ymin, xmax, ymax = self.xyxy_px
        return (xmax - xmin) / (ymax - ymin)


@dataclass(frozen=True)
class Material:
    """The content of each file; `images` and `boxes` are those of the CSV tables."""

    root: Path
    classes: tuple[str, ...]
    images: dict[str, int]
    boxes: tuple[LabeledBox, ...]
    check: dict | None
    run: dict | None
    metrics: dict | None
    groundtruth: dict | None
    detections: list | None
    analysis: dict | None
    errors: dict | None
    suspects: dict | None
    tflite: dict | None

    @property
    def scored(self) -> bool:
        """Whether `evaluate` has left figures and boxes."""
        return None not in (self.metrics, self.groundtruth, self.detections)

    @property
    def start_score(self) -> float:
        """The score 0..1 with which the page opens: the one of the best F1 on validation, else 0.3.
        """
        if self.analysis:
            best = self.analysis["thresholds"]["all"].get("best_f1")
            return best["score"] if best else 0.3
        return ((self.tflite or {}).get("advised_score_threshold")) or 0.3


def read_material(root: Path) -> Material:
    """Everything that is there. DetectorError for a damaged file, with the command that writes it
    anew."""
    content = {name: _read(root, name) for name in FILES}
    images, boxes = _tables(root)
    names = read_label_map(root / LABEL_MAP) if (root / LABEL_MAP).is_file() else {}
    listed = {row["id"]: row["name"] for row in (content["groundtruth"] or {}).get("categories", ())}
    return Material(root, tuple((listed or names).values()), images, tuple(boxes), **content)


def in_order(material: Material, by_name: dict) -> list[tuple]:
    """The items of what is kept by class, in the order of the label map: files have them sorted by
    name."""
    known = [name for name in material.classes if name in by_name]
    return [(name, by_name[name]) for name in (*known, *(name for name in by_name if name not in known))]


def missing_text(what: str, name: str) -> str:
    """One sentence for a section whose file is not there."""
    path, command = FILES[name]
    return f"{what}: {path} is not there. Type `invoke {command}`, then `invoke report`."


def _read(root: Path, name: str) -> dict | list | None:
    path, command = FILES[name]
    again = f"`invoke {command}`" if command == "suspects" else f"`invoke forget {command}`, then `invoke {command}`"
    try:
        content = json.loads((root / path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DetectorError(f"no JSON ({error}): {path}: {again}") from None
    keys = KEYS.get(name)
    if not isinstance(content, dict if keys else list):
        raise DetectorError(f"not {'an object' if keys else 'a list'}: {path}: {again}")
    missing = [key for key in keys or () if key not in content]
    if missing:
        raise DetectorError(f"{missing[0]!r} is not in it: {path}: {again}")
    return content


def _tables(root: Path) -> tuple[dict[str, int], list[LabeledBox]]:
    """Images of each split that has a table, and all boxes."""
    images, boxes = {}, []
    for split in SPLITS:
        path = Layout(root).table(split)
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        images[split] = len({row["filename"] for row in rows})
        try:
            boxes += [_box(split, row) for row in rows if row["class"]]
        except (KeyError, TypeError, ValueError) as error:
            where = path.relative_to(root).as_posix()
            raise DetectorError(f"a row that is no box ({error}): {where}: "
                                "`invoke forget csv`, then `invoke csv`") from None
    return images, boxes


def _box(split: str, row: dict) -> LabeledBox:
    edges = tuple(float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return LabeledBox(split, row["class"], float(row["width"]), float(row["height"]), edges)


EVENTS = {"train": "training/train", "validation": "training/validation"}


LOSSES = ("total_loss", "cls_loss", "box_loss")


AP_NAMES = ("AP", "AP50")


@dataclass(frozen=True)
class Curves:
    """`scalars` are (part, tag) -> {step: value}; `times` the wall times of the first and last
    event, s since 1970."""

    scalars: dict[tuple[str, str], dict[int, float]]
    times: tuple[float, float] | None

    @property
    def when(self) -> str:
        """From when to when there were events, in UTC; "" without any."""
        if not self.times:
            return ""
        first, last = (datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M") for time_s in self.times)
        return f"{first} to {last} UTC"



def read_curves(root: Path) -> Curves:
    """All scalars below EVENTS. A training that was continued wrote several files: a later one
    replaces what follows its first step, as TensorBoard shows it.
    """
    scalars: dict[tuple[str, str], dict[int, float]] = {}
    times: list[float] = []
    for part, folder in EVENTS.items():
        for path in sorted((root / folder).glob("events.out.tfevents.*")):
            found: dict[str, dict[int, float]] = {}
            for wall_time_s, step, name, value in _scalars(path):
                found.setdefault(name, {})[step] = value
                times.append(wall_time_s)
            for name, values in found.items():
                earlier = scalars.get((part, name), {})
                kept = {step: value for step, value in earlier.items() if step < min(values)}
                scalars[part, name] = kept | values
    return Curves(scalars, (min(times), max(times)) if times else None)



def _scalars(path: Path) -> Iterator[tuple[float, int, str, float]]:
    """Wall time, step, tag and value of each scalar, without TensorFlow, whose import takes
    seconds."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util.tensor_util import make_ndarray

    for record in _records(path):
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                yield event.wall_time, event.step, value.tag, float(make_ndarray(value.tensor))



def _records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length uint64, its checksum, data, checksum. Ends at one that is
    cut off.

    Checksums are not looked at: in Python they take a second a megabyte, and images are among the
    events.
    """
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = struct.unpack("<Q", head[:8])[0]
            data = file.read(length)
            if len(data) < length or len(file.read(4)) < 4:
                return
            yield data


# Where the figures come from: model, data, versions, times and hashes; and whether the files belong
# together.

STOPPED_BY = {"budget": "the budget was used up", "patience": "AP no longer rose", "user": "by hand", None: "not ended"}


def data_fingerprint(run: dict) -> str:
    """One SHA-256 over the hashes of the records of train and validation, by file name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(run["data_sha256"].items()))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def shipped_file(root: Path, tflite: dict | None) -> tuple[dict | None, str]:
    """The row of the shipped variant, and a sentence when the file is not the one that was measured
    ("" if it is)."""
    row = ((tflite or {}).get("variants") or {}).get((tflite or {}).get("ship"))
    if row is None:
        return None, ""
    path = root / row["file"]
    if not path.is_file():
        return row, f"{row['file']} is not there. Type `invoke tflite`."
    if sha256_file(path) != row["sha256"]:
        return row, f"{row['file']} is not the file that was measured: its SHA-256 is another. Type `invoke tflite`."
    return row, ""


def disagreements(material: Material, unfinished: list[tuple[str, str]]) -> list[str]:
    """Sentences about files that do not belong together, and about steps that would run (`name`,
    reason)."""
    said = []
    if unfinished:
        name, reason = unfinished[0]
        others = f", and after it {', '.join(other for other, _ in unfinished[1:])}" if unfinished[1:] else ""
        said.append(f"{name} would run again ({reason}){others}: what they wrote is shown as it was. "
                    f"Type `invoke {unfinished[-1][0]}`, then `invoke report`.")
    checkpoint = (material.metrics or {}).get("checkpoint")
    for name in ("analysis", "errors", "suspects"):
        other = (getattr(material, name) or {}).get("checkpoint")
        if checkpoint and other and other != checkpoint:
            path, command = FILES[name]
            said.append(f"{path} is of {other}, the figures are of {checkpoint}. Type `invoke {command}`.")
    tflite = ((material.tflite or {}).get("checkpoint") or {}).get("name")
    if checkpoint and tflite and tflite != checkpoint:
        said.append(f"The .tflite files are of {tflite}, the figures of {checkpoint}. Type `invoke tflite`.")
    if material.scored and _classes(material) != set(material.metrics["per_class"]):
        said.append("eval/groundtruth.json has other classes than eval/metrics.json. Type `invoke forget evaluate`, "
                    "then `invoke evaluate`.")
    changed = shipped_file(material.root, material.tflite)[1]
    return said + [changed] * bool(changed)


def _classes(material: Material) -> set[str]:
    return {row["name"] for row in material.groundtruth["categories"]}


def tflite_parts(material: Material) -> list[Html]:
    """The table of the files, as `tflite/metrics.json` holds it."""
    tflite = material.tflite
    if tflite is None:
        return [paragraph(missing_text("No file for the phone", "tflite"))]
    rows = []
    for name, row in tflite["variants"].items():
        interval = row.get("ap_drop_interval")
        drop = points(row["ap_drop"]) + (f" ({points(interval[0])} to {points(interval[1])})" if interval else "")
        latency = row["latency_ms"]
        state = "refused" if not row["passed"] else "ships" if name == tflite["ship"] else ""
        rows.append((name, f"{row['bytes'] / 1e6:.2f} MB", points(row["AP"]), points(row["AP50"]), drop,
                     f"{latency['median']:.1f}", f"{latency['p90']:.1f}", state))
    header = ("file", "size", "AP", "AP50", "AP lost", "median ms", "p90 ms", "")
    threads = {row["latency_ms"]["threads"] for row in tflite["variants"].values()}
    caption = (f"On the test images, in points; the checkpoint has AP {points(tflite['checkpoint']['AP'])}. "
               f"Times on this machine with {', '.join(map(str, sorted(threads)))} threads")
    parts = [table(header, rows, caption)]
    if tflite.get("advised_score_threshold") is not None:
        advised = tflite["advised_score_threshold"]
        parts.append(paragraph(f"The file advises to show what scores {advised:.2f} or more."))
    return parts


def provenance_parts(material: Material, curves: Curves) -> list[Html]:
    """A table of facts, and all settings and versions behind folds."""
    rows = [("project", material.root.name)] + _run_rows(material, curves)
    shipped, _ = shipped_file(material.root, material.tflite)
    if shipped:
        rows += [("shipped file", shipped["file"]), ("its SHA-256", tag("code", shipped["sha256"]))]
    parts = [table(("", ""), rows, numbers_from=9)]
    if material.run is None:
        return [*parts, paragraph(missing_text("No training", "run"))]
    folds = {"Settings of the experiment": "settings", "Versions": "versions", "Hashes of the records": "data_sha256"}
    return parts + [_fold(title, material.run[key]) for title, key in folds.items() if material.run.get(key)]


def _run_rows(material: Material, curves: Curves) -> list[tuple]:
    run = material.run
    if run is None:
        return []
    weights = run.get("weights") or {}
    hardware = run.get("hardware") or {}
    machine = (str(hardware.get(key, "?")) for key in ("system", "machine", "cores"))
    rows = [
        ("model", f"{run['model']}, input {run['input_px']} x {run['input_px']} px"),
        ("weights at the start", f"{weights.get('origin', 'unknown')} ({weights.get('license', 'license unknown')})"),
        ("checkpoint scored", (material.metrics or {}).get("checkpoint", "none")),
        ("training", f"{run['steps']:,} steps, {run['seconds'] / 60:.1f} minutes; "
                     f"{STOPPED_BY.get(run.get('stopped_by'), run.get('stopped_by'))}"),
        ("seed", run.get("seed")),
        ("machine", "{} {}, {} cores".format(*machine)),
        ("data", tag("code", data_fingerprint(run))),
    ]
    return rows[:4] + [("events", curves.when)] * bool(curves.when) + rows[4:]


def _fold(title: str, values: dict) -> Html:
    shown = [(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
             for key, value in sorted(values.items())]
    return tag("details", tag("summary", f"{title} ({len(shown)})"), table(("", ""), shown, numbers_from=9))

"""What a report is made of: the content of the files that the steps have left, None where one is
missing."""

import csv
import hashlib
import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.core.files import sha256_file
from scripts.core.text import DetectorError
from scripts.data.dataset import Image

COMMANDS = {"check": "check", "run": "train", "metrics": "evaluate", "groundtruth": "evaluate",
            "detections": "evaluate", "analysis": "evaluate", "errors": "evaluate",
            "suspects": "suspects", "tflite": "tflite"}  # fmt: skip
"""Name of a file in `Material` -> the command that writes it."""

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
"""The keys that a file must have. One without them was written by another version, or by hand."""

DEFAULT_SCORE = 0.3


@dataclass(frozen=True)
class Curves:
    """Scalars of TensorBoard's event files.

    `scalars` are (part, tag) -> {step: value}; `times` are the wall times of the first and the last
    event, in seconds since 1970.
    """

    scalars: dict[tuple[str, str], dict[int, float]]
    times: tuple[float, float] | None = None

    @property
    def when(self) -> str:
        """From when to when there were events, in UTC; "" without any."""
        if not self.times:
            return ""
        first, last = (datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M")
                       for time_s in self.times)
        return f"{first} to {last} UTC"


@dataclass(frozen=True)
class Material:
    """Everything that the report shows.

    `files` names the files for messages, such as `eval/metrics.json`. `tables` holds the images of
    each split that has a table. `source` is the kind of the images' source, `licenses` counts the
    license of each image of Open Images, `authors` those of them that name an author.
    `shipped_changed` is a sentence when the shipped `.tflite` file is not the one that was
    measured.
    """

    project: str
    files: dict[str, str]
    classes: tuple[str, ...]
    tables: dict[str, list[Image]]
    curves: Curves
    source: str
    licenses: Counter
    authors: int
    shipped_changed: str
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
    def shipped(self) -> dict | None:
        """The row of the shipped variant in `tflite/metrics.json`."""
        return shipped_row(self.tflite)

    @property
    def start_score(self) -> float:
        """The score 0..1 with which the page opens: that of the best F1 on validation if known."""
        if self.analysis:
            best = self.analysis["thresholds"]["all"].get("best_f1")
            return best["score"] if best else DEFAULT_SCORE
        return (self.tflite or {}).get("advised_score_threshold") or DEFAULT_SCORE

    def boxes_by_class(self) -> dict[str, Counter]:
        """Class -> split -> boxes, in the order of the label map; classes that it lacks come last.
        """
        counts = {name: Counter() for name in self.classes}
        for split, images in self.tables.items():
            for image in images:
                for box in image.boxes:
                    counts.setdefault(box.class_name, Counter())[split] += 1
        return counts

    def in_order(self, by_name: dict) -> list[tuple]:
        """Items of a dict by class in the order of the label map; files have them sorted by name.
        """
        known = [name for name in self.classes if name in by_name]
        return [(name, by_name[name])
                for name in (*known, *(name for name in by_name if name not in known))]


def read_result(path: Path, name: str) -> dict | list | None:
    """Read one of the JSON files in COMMANDS.

    Returns:
        Its content, or None when there is no such file.

    Raises:
        DetectorError: the file is damaged; the message holds the command that writes it again.
    """
    command = COMMANDS[name]
    where = f"{path.parent.name}/{path.name}"
    again = f"`invoke {command}`"
    if command != "suspects":  # a step: without `forget` it would be up to date
        again = f"`invoke forget {command}`, then {again}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DetectorError(f"no JSON ({error}): {where}: {again}") from None
    keys = KEYS.get(name)
    if not isinstance(content, dict if keys else list):
        raise DetectorError(f"not {'an object' if keys else 'a list'}: {where}: {again}")
    missing = [key for key in keys or () if key not in content]
    if missing:
        raise DetectorError(f"{missing[0]!r} is not in it: {where}: {again}")
    return content


def shipped_row(tflite: dict | None) -> dict | None:
    """Return the row of the shipped variant, None when there is none."""
    return tflite["variants"].get(tflite["ship"]) if tflite else None


def changed_file(row: dict, path: Path) -> str:
    """Return a sentence when the file at `path` is not the one that `row` measured, else ""."""
    if not path.is_file():
        return f"{row['file']} is not there. Type `invoke tflite`."
    if sha256_file(path) != row["sha256"]:
        return (f"{row['file']} is not the file that was measured: its SHA-256 differs. "
                "Type `invoke tflite`.")
    return ""


def read_curves(folders: dict[str, Path]) -> Curves:
    """Read all scalars of the event files in `folders` (part -> folder).

    A training that was continued wrote several files: a later one replaces what follows its first
    step, as in TensorBoard.
    """
    scalars: dict[tuple[str, str], dict[int, float]] = {}
    times: list[float] = []
    for part, folder in folders.items():
        for path in sorted(folder.glob("events.out.tfevents.*")):
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
    """Yield wall time, step, tag and value of each scalar."""
    # TensorBoard's own reader imports TensorFlow, which takes seconds; its messages do not.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util.tensor_util import make_ndarray

    for record in _records(path):
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                yield event.wall_time, event.step, value.tag, float(make_ndarray(value.tensor))


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file up to one that is cut off: length uint64, its checksum,
    data, checksum."""
    # Checksums are not verified: in Python that takes a second a megabyte, and the events hold
    # images.
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = struct.unpack("<Q", head[:8])[0]
            data = file.read(length)
            if len(data) < length or len(file.read(4)) < 4:
                return
            yield data


def checkpoint_step(name: str | None) -> int | None:
    """Return the step at the end of a checkpoint's name, None if there is none."""
    end = (name or "").rsplit("-", 1)[-1]
    return int(end) if end.isdigit() else None


def data_fingerprint(run: dict) -> str:
    """Return one SHA-256 over the hashes of the records of train and validation, by file name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(run["data_sha256"].items()))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def read_attribution(path: Path) -> tuple[Counter, int]:
    """Count the licenses in ATTRIBUTION.csv, and the images that name an author."""
    if not path.is_file():
        return Counter(), 0
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    licenses = Counter(row.get("License") or "not named" for row in rows)
    return licenses, sum(bool(row.get("Author")) for row in rows)

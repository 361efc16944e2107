"""Class names of a third-party detector, and which of them are classes of the project."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.text import DetectorError
from scripts.data.label_map import read_label_map
from scripts.deploy.tflite_file import (
    UNUSED,
    TfliteFile,
    decoded,
    label_lines,
    metadata_schema,
    parse_labels,
)
from scripts.evaluation.detections import Detections

# How label files call what is no class: a first line that shifts all others by one.
BACKGROUND = (UNUSED, "background", "__background__", "unlabeled")

# So many class names stand in a line; all of them are in benchmark.json.
SHOWN = 8


# Label files.

def label_files(file: TfliteFile) -> dict[str, list[str]]:
    """Return the lines of packed files that the metadata calls labels, then of `*label*.txt`."""
    named = [name for name in _named_labels(file.metadata) if name in file.files]
    others = [name for name in file.files
              if re.fullmatch(r".*label.*\.txt", name, re.IGNORECASE) and name not in named]
    return {name: parse_labels(file.files[name].decode("utf-8", "replace"))
            for name in [*named, *others]}


def _named_labels(metadata) -> list[str]:
    """Return the names of label files; those that belong to an output first."""
    if metadata is None:
        return []
    graphs = metadata.subgraphMetadata or []
    outputs = [tensor for graph in graphs for tensor in graph.outputTensorMetadata or []]
    files = [file for holder in (*outputs, *graphs, metadata)
             for file in holder.associatedFiles or []]
    kinds = metadata_schema().AssociatedFileType
    wanted = (kinds.TENSOR_VALUE_LABELS, kinds.TENSOR_AXIS_LABELS)
    return list(dict.fromkeys(decoded(file.name) for file in files if file.type in wanted))


def read_labels(path: Path) -> list[str]:
    """Read class names by 0-based id.

    Args:
        path: a text file with a name a line (`person`, `0 person` or `0: person`), or a `.pbtxt`.

    Raises:
        DetectorError: The file cannot be read or names nothing.
    """
    if path.suffix.lower() == ".pbtxt":
        return label_lines(read_label_map(path, display=True))
    try:
        lines = parse_labels(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DetectorError(f"labels cannot be opened ({error.strerror}): {path}: --labels names a "
                            "text file") from None
    except UnicodeDecodeError:
        raise DetectorError(f"labels are not UTF-8: {path}: save the file as UTF-8") from None
    if not lines:
        raise DetectorError(f"no labels in the file: {path}: one class name a line, line 1 is "
                            "class 0")
    numbered = [re.fullmatch(r"\s*(\d+)[\s:,]+(.*\S)\s*", line) for line in lines if line.strip()]
    if not all(numbered):
        return lines
    return label_lines({int(match[1]) + 1: match[2] for match in numbered})


def without_background(labels: list[str], classes: int | None) -> tuple[list[str], str]:
    """Return the labels without a first line for the background, and a note on them.

    The line goes when the network tells one class less apart; `classes` is None if unknown.
    """
    if classes == len(labels) - 1 and labels[0].strip().casefold() in BACKGROUND:
        return labels[1:], f"labels: line 1, '{labels[0]}', is the background and no class"
    if classes is not None and classes != len(labels):
        return labels, (f"labels: {len(labels)} for {classes} classes of the network; "
                        "line 1 is taken for class 0")
    return labels, ""


# Classes that the detector and the project share.

@dataclass(frozen=True)
class ClassMap:
    """Which classes a file and the project share.

    `ids`: class id of the file, from 0 -> label map id; the others are names.
    """

    ids: dict[int, int]
    shared: tuple[str, ...]
    only_in_file: tuple[str, ...]
    only_in_project: tuple[str, ...]

    def detect(self, detector, threshold: float, unscored: Counter) -> Callable:
        """Return a function of an image whose detections have class ids of the project.

        `unscored` counts detections of other classes, from the threshold on, by their names.
        """
        labels = dict(enumerate(detector.labels))

        def detect(rgb) -> Detections:
            found = detector.detect(rgb)
            confident = found.scores >= threshold
            known = np.array([class_id in self.ids for class_id in found.class_ids], bool)
            unscored.update(labels.get(int(class_id), f"class {class_id}")
                            for class_id in found.class_ids[confident & ~known])
            kept = confident & known
            ids = [self.ids[int(class_id)] - 1 for class_id in found.class_ids[kept]]
            return Detections(found.yxyx_norm[kept], np.array(ids, int), found.scores[kept])

        return detect

    def notes(self, unscored: Counter) -> list[str]:
        """Return sentences on the classes that only one side knows."""
        notes = [f"classes: {len(self.shared)} shared ({shown_names(self.shared)})"]
        if self.only_in_project:
            notes.append(
                f"only in the project: {len(self.only_in_project)} "
                f"({shown_names(self.only_in_project)}); it can find none of them, which lowers "
                "its AP, so that of the shared classes is given too")
        if self.only_in_file:
            notes.append(f"only in the file: {len(self.only_in_file)} "
                         f"({shown_names(self.only_in_file)}); "
                         f"{unscored.total():,} detections of them are not scored")
        return notes


def class_map(labels: list[str], names: dict[int, str]) -> ClassMap:
    """Pair the labels of a file with a label map by name, ignoring case and spaces.

    `???` and empty lines are no classes.
    """
    numbers = {_folded(name): number for number, name in reversed(names.items())}
    lines = {class_id: name for class_id, name in enumerate(labels)
             if name.strip() and name.strip() not in BACKGROUND}
    ids = {class_id: numbers[_folded(name)] for class_id, name in lines.items()
           if _folded(name) in numbers}
    # Classes of the project that differ in case only: each takes the line that is exactly its own.
    exact = {name: number for number, name in names.items()}
    ids |= {class_id: exact[name] for class_id, name in lines.items() if name in exact}
    reached = set(ids.values())
    only_in_file = [name for class_id, name in lines.items() if class_id not in ids]
    return ClassMap(ids, tuple(names[number] for number in sorted(reached)),
                    tuple(dict.fromkeys(only_in_file)),
                    tuple(name for number, name in names.items() if number not in reached))


def shown_names(names) -> str:
    """Return the first names in one line."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()

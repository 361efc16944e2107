"""Class names of a foreign detector, and which of them are classes of ours."""

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.deploy.reader import label_lines
from scripts.deploy.tflite_file import TfliteFile, decoded
from scripts.pipeline.errors import DetectorError
from scripts.records.label_map import read_label_map
from scripts.records.text_format import parse_text_format

BACKGROUND = ("???", "background", "__background__", "unlabeled")
"""How label files call what is no class: a first line that shifts all others by one."""


@dataclass(frozen=True)
class ClassMap:
    """`ids`: their 0-based class id -> our label map id. Names that only one side knows are not lost."""

    ids: dict[int, int]
    shared: tuple[str, ...]
    only_theirs: tuple[str, ...]
    only_ours: tuple[str, ...]


def label_files(file: TfliteFile) -> dict[str, list[str]]:
    """Lines of each packed file that the metadata calls labels, then of every `*label*.txt`."""
    named = [name for name in _named_labels(file.metadata) if name in file.files]
    others = [name for name in file.files if re.fullmatch(r".*label.*\.txt", name, re.IGNORECASE) and name not in named]
    return {name: label_lines(file.files[name].decode("utf-8", "replace")) for name in [*named, *others]}


def _named_labels(metadata) -> list[str]:
    """Names of label files; those that belong to an output first."""
    from scripts.deploy.tflite_file import metadata_schema

    if metadata is None:
        return []
    types = metadata_schema().AssociatedFileType
    graphs = metadata.subgraphMetadata or []
    holders = [tensor for graph in graphs for tensor in graph.outputTensorMetadata or []] + [*graphs, metadata]
    files = [file for holder in holders for file in holder.associatedFiles or []]
    wanted = (types.TENSOR_VALUE_LABELS, types.TENSOR_AXIS_LABELS)
    return list(dict.fromkeys(decoded(file.name) for file in files if file.type in wanted))


def read_labels(path: Path) -> list[str]:
    """Class names by 0-based id: of a text file with one a line (`0 person` and `0: person` too), or of a `.pbtxt`.

    DetectorError when it cannot be read or names nothing.
    """
    if path.suffix.lower() == ".pbtxt":
        ids = read_label_map(path) | _display_names(path)
        return [ids.get(number, BACKGROUND[0]) for number in range(1, max(ids) + 1)]
    try:
        lines = label_lines(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DetectorError(f"labels cannot be opened ({error.strerror}): {path}: --labels names a text file") from None
    except UnicodeDecodeError:
        raise DetectorError(f"labels are not UTF-8: {path}: save the file as UTF-8") from None
    if not lines:
        raise DetectorError(f"no labels in the file: {path}: one class name a line, line 1 is class 0")
    numbered = [re.fullmatch(r"\s*(\d+)[\s:,]+(.*\S)\s*", line) for line in lines if line.strip()]
    if not all(numbered):
        return lines
    names = {int(match[1]): match[2] for match in numbered}
    return [names.get(number, BACKGROUND[0]) for number in range(max(names) + 1)]


def _display_names(path: Path) -> dict[int, str]:
    """Names for people by id, which the map of COCO has beside names such as `/m/01g317`."""
    found = {}
    for item in parse_text_format(path.read_text("utf-8-sig")):
        fields = {field.name: field.value for field in item.value} if item.kind == "message" else {}
        if fields.get("display_name"):
            found[int(fields["id"], 0)] = fields["display_name"]
    return found


def without_background(labels: list[str], classes: int | None) -> tuple[list[str], str]:
    """The labels without a first line for the background, if the network has one class less, and a note on them.

    `classes`: how many the network tells apart, None if unknown.
    """
    if classes == len(labels) - 1 and labels[0].strip().casefold() in BACKGROUND:
        return labels[1:], f"labels: line 1, '{labels[0]}', is the background and no class"
    if classes is not None and classes != len(labels):
        return labels, f"labels: {len(labels)} for {classes} classes of the network; line 1 is taken for class 0"
    return labels, ""


def class_map(theirs: list[str], ours: dict[int, str]) -> ClassMap:
    """Pairs classes by name, case and spaces ignored; `ours` is a label map. `???` and empty lines are no classes."""
    numbers = {_folded(name): number for number, name in reversed(ours.items())}
    names = {class_id: name for class_id, name in enumerate(theirs) if name.strip() and name.strip() not in BACKGROUND}
    ids = {class_id: numbers[_folded(name)] for class_id, name in names.items() if _folded(name) in numbers}
    # Two classes of ours that differ in case only: each takes the name that is exactly its own.
    exact = {name: number for number, name in ours.items()}
    ids |= {class_id: exact[name] for class_id, name in names.items() if name in exact}
    reached = set(ids.values())
    return ClassMap(
        ids, shared=tuple(ours[number] for number in sorted(reached)),
        only_theirs=tuple(dict.fromkeys(name for class_id, name in names.items() if class_id not in ids)),
        only_ours=tuple(name for number, name in ours.items() if number not in reached))


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()

"""YOLO label files: a text file for each image, a line for each box.

    3 0.5 0.25 0.1 0.2

The line is class number, x_center, y_center, width, height as shares of the image. Format:
https://docs.ultralytics.com/datasets/detect. A line with six or more numbers behind the class
number is a polygon or a rotated box (the box around it is taken) or has key points (not read). The
reader refuses a file in which most lines are something else.

The names of the numbers stand in `data.yaml`, `classes.txt`, `obj.names` and the like: the nearest
such file counts, from the folder of the label file upwards, else the only one there is.

The writer loses nothing: coordinates have all digits, and what YOLO has no place for goes into
`flags.tsv`.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from scripts.core.text import counted
from scripts.data.dataset import (
    NO_BOX,
    Box,
    Corners,
    Image,
    LabelFile,
    Labels,
    NotALabelError,
    Note,
    box_around,
)
from scripts.data.formats.label_text import (
    comma_note,
    numbered_lines,
    parse_number,
    read_text,
    shortened,
)
from scripts.data.formats.voc import FLAGS

# Not a .csv: readers of tables, also the one of this project, would ask what it is.
FLAGS_FILE = "flags.tsv"
FLAGS_HEADER = ["label_file", "line", *FLAGS]
_LISTS = {"classes.txt", "class_names.txt", "labels.txt", "names.txt", "predefined_classes.txt",
          "_darknet.labels"}
# Of several in one folder, the first of these that has names is what training would have used.
_FIRST = ("data.yaml", "dataset.yaml")

Names = dict[int, str]
Notes = list[tuple[Path, Note]]


# Label files.


def read(path: Path) -> LabelFile:
    """Read the boxes of one image; an empty file is an image without objects.

    A broken line gives a box of `nan`. The class names are the numbers until `name_classes`.

    Raises:
        NotALabelError: Most lines are something else.
    """
    lines = list(numbered_lines(read_text(path)))
    strange = [(number, line) for number, line in lines if not _is_box_line(line.split())]
    if 2 * len(strange) >= len(lines) and lines:
        number, line = strange[0]
        text = f"not YOLO: '{shortened(line)}' is not a class number and four numbers"
        raise NotALabelError(text, number)
    boxes, notes = [], []
    for number, line in lines:
        box, box_notes = _read_line(number, line)
        boxes.append(box)
        notes += box_notes
    entry = Labels(tuple(boxes), fractions=True, notes=tuple(notes))
    return LabelFile(path, "yolo", (entry,))


def _class_number(word: str) -> int | None:
    """Return the class number that a line begins with (`3`, also `3.0`), None for another word."""
    value, comma = parse_number(word)
    return int(value) if not comma and value >= 0 and value.is_integer() else None


def _is_box_line(words: list[str]) -> bool:
    if len(words) < 5 or _class_number(words[0]) is None:
        return False
    values = [parse_number(word)[0] for word in words[1:]]
    return 2 * sum(value == value for value in values) >= len(values)


def _read_line(number: int, line: str) -> tuple[Box, list[Note]]:
    words = line.split()
    pairs = [parse_number(word) for word in words[1:]]
    corners, code, text = _corners([value for value, _ in pairs])
    index = _class_number(words[0])
    box = Box(words[0] if index is None else str(index), corners, line=number)
    notes = [Note(code, text, number)] if code else []
    if any(comma for _, comma in pairs):
        notes.append(comma_note(number))
    return box, notes


def _corners(values: list[float]) -> tuple[Corners, str, str]:
    """Return the box of the numbers behind the class number, and code and text of a note ("":
    none)."""
    count = len(values)
    if count == 4:
        return _from_center(*values), "", ""
    if count == 5:
        text = "a sixth number, a confidence of detections that no person drew?"
        return _from_center(*values[:4]), "W118", text
    if count >= 6 and count % 2 == 0:
        around = box_around(values[0::2], values[1::2])
        return around, "R213", "polygon or rotated box: the box around it"
    if count >= 7 and (count - 4) % 3 == 0:
        return _from_center(*values[:4]), "W118", "key points behind the box are not read"
    return NO_BOX, "", ""


def _from_center(x: float, y: float, width: float, height: float) -> Corners:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


# Names of the class numbers, and flags.


def name_classes(label_files: list[LabelFile], other_files: list[Path],
                 folder: Path) -> tuple[list[LabelFile], Notes]:
    """Put class names in place of the numbers of YOLO files, and flags where `flags.tsv` has some.

    Args:
        label_files: All label files of a source; those of other formats come back as they are.
        other_files: The files that are neither images nor YOLO files: names are looked for there.
        folder: The folder of the source.

    Returns:
        The label files, and notes by file. A number without a name is called `class_5`, with one
        note for each number.
    """
    paths = {file.path for file in label_files if file.format == "yolo"}
    if not paths:
        return label_files, []
    others = sorted({*other_files, *(file.path for file in label_files)} - paths)
    names_files = _NamesFiles(filter(is_names_file, others), folder)
    flags, notes = _read_flags(path for path in others if path.name == FLAGS_FILE)
    naming = _Naming(flags)
    named = [naming.file(file, names_files.of(file.path)) if file.path in paths else file
             for file in label_files]
    return named, names_files.notes + notes + naming.notes()


def is_names_file(path: Path) -> bool:
    """Return whether a file may hold class names, going by its own name."""
    name = path.name.lower()
    return name in _LISTS or name.endswith((".names", ".yaml", ".yml"))


def _read_names(path: Path) -> tuple[Names, Note | None]:
    """Return class names by number, and a note when a file of names cannot be read."""
    try:
        text = read_text(path)
        if path.suffix.lower() not in (".yaml", ".yml"):
            return _list_names(text), None
        return (_yaml_names(text) if "names" in text else {}), None
    except OSError as error:
        return {}, Note("E019", f"cannot be opened: {error.strerror}")
    except Exception as error:  # PyYAML raises its own kinds, also ValueError and RecursionError
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        return {}, Note("E019", f"not well-formed yaml: {problem}", mark.line + 1 if mark else 0)


def _yaml_names(text: str) -> Names:
    """Return the entry `names` of a data.yaml: a list, or a table by number; {} for anything else.
    """
    # The base loader leaves text as it stands: `no`, `on` and `1` are class names, not values.
    content = yaml.load(text, Loader=yaml.BaseLoader)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        return {}
    pairs = [(str(key).strip(), value) for key, value in names.items() if isinstance(value, str)]
    return {int(key): value.strip() for key, value in pairs if key.isdecimal() and value.strip()}


def _list_names(text: str) -> Names:
    # The line is the number, so blank lines in between count.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _rank(path: Path) -> tuple[int, str]:
    name = path.name.lower()
    if name in _FIRST:
        return _FIRST.index(name), name
    return (2 if path.suffix.lower() in (".yaml", ".yml") else 3), name


class _NamesFiles:
    """All files of class names of a source, by folder."""

    def __init__(self, paths: Iterable[Path], folder: Path):
        self.folder, self.notes = folder, []
        self.by_folder: dict[Path, tuple[Path, Names]] = {}
        for path in sorted(paths, key=_rank):
            names, note = _read_names(path)
            if note:
                self.notes.append((path, note))
            if not names:
                continue
            first, known = self.by_folder.setdefault(path.parent, (path, names))
            if known != names:
                text = (f"'{path.name}' and '{first.name}' name the classes differently, "
                        f"'{first.name}' is taken")
                self.notes.append((path, Note("E020", text)))

    def of(self, label: Path) -> Names:
        """Return the names for a label file, {} when there are none or several that differ."""
        for folder in label.parents:
            if folder in self.by_folder:
                return self.by_folder[folder][1]
            if folder == self.folder:
                break
        found = [names for _, names in self.by_folder.values()]
        return found[0] if found and all(names == found[0] for names in found) else {}


def _read_flags(paths: Iterable[Path]) -> tuple[dict[Path, dict[int, dict]], Notes]:
    """Return the flags of boxes by label file and line, as `flags_text` wrote them."""
    flags, notes = defaultdict(dict), []
    for path in paths:
        rows = csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t")
        if next(rows, None) != FLAGS_HEADER:
            continue
        for row in rows:
            if len(row) == len(FLAGS_HEADER) and row[1].isdecimal():
                values = {flag: value == "1" for flag, value in zip(FLAGS, row[2:], strict=True)}
                flags[path.parent / row[0]][int(row[1])] = values
            elif row:
                text = f"'{' '.join(row)}' is not '{' '.join(FLAGS_HEADER)}'"
                notes.append((path, Note("W118", text, rows.line_num)))
    return flags, notes


class _Naming:
    """Gives boxes names and flags, and remembers the places of numbers without a name."""

    def __init__(self, flags: dict[Path, dict[int, dict]]):
        self.flags = flags
        self.nameless: dict[str, list[tuple[Path, int]]] = defaultdict(list)

    def file(self, file: LabelFile, names: Names) -> LabelFile:
        entries = [replace(entry, boxes=tuple(self._box(box, file.path, names)
                                              for box in entry.boxes))
                   for entry in file.entries]
        return replace(file, entries=tuple(entries))

    def _box(self, box: Box, path: Path, names: Names) -> Box:
        number = box.class_name
        name = names.get(int(number), "") if number.isdecimal() else number
        if not name:
            self.nameless[number].append((path, box.line))
        flags = self.flags.get(path, {}).get(box.line, {})
        return replace(box, class_name=name or f"class_{number}", **flags)

    def notes(self) -> Notes:
        notes = []
        for number, places in sorted(self.nameless.items(), key=lambda item: (len(item[0]), item)):
            first, line = places[0]
            boxes = counted(len(places), "box", "boxes")
            files = counted(len({path for path, _ in places}), "file")
            text = f"class number {number} has no name ({boxes}, {files}): called 'class_{number}'"
            notes.append((first, Note("W116", text, line)))
        return notes


# Writing.


def yolo_text(image: Image, numbers: dict[str, int]) -> str:
    """Return the label file of an image; `numbers` are those of the classes, from 0."""
    lines = []
    for box in image.boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        x, width = _center_and_length(xmin, xmax, image.width_px)
        y, height = _center_and_length(ymin, ymax, image.height_px)
        # repr is the shortest text that reads back as the same number; six decimals, as other
        # tools write, move the boxes of large images.
        values = " ".join(repr(float(value)) for value in (x, y, width, height))
        lines.append(f"{numbers[box.class_name]} {values}\n")
    return "".join(lines)


def _center_and_length(low_px: float, high_px: float, side_px: int) -> tuple[float, float]:
    low, high = low_px / side_px, high_px / side_px
    return (low + high) / 2, high - low


def yolo_yaml(splits: Sequence[str], names: Sequence[str]) -> str:
    """Return `data.yaml`: the images of each split, and the class names in order of their numbers.
    """
    keys = {"train": "train", "validation": "val", "test": "test"}
    content = {key: f"{split}/images" for split, key in keys.items() if split in splits}
    content |= {"nc": len(names), "names": list(names)}
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=1000)


def flags_text(labeled: Sequence[tuple[str, Image]]) -> str:
    """Return `flags.tsv`: a row for each box that has a flag, which YOLO has no place for.

    `labeled` are images with the path of their label file.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(FLAGS_HEADER)
    for label, image in labeled:
        for line, box in enumerate(image.boxes, start=1):
            flags = [int(getattr(box, flag)) for flag in FLAGS]
            if any(flags):
                rows.writerow([label, line, *flags])
    return text.getvalue()

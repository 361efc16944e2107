"""Names of YOLO's class numbers, and the flags that `invoke convert` keeps beside YOLO's label
files.

The names stand in `data.yaml`, `classes.txt`, `obj.names` and the like: the nearest one counts,
from the label file's folder upwards, else the only one there is.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from scripts.core.text import counted
from scripts.data.dataset import (
    NO_BOX,
    Box,
    Corners,
    LabelFile,
    Labels,
    NotALabelError,
    Note,
    box_around,
)
from scripts.data.formats.text import numbered_lines, read_text
from scripts.data.formats.voc import FLAGS, parse_number

# Not a .csv: readers of tables, ours too, would ask what it is.
FLAGS_FILE = "flags.tsv"
FLAGS_HEADER = ["label_file", "line", *FLAGS]
_LISTS = {"classes.txt", "class_names.txt", "labels.txt", "names.txt", "predefined_classes.txt", "_darknet.labels"}
# Of several in one folder the first of these that has names is the one that training would have
# used.
_FIRST = ("data.yaml", "dataset.yaml")

Names = dict[int, str]
Notes = list[tuple[Path, Note]]


def is_names_file(path: Path) -> bool:
    """Whether a file may hold class names, going by its own name."""
    name = path.name.lower()
    return name in _LISTS or name.endswith((".names", ".yaml", ".yml"))


def _yaml_names(text: str) -> Names:
    """The entry `names` of a data.yaml: a list, or a table of numbers. {} when there is none."""
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
    # The line is the number: blank lines in between count.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def read_names(path: Path) -> tuple[Names, Note | None]:
    """Class names by number, and a note when the file was meant to have some and cannot be read."""
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


def _order(path: Path) -> tuple[int, str]:
    name = path.name.lower()
    if name in _FIRST:
        return _FIRST.index(name), name
    return (2 if path.suffix.lower() in (".yaml", ".yml") else 3), name


class _NamesFiles:
    """All names files of a source, by folder."""

    def __init__(self, paths: Iterable[Path], folder: Path):
        self.folder, self.notes = folder, []
        self.by_folder: dict[Path, tuple[Path, Names]] = {}
        for path in sorted(paths, key=_order):
            names, note = read_names(path)
            if note:
                self.notes.append((path, note))
            if not names:
                continue
            first, known = self.by_folder.setdefault(path.parent, (path, names))
            if known != names:
                text = f"'{path.name}' and '{first.name}' name the classes differently, '{first.name}' is taken"
                self.notes.append((path, Note("E020", text)))

    def of(self, label: Path) -> Names:
        """The names that hold for a label file; {} when there are none or several that differ."""
        for folder in label.parents:
            if folder in self.by_folder:
                return self.by_folder[folder][1]
            if folder == self.folder:
                break
        found = [names for _, names in self.by_folder.values()]
        return found[0] if found and all(names == found[0] for names in found) else {}


def _read_flags(paths: Iterable[Path]) -> tuple[dict[Path, dict[int, dict]], Notes]:
    """The flags of boxes by label file and line, from the files that `invoke convert` wrote."""
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
    """Puts names and flags in place, and remembers the numbers without a name with the places of
    their boxes."""

    def __init__(self, flags: dict[Path, dict[int, dict]]):
        self.flags = flags
        self.nameless: dict[str, list[tuple[Path, int]]] = defaultdict(list)

    def file(self, file: LabelFile, names: Names) -> LabelFile:
        entries = [
            replace(entry, boxes=tuple(self._box(box, file.path, names) for box in entry.boxes))
            for entry in file.entries
        ]
        return replace(file, entries=tuple(entries))

    def _box(self, box: Box, path: Path, names: Names) -> Box:
        name = names.get(int(box.class_name), "") if box.class_name.isdecimal() else box.class_name
        if not name:
            self.nameless[box.class_name].append((path, box.line))
        flags = self.flags.get(path, {}).get(box.line, {})
        return replace(box, class_name=name or f"class_{box.class_name}", **flags)

    def notes(self) -> Notes:
        notes = []
        for number, places in sorted(self.nameless.items(), key=lambda item: (len(item[0]), item[0])):
            files = len({path for path, _ in places})
            boxes, where = counted(len(places), "box", "boxes"), counted(files, "file")
            text = f"class number {number} has no name ({boxes}, {where}): called 'class_{number}'"
            notes.append((places[0][0], Note("W116", text, places[0][1])))
        return notes


def name_classes(
    label_files: list[LabelFile], other_files: list[Path], folder: Path
) -> tuple[list[LabelFile], list[tuple[Path, Note]]]:
    """Put class names in place of the numbers of all YOLO files, and flags where `invoke convert`
    has kept some.

    `other_files` are the files below `folder` that are neither images nor among the YOLO files:
    names files are found there, also `classes.txt`. Files of other formats come back as they are. A
    number without a name is called `class_5`, with one W116 for each number.
    """
    mine = {file.path for file in label_files if file.format == "yolo"}
    if not mine:
        return label_files, []
    others = sorted({*other_files, *(file.path for file in label_files)} - mine)
    names_files = _NamesFiles(filter(is_names_file, others), folder)
    flags, notes = _read_flags(path for path in others if path.name == FLAGS_FILE)
    naming = _Naming(flags)
    result = [naming.file(file, names_files.of(file.path)) if file.path in mine else file for file in label_files]
    return result, names_files.notes + notes + naming.notes()


# YOLO label files: one line a box, `number x_center y_center width height` as shares of the image.

def class_number(word: str) -> int | None:
    """The class number that a line begins with (`3`, also `3.0`); None if it is none."""
    value, comma = parse_number(word)
    return int(value) if not comma and value >= 0 and value.is_integer() else None


def _is_line(words: list[str]) -> bool:
    if len(words) < 5 or class_number(words[0]) is None:
        return False
    numbers = sum(parse_number(word)[0] == parse_number(word)[0] for word in words[1:])
    return 2 * numbers >= len(words) - 1


def is_yolo(lines: list[tuple[int, str]]) -> bool:
    """Whether most lines are a class number with at least four numbers; a file without lines is."""
    return sum(_is_line(line.split()) for _, line in lines) * 2 > len(lines) or not lines


def _from_center(values: list[float]) -> Corners:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _corners(values: list[float]) -> tuple[Corners, str, str]:
    """The box of the numbers behind the class number, and the code and the words of a note ("":
    none)."""
    count = len(values)
    if count == 4:
        return _from_center(values), "", ""
    if count == 5:
        return _from_center(values[:4]), "W118", "a sixth number, a confidence of detections that no person drew?"
    if count >= 6 and count % 2 == 0:
        return box_around(values[0::2], values[1::2]), "R213", "polygon or turned box: the box around it"
    if count >= 7 and (count - 4) % 3 == 0:
        return _from_center(values[:4]), "W118", "key points behind the box are not read"
    return NO_BOX, "", ""


def _box(number: int, line: str) -> tuple[Box, list[Note]]:
    words = line.split()
    pairs = [parse_number(word) for word in words[1:]]
    corners, code, text = _corners([value for value, _ in pairs])
    index = class_number(words[0])
    box = Box(words[0] if index is None else str(index), corners, line=number)
    notes = [Note(code, text, number)] if code else []
    if any(comma for _, comma in pairs):
        notes.append(Note("R206", "coordinates with a decimal comma", number))
    return box, notes


def read(path: Path) -> LabelFile:
    """The boxes of one image; an empty file is an image without objects.

    A line that is broken gives a box of `nan`. NotALabelError when most lines are something else.
    """
    lines = list(numbered_lines(read_text(path)))
    if not is_yolo(lines):
        number, line = next((number, line) for number, line in lines if not _is_line(line.split()))
        shown = line if len(line) <= 40 else line[:37] + "..."
        raise NotALabelError(f"not YOLO: '{shown}' is not a class number and four numbers", number)
    read_lines = [_box(number, line) for number, line in lines]
    notes = [note for _, found in read_lines for note in found]
    return LabelFile(path, "yolo", (Labels(tuple(box for box, _ in read_lines), fractions=True, notes=tuple(notes)),))

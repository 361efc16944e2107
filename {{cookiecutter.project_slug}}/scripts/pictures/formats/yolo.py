"""YOLO label files: one line a box, `number x_centre y_centre width height` as shares of the picture.

A line with more numbers is a polygon or a turned rectangle: the box around it is taken. Names of the class numbers
stand in another file, see `yolo_names.py`; until then the number is the class name.
"""

from pathlib import Path

from scripts.pictures.dataset import Box, LabelFile, Labels, NotALabelError, Note
from scripts.pictures.formats.shapes import NO_BOX, Corners, box_around
from scripts.pictures.formats.text import numbered_lines, read_text
from scripts.pictures.formats.voc import parse_number


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


def _from_centre(values: list[float]) -> Corners:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _corners(values: list[float]) -> tuple[Corners, str, str]:
    """The box of the numbers behind the class number, and the code and the words of a note ("": none)."""
    count = len(values)
    if count == 4:
        return _from_centre(values), "", ""
    if count == 5:
        return _from_centre(values[:4]), "W118", "a sixth number, a confidence of detections that no person drew?"
    if count >= 6 and count % 2 == 0:
        return box_around(values[0::2], values[1::2]), "R213", "polygon or turned box: the box around it"
    if count >= 7 and (count - 4) % 3 == 0:
        return _from_centre(values[:4]), "W118", "key points behind the box are not read"
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
    """The boxes of one picture; an empty file is a picture without objects.

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

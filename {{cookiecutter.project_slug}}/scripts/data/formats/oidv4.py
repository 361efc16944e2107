"""Label files of OIDv4_ToolKit: a text file for each image, in a folder `Label` below the images.

    Bell pepper 5.12 56.94 1023.36 681.36

A line is class name, xmin, ymin, xmax, ymax in pixels. The name may have spaces, so a line is read
from the right. Format: https://github.com/EscVM/OIDv4_ToolKit. The reader refuses a file in which
most lines are something else, or whose numbers cannot be pixels.
"""

from pathlib import Path

from scripts.data.dataset import Box, LabelFile, Labels, NotALabelError, Note
from scripts.data.formats.label_text import (
    comma_note,
    numbered_lines,
    parse_number,
    read_text,
    require_readable,
    shortened,
)


def read(path: Path) -> LabelFile:
    """Read the boxes of one image, which lies in the folder above `Label`.

    An empty file gets a note: the ToolKit leaves one for each image that it could not read.

    Raises:
        NotALabelError: The file is another text file.
    """
    text = read_text(path)
    lines = list(numbered_lines(text))
    _require_oidv4(lines, in_label_folder=path.parent.name.casefold() == "label")
    require_readable(text)
    boxes, notes = [], []
    for number, line in lines:
        name, corners, comma = _parse(line)
        boxes.append(Box(name, corners, line=number))
        if comma:
            notes.append(comma_note(number))
    if not lines:
        text = "empty: OIDv4_ToolKit leaves such a file when it cannot read the image"
        notes.append(Note("W120", text))
    return LabelFile(path, "oidv4", (Labels(tuple(boxes), notes=tuple(notes)),))


def _parse(line: str) -> tuple[str, tuple[float, ...], bool]:
    """Return class name, four numbers (`nan` for a missing one) and whether one had a comma."""
    # Class names may hold spaces ("French fries"): the numbers are the last four words.
    name, *words = line.rsplit(maxsplit=4)
    if len(words) < 4:
        name, words = line, [""] * 4
    pairs = [parse_number(word) for word in words]
    return name, tuple(value for value, _ in pairs), any(comma for _, comma in pairs)


def _is_box_line(line: str) -> bool:
    name, values, _ = _parse(line)
    number, _ = parse_number(name)
    # NaN is what a text gives: a class name of OIDv4 is no number.
    return number != number and all(value == value for value in values)


def _require_oidv4(lines: list[tuple[int, str]], in_label_folder: bool) -> None:
    """Raise a NotALabelError unless most lines are a name and four numbers that can be pixels."""
    if not lines and not in_label_folder:
        raise NotALabelError("not OIDv4: empty, and not in a folder 'Label'")
    good = [line for _, line in lines if _is_box_line(line)]
    if lines and 2 * len(good) <= len(lines):
        number, line = next(pair for pair in lines if not _is_box_line(pair[1]))
        text = f"not OIDv4: '{shortened(line)}' is not a class name and four numbers"
        raise NotALabelError(text, number)
    if good and all(value <= 1 for line in good for value in _parse(line)[1]):
        raise NotALabelError("not OIDv4: no number is above 1, so these are no pixels")

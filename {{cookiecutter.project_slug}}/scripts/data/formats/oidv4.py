"""Label files of OIDv4_ToolKit: `Bell pepper 5.12 56.94 1023.36 681.36`, in a folder `Label` below
the images.

The class name may have spaces, so a line is read from the right. The edges are pixels.
"""

from pathlib import Path

from scripts.data.dataset import Box, LabelFile, Labels, NotALabelError, Note
from scripts.data.formats.label_text import numbered_lines, read_text, require_readable
from scripts.data.formats.label_text import parse_number


def _parts(line: str) -> tuple[str, tuple[float, ...], bool]:
    """Class name, four numbers (`nan` for what is missing or none) and whether one had a decimal
    comma."""
    words = line.rsplit(maxsplit=4)
    name = words[0] if len(words) == 5 else line
    pairs = [parse_number(word) for word in words[1:]] if len(words) == 5 else [parse_number("")] * 4
    return name, tuple(value for value, _ in pairs), any(comma for _, comma in pairs)


def _is_line(line: str) -> bool:
    name, values, _ = _parts(line)
    is_name = parse_number(name)[0] != parse_number(name)[0]
    return is_name and all(value == value for value in values)


def _refuse_other(lines: list[tuple[int, str]], in_its_folder: bool) -> None:
    """NotALabelError unless most lines are a name and four numbers, and these can be pixels."""
    if not lines and not in_its_folder:
        raise NotALabelError("not OIDv4: empty, and not in a folder 'Label'")
    good = [line for _, line in lines if _is_line(line)]
    if 2 * len(good) <= len(lines) and lines:
        number, line = next((number, line) for number, line in lines if not _is_line(line))
        shown = line if len(line) <= 40 else line[:37] + "..."
        raise NotALabelError(f"not OIDv4: '{shown}' is not a class name and four numbers", number)
    if good and all(value <= 1 for line in good for value in _parts(line)[1]):
        raise NotALabelError("not OIDv4: no number is above 1, so these are no pixels")


def read(path: Path) -> LabelFile:
    """The boxes of one image, which lies in the folder above `Label`. NotALabelError when it is
    another text file.

    An empty file gets a note: the ToolKit leaves one for each image that it could not read.
    """
    text = read_text(path)
    lines = list(numbered_lines(text))
    in_its_folder = path.parent.name.casefold() == "label"
    _refuse_other(lines, in_its_folder)
    require_readable(text)
    boxes, notes = [], []
    for number, line in lines:
        name, corners, comma = _parts(line)
        boxes.append(Box(name, corners, line=number))
        if comma:
            notes.append(Note("R206", "coordinates with a decimal comma", number))
    if not lines:
        notes.append(Note("W120", "empty: OIDv4_ToolKit leaves such a file when it cannot read the image"))
    return LabelFile(path, "oidv4", (Labels(tuple(boxes), notes=tuple(notes)),))

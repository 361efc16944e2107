"""`labels.txt`: one class name a line, line 0 is class 0 (label map id 1), no line for the background."""

from pathlib import Path

from scripts.pipeline.files import write_text
from scripts.records.label_map import LABEL_MAP, read_label_map

UNUSED = "???"  # An id that the label map leaves out keeps its line, so that the others keep theirs.


def label_lines(root: Path) -> list[str]:
    """Class names by 0-based class id."""
    ids = read_label_map(root / LABEL_MAP)
    return [ids.get(number, UNUSED) for number in range(1, max(ids) + 1)]


def write_labels(root: Path, path: Path) -> list[str]:
    """Writes the labels of the project to `path` and returns them."""
    lines = label_lines(root)
    write_text(path, "\n".join(lines) + "\n")
    return lines

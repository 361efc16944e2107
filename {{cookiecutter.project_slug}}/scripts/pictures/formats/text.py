"""Text of label files as other people's tools leave it: any line ends, byte order marks, rounded numbers."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.pictures.dataset import LabelError

UNREADABLE = "\ufffd"
"""Stands in `read_text` for bytes that are not UTF-8."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (UTF-16 if it begins with that mark); each bad byte is `UNREADABLE`."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def refuse_unreadable(text: str) -> None:
    """LabelError with the line when `text` was not UTF-8: a class name would be read wrongly."""
    if UNREADABLE in text:
        line = text.count("\n", 0, text.index(UNREADABLE)) + 1
        raise LabelError("not UTF-8 text: save it as UTF-8", line)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of each line that is not blank, without white space around it."""
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's search for cycles, off for the block: a million boxes have none, and it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

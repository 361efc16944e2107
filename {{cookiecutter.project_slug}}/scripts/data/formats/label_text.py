"""What the readers of label files share: text in any form, numbers, and JSON with line numbers.

Label files come from many tools: with any line ends, byte order marks, decimal commas and rounded
numbers.
"""

import gc
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.data.dataset import LabelError, Note

UNREADABLE = "\ufffd"  # stands in `read_text` for bytes that are not UTF-8
_TRUE = {"1", "1.0", "true", "yes"}


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, or UTF-16 with its mark; each bad byte is `UNREADABLE`."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def require_readable(text: str) -> None:
    """Raise a LabelError with the line when `text` was not UTF-8: a class name would be wrong."""
    if UNREADABLE in text:
        line = text.count("\n", 0, text.index(UNREADABLE)) + 1
        raise LabelError("not UTF-8 text: save it as UTF-8", line)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and stripped content of each line that is not blank."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.strip()


def shortened(text: str, most: int = 40) -> str:
    """Return `text`, cut to `most` letters with `...` at the end, for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."


def parse_number(text: str) -> tuple[float, bool]:
    """Return a coordinate (`nan` for no number) and whether it had a decimal comma."""
    comma = text.count(",") == 1 and "." not in text
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        return math.nan, False
    return (value, comma) if math.isfinite(value) else (math.nan, False)


def parse_side_px(text: str) -> int:
    """Return the width or height of an image, 0 when the text is no number above 0."""
    value, _ = parse_number(text)
    return int(value) if value > 0 else 0


def is_true(text: str) -> bool:
    """Return whether a flag is set: `1`, `true` or `yes`. Open Images writes -1 for unknown."""
    return text.strip().lower() in _TRUE


def comma_note(line: int) -> Note:
    """Return the note on a decimal comma in a line."""
    return Note("R206", "coordinates with a decimal comma", line)


@contextmanager
def without_collector() -> Iterator[None]:
    """Turn off Python's search for reference cycles during the block.

    A million boxes have no cycles, and the search takes a third of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# JSON with line numbers: the elements of the arrays that matter are decoded one by one.

_skip_space = re.compile(r"[ \t\r\n]*").match
_decode = json.JSONDecoder().raw_decode


def first_character(text: str) -> str:
    """Return the first character that is not white space: `{` for an object, `[` for an array."""
    at = _skip_space(text).end()
    return text[at : at + 1]


class _Cursor:
    """A place in a JSON text that only moves forward, and its line.

    The json module gives no line numbers for values, and a file of a million boxes should not be
    in memory twice.
    """

    def __init__(self, text: str):
        self.text, self.at, self._line, self._counted = text, 0, 1, 0
        self.skip_space()

    def skip_space(self) -> None:
        self.at = _skip_space(self.text, self.at).end()

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def value(self) -> Any:
        value, self.at = _decode(self.text, self.at)
        self.skip_space()
        return value

    def key(self) -> str:
        if not self.text.startswith('"', self.at):
            raise json.JSONDecodeError("Expecting a name in double quotes", self.text, self.at)
        key = self.value()
        self.demand(":")
        return key

    def takes(self, character: str) -> bool:
        """Step over `character` if it is next."""
        if not self.text.startswith(character, self.at):
            return False
        self.at += 1
        self.skip_space()
        return True

    def demand(self, character: str) -> None:
        if not self.takes(character):
            raise json.JSONDecodeError(f"Expecting '{character}'", self.text, self.at)

    def elements(self) -> Iterator[tuple[int, Any]]:
        self.demand("[")
        if self.takes("]"):
            return
        while True:
            line = self.line()
            yield line, self.value()
            if not self.takes(","):
                break
        self.demand("]")

    def end(self) -> None:
        if self.at != len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, self.at)


def _broken(error: Exception) -> LabelError:
    if isinstance(error, json.JSONDecodeError):
        return LabelError(f"not well-formed json: {error.msg}", error.lineno)
    return LabelError("json nested too deeply")


def scan_array(text: str) -> Iterator[tuple[int, Any]]:
    """Yield line and value of each element of a JSON array.

    Raises:
        LabelError: The text is not well-formed.
    """
    try:
        cursor = _Cursor(text)
        yield from cursor.elements()
        cursor.end()
    except (json.JSONDecodeError, RecursionError) as error:
        raise _broken(error) from None


def scan_object(text: str, takers: dict[str, Callable[[int, Any], None]]) -> set[str]:
    """Give the elements of some arrays of a JSON object to functions; skip its other members.

    Args:
        text: The object.
        takers: For the name of an array the function that takes (line, value) of each element.

    Returns:
        The names of the arrays that were there.

    Raises:
        LabelError: The text is not well-formed.
    """
    seen: set[str] = set()
    try:
        cursor = _Cursor(text)
        cursor.demand("{")
        while not cursor.takes("}"):
            key = cursor.key()
            if key in takers and text.startswith("[", cursor.at):
                seen.add(key)
                take = takers[key]
                for line, value in cursor.elements():
                    take(line, value)
            else:
                cursor.value()
            if not cursor.takes(","):
                cursor.demand("}")
                break
        cursor.end()
    except (json.JSONDecodeError, RecursionError) as error:
        raise _broken(error) from None
    return seen

"""Text of label files as other people's tools leave it: any line ends, byte order marks, rounded
numbers."""

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.data.dataset import LabelError

UNREADABLE = "\ufffd"
"""Stands in `read_text` for bytes that are not UTF-8."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (UTF-16 if it begins with that mark); each bad byte is `UNREADABLE`.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def require_readable(text: str) -> None:
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
    """Python's search for cycles, off for the block: a million boxes have none, and it takes a
    third of the time."""
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
    """The first character that is not white space ("" if there is none): `{` for an object, `[` for
    an array."""
    at = _skip_space(text).end()
    return text[at : at + 1]


class _Cursor:
    """A place in a JSON text that moves forward only, and the line it is in."""

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
    """The line and the value of each element of a JSON array. LabelError when it is not
    well-formed."""
    try:
        cursor = _Cursor(text)
        yield from cursor.elements()
        cursor.end()
    except (json.JSONDecodeError, RecursionError) as error:
        raise _broken(error) from None


def scan_object(text: str, takers: dict[str, Callable[[int, Any], None]]) -> set[str]:
    """Give each element of the arrays in `takers` to the function there, as (line, value); return
    the arrays seen.

    All other members of the object are passed over. LabelError when it is not well-formed.
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

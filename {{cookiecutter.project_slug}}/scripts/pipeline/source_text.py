"""The text of detector.toml: reading it, parsing it, and finding the line of a setting for messages."""

import re
import tomllib
from pathlib import Path
from typing import Any

from scripts.pipeline.errors import DetectorError

FILE = "detector.toml"


def read_text(path: Path) -> str:
    """Return the text of detector.toml. Windows editors write marks and encodings that TOML does not allow.

    Raises DetectorError with line and column.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DetectorError(f"no settings: {FILE}: run invoke inside the project, or restore the file") from error
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise DetectorError(f"byte order mark: {FILE}:1:1: save the file as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DetectorError(f"not UTF-8: {FILE}:{line}:{column}: save the file as UTF-8") from error


def parse_text(text: str) -> dict[str, Any]:
    """Return the tables of `text`. Raises DetectorError with line and column where it is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, position = str(error).partition(" (at ")
        where = ":".join(re.findall(r"\d+", position)) or str(text.count("\n") + 1)
        raise DetectorError(f"bad TOML, {what}: {FILE}:{where}: correct that line (texts stand in quotes)") from error


def line_of(text: str, table: str, key: str | None) -> str:
    """Return `:LINE` of a key, or of the heading of its table when `key` is None; nothing if neither is found."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[+\s*\"?([^\]\"]+?)\"?\s*\]\s*(#.*)?$", line)
        current = heading[1] if heading else current
        if current == table and (heading if key is None else re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line)):
            return f":{number}"
    return ""

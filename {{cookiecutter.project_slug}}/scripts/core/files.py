"""Files that are either complete or not there: written under a temporary name beside the target,
then moved into place."""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".partial-"
"""Names that begin so are unfinished: a step neither reads nor counts them."""

_counter = itertools.count()


def temporary_beside(final: Path) -> Path:
    """Return an unused path in the folder of `final`, whose parents are created.

    The name does not contain the name of `final`: that one may already be as long as the file
    system allows.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    return final.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{next(_counter)}{final.suffix}"


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `final` if the block ends well, else it goes.

    For files that a library writes by itself, or that are too large for the memory.
    """
    temporary = temporary_beside(final)
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> bool:
    """Write `data` to `path`, whose parents are created.

    Returns:
        False if the file held exactly that; it is then left alone.
    """
    try:
        # Compare the size first: most files that differ do so in their size.
        if path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return True


def write_text(path: Path, text: str) -> bool:
    """Write `text` as UTF-8 with line feeds on every system, as `write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> bool:
    """Write `value` as JSON with sorted keys and readable accents, as `write_bytes` does.

    Raises:
        ValueError: for NaN and infinity, which JSON does not have: an undefined figure is None.
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the content of `path` as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_dir(temporary: Path, final: Path) -> None:
    """Move the finished folder `temporary` to `final`, then remove an older `final`.

    Both must be on one file system, which is why `temporary` comes from `temporary_beside(final)`.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        os.replace(temporary, final)
        return
    # A folder cannot be replaced in one go: the old one steps aside first.
    old = temporary_beside(final)
    os.replace(final, old)
    try:
        os.replace(temporary, final)
    except OSError:
        # Readers find the old folder again.
        os.replace(old, final)
        raise
    shutil.rmtree(old)

"""The filtered part of a huge CSV file on a server: streamed once, resumed where it stopped."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.core.files import replacing, write_json
from scripts.core.text import DetectorError
from scripts.core.transfer import (
    AbsentError,
    Body,
    BrokenOffError,
    Patience,
    TransferError,
    open_at,
)
from scripts.data.openimages.row_picker import Picked, RowPicker

WRONG_SETTING = "correct openimages.metadata_url or openimages.version"
# Small enough for the processor's cache: twice as fast as 8 MB.
_BLOCK_BYTES = 1 << 20
_SAVE_EVERY_BYTES = 16 << 20


@dataclass(frozen=True)
class _State:
    """How far a file has been read: `offset` in the source and `kept_bytes` here are ends of rows.
    """

    wanted_sha256: str
    header: str = ""
    validator: str = ""
    total: int | None = None
    offset: int = 0
    kept_bytes: int = 0
    kept_rows: int = 0
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def _digest(wanted: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Slice:
    """Rows of the CSV file at `url` by the values of one `column`, kept in `path`.

    Every pass counts the rows of the values that are in `counted`. With `once` each value has one
    row, so that reading may stop when all are found.
    """

    def __init__(self, folder: Path, name: str, url: str, column: str, counted: Iterable[str] = (),
                 once: bool = False, patience: Patience | None = None):
        self.path, self._about = folder / f"{name}.csv", folder / f"{name}.json"
        self._part = folder / f"{name}.unfinished.csv"
        self._state_path = folder / f"{name}.unfinished.json"
        self.name, self.url, self._column = name, url, column
        self._counted, self._once, self._patience = set(counted), once, patience or Patience()

    @property
    def counts(self) -> dict[str, int] | None:
        """Return the rows of each counted value in the file; None before the first pass."""
        return _read_json(self._about).get("counts")

    def has(self, wanted: Iterable[str]) -> bool:
        """Return whether all rows of the `wanted` values stand in `path`."""
        return self.path.exists() and set(wanted) <= set(_read_json(self._about).get("wanted", ()))

    def ensure(self, wanted: Iterable[str]) -> None:
        """Make all rows of the `wanted` values stand in `path`.

        Values that are complete there are not read again.

        Raises:
            DetectorError: The file is absent (the cause is AbsentError), has another layout, or
                cannot be read to its end; what was read stays.
        """
        about = _read_json(self._about) if self.path.exists() else {}
        missing = set(wanted) - set(about.get("wanted", ()))
        if about and not missing:
            return
        try:
            missing, state = self._stream(missing, about)
        except TransferError as error:
            raise self._not_read(error) from error
        self._merge(missing, about, state)

    def _not_read(self, error: TransferError) -> DetectorError:
        if isinstance(error, AbsentError):
            return DetectorError(f"{error}: {self.url}: {WRONG_SETTING}")
        done = _read_json(self._state_path)
        share = f"; it goes on after {done['offset'] / 1e6:,.0f} MB" if done.get("offset") else ""
        return DetectorError(f"{error}: {self.url}: look at the connection, then run the same "
                             f"command again{share}")

    def _stream(self, missing: set[str], about: dict[str, Any]) -> tuple[set[str], _State]:
        """Read the file to its end; return the values that were looked for, and the last state.

        `about` describes what is complete from earlier passes; it is emptied if that no longer
        fits.
        """
        saved, failed = _read_json(self._state_path), 0
        state = _State(_digest(missing))
        if saved.get("wanted_sha256") == state.wanted_sha256 and self._part.exists():
            state = _State(**saved)
        while state.total is None or state.offset < state.total:
            progress = _Progress(state)
            try:
                with open_at(self.url, state.offset, state.validator, self._patience) as body:
                    # The server has a new file: what is kept of the old one does not fit it.
                    if about and body.validator != about.get("validator"):
                        missing |= set(about.get("wanted", ()))
                        about.clear()
                    state = self._read(body, missing, progress)
                    break
            except BrokenOffError as error:
                failed = 1 if progress.state.offset > state.offset else failed + 1
                state = progress.state
                if failed >= self._patience.tries:
                    raise
                time.sleep(self._patience.wait_s(failed, error.after_s))
        return missing, state

    def _read(self, body: Body, missing: set[str], progress: "_Progress") -> _State:
        state = progress.state if body.start else _State(_digest(missing))
        state = replace(state, validator=body.validator, total=body.total)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        blocks = _blocks(body)
        with self._part.open("r+b" if state.header else "wb") as part:
            if state.header:
                part.truncate(state.kept_bytes)
                part.seek(state.kept_bytes)
                first = b""
            else:
                state, first = self._start(state, next(blocks, b""), part)
            progress.state = state
            picker = self._picker(state.header, missing)
            try:
                with tqdm(total=body.total, initial=state.offset, desc=f"metadata {self.name}",
                          unit="B", unit_scale=True, disable=None, leave=False) as bar:
                    self._pick(picker, first, blocks, part, progress, bar.update, len(missing))
            finally:
                part.flush()
                self._save(progress.state)
        return progress.state

    def _start(self, state: _State, block: bytes, part) -> tuple[_State, bytes]:
        header, _, rest = block.partition(b"\n")
        header = header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r") + b"\n"
        part.write(header)
        used = len(block) - len(rest)
        return replace(state, header=header.decode("utf-8", "replace"), offset=used,
                       kept_bytes=len(header)), rest

    def _picker(self, header: str, missing: set[str]) -> RowPicker:
        try:
            return RowPicker(header.encode(), self._column, missing, self._counted)
        except (ValueError, StopIteration) as error:
            raise not_open_images(error, self.url) from error

    def _pick(self, picker: RowPicker, carry: bytes, blocks: Iterator[bytes], part,
              progress: "_Progress", advance: Callable[[int], object], wanted_count: int) -> None:
        """Pick from all blocks, and advance the state after each one."""
        saved = progress.state.offset
        while True:
            block = next(blocks, b"")
            rows = carry + block
            picked = picker.pick(rows, last=not block)
            carry = rows[picked.used:]
            part.write(picked.kept)
            progress.take(picked)
            advance(picked.used)
            if not block or self._once and progress.state.kept_rows >= wanted_count:
                return
            if progress.state.offset - saved >= _SAVE_EVERY_BYTES:
                saved = progress.state.offset
                part.flush()
                self._save(progress.state)

    def _save(self, state: _State) -> None:
        write_json(self._state_path, vars(state))

    def _merge(self, missing: set[str], about: dict[str, Any], state: _State) -> None:
        """Put the new rows behind those that were complete before; `about` is empty if none are."""
        if about:
            with (replacing(self.path) as temporary, temporary.open("wb") as out,
                  self._part.open("rb") as part):
                with self.path.open("rb") as old:
                    _copy(old, out, about["kept_bytes"])
                part.seek(len(state.header.encode()))
                shutil.copyfileobj(part, out, _BLOCK_BYTES)
        else:
            os.replace(self._part, self.path)
        wanted = sorted(missing | set(about.get("wanted", ())))
        write_json(self._about, {
            "url": self.url, "validator": state.validator, "total": state.total, "wanted": wanted,
            "kept_bytes": self.path.stat().st_size, "rows": state.rows, "counts": state.counts})
        self._part.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)


def not_open_images(error: Exception, url: str) -> DetectorError:
    """Return the error for a file whose content is not what Open Images has."""
    return DetectorError(f"not the layout of Open Images ({error}): {url}: {WRONG_SETTING}")


class _Progress:
    """The last state in which the file of kept rows and the numbers agree.

    One assignment changes all of it, so that Ctrl-C leaves either the old or the new one.
    """

    def __init__(self, state: _State):
        self.state = state

    def take(self, picked: Picked) -> None:
        state = self.state
        counts = dict(state.counts)
        for name, count in picked.counts.items():
            counts[name] = counts.get(name, 0) + count
        self.state = replace(
            state, offset=state.offset + picked.used, rows=state.rows + picked.rows, counts=counts,
            kept_bytes=state.kept_bytes + len(picked.kept),
            kept_rows=state.kept_rows + picked.kept_rows)


def _blocks(body: Body) -> Iterator[bytes]:
    """The pieces of a body joined to blocks that are worth a search."""
    gathered: list[bytes] = []
    size = 0
    for piece in body.pieces():
        gathered.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _copy(source, target, size: int) -> None:
    while size > 0 and (block := source.read(min(size, _BLOCK_BYTES))):
        target.write(block)
        size -= len(block)

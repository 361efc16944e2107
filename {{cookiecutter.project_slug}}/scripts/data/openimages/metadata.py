"""Picks the rows of a large CSV file by one column, a block of bytes at a time, at a fixed cost of
memory.

Blocks without quotes are searched with numpy, without making a Python object of any row that is not
kept; a block with quotes (titles of images) goes through the csv module, whose rows are written
anew with the same values.
"""

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
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

_LONGEST_ROW_BYTES = 1 << 20
# Odd, with bits all over: two fields that differ get the same number about once in 2**64.
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_MASKS = np.array([(1 << 8 * min(width, 8)) - 1 for width in range(9)], dtype="<u8")


def _field_numbers(data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A 64 bit number for each field `data[start:end]`: from its length, its first and its last 8
    bytes.

    `data` needs 8 bytes before the first field and after the last one. Fields of up to 16 bytes are
    told apart fully.
    """
    words = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
    widths = ends - starts
    first = words[starts] & _MASKS[np.minimum(widths, 8)]
    last = np.where(widths >= 8, words[ends - 8], np.uint64(0))
    return first * _MIX[0] ^ last * _MIX[1] ^ widths.astype("<u8") * _MIX[2]


def _numbers_of(values: Iterable[str]) -> np.ndarray:
    fields = [value.encode() for value in values]
    ends = np.cumsum([len(field) for field in fields], dtype=np.int64) + 8
    starts = ends - np.array([len(field) for field in fields], dtype=np.int64)
    return _field_numbers(bytes(8) + b"".join(fields) + bytes(8), starts, ends)


@dataclass
class Picked:
    """What one block gave: the kept rows as they stand in the file, how many of its bytes were used
    up (the rest belongs in front of the next block), how many rows it had, and how often each
    counted value came."""

    kept: bytes = b""
    used: int = 0
    rows: int = 0
    kept_rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)


class RowPicker:
    """Keeps the rows whose `column` is one of `wanted`, and counts the values that are in
    `counted`.

    `header` is the first line of the file. ValueError when it has no such column.
    """

    def __init__(self, header: bytes, column: str, wanted: Iterable[str], counted: Iterable[str] = ()):
        names = next(csv.reader([header.decode("utf-8-sig").rstrip("\r\n")]))
        if column not in names:
            raise ValueError(f"the header has no column {column}")
        self._column, self._width = names.index(column), len(names)
        self._wanted, self._counted = set(wanted), set(counted)
        known = sorted(self._wanted | self._counted)
        numbers = _numbers_of(known) if known else np.zeros(0, "<u8")
        order = np.argsort(numbers)
        self._numbers, self._names = numbers[order], [known[at] for at in order]
        self._is_wanted = np.array([name in self._wanted for name in self._names] + [False])

    def pick(self, block: bytes, last: bool = False) -> Picked:
        """Search a block that starts with a row; `last`: the file ends with it."""
        if last and block and not block.endswith(b"\n"):
            block += b"\n"
        used = block.rfind(b"\n") + 1
        if not used:
            return Picked()
        plain = b'"' not in block and b"\r" not in block
        return plain and self._pick_plain(block, used) or self._pick_quoted(block, last)

    def _pick_plain(self, block: bytes, used: int) -> Picked | None:
        """As `pick`, for rows that are lines; None when a line has more or fewer columns than the
        header."""
        data = b"".join((bytes(8), memoryview(block)[:used], bytes(8)))
        letters = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(letters == 10)
        begins = np.concatenate(([8], ends[:-1] + 1))
        commas = np.flatnonzero(letters == 44)
        if self._width < 2 or len(commas) != (self._width - 1) * len(ends):
            return None
        commas = commas.reshape(len(ends), -1)
        if (commas[:, 0] < begins).any() or (commas[:, -1] > ends).any():
            return None
        starts = begins if self._column == 0 else commas[:, self._column - 1] + 1
        stops = ends if self._column == self._width - 1 else commas[:, self._column]
        places = self._places(_field_numbers(data, starts, stops))
        kept = np.flatnonzero(self._is_wanted[places])
        lines = zip(begins[kept].tolist(), (ends[kept] + 1).tolist(), strict=True)
        kept_bytes = b"".join([data[begin:end] for begin, end in lines])
        return Picked(kept_bytes, used, len(ends), len(kept), self._tally(places))

    def _places(self, numbers: np.ndarray) -> np.ndarray:
        """Index into `_names` of each field; one past its end for a value that is neither wanted
        nor counted."""
        if not self._names:
            return np.zeros(len(numbers), np.int64)
        places = np.searchsorted(self._numbers, numbers)
        found = self._numbers[np.minimum(places, len(self._names) - 1)] == numbers
        return np.where(found, places, len(self._names))

    def _tally(self, places: np.ndarray) -> dict[str, int]:
        if not self._counted:
            return {}
        counts = np.bincount(places, minlength=len(self._names) + 1)[:-1].tolist()
        return {name: count for name, count in zip(self._names, counts, strict=True) if count and name in self._counted}

    def _pick_quoted(self, block: bytes, last: bool) -> Picked:
        """As `pick`, for rows that may run over several lines."""
        lines = block.decode("utf-8", "surrogateescape").split("\n")
        tail, out = lines.pop(), io.StringIO()
        writer, picked, line_count = csv.writer(out, lineterminator="\n"), Picked(), 0
        for row, count in _rows(lines, last):
            line_count += count
            picked.rows += 1
            value = row[self._column] if len(row) > self._column else None
            if value in self._counted:
                picked.counts[value] = picked.counts.get(value, 0) + 1
            if value in self._wanted:
                picked.kept_rows += 1
                writer.writerow(row)
        rest = "\n".join([*lines[line_count:], tail])
        picked.used = len(block) - len(rest.encode("utf-8", "surrogateescape"))
        picked.kept = out.getvalue().encode("utf-8", "surrogateescape")
        return picked


def _rows(lines: list[str], last: bool) -> Iterator[tuple[list[str], int]]:
    """The complete rows and the number of lines of each. A quote that never closes costs its own
    line only."""
    at = 0
    while at < len(lines):
        reader, first = csv.reader(_with_end(lines, at)), at
        try:
            for row in reader:
                if first + reader.line_num > len(lines):
                    break
                count = first + reader.line_num - at
                at += count
                yield row, count
        except csv.Error:
            pass
        # The row that starts here does not end here: it goes on in the next block, or its quote is
        # a slip.
        if at >= len(lines) or not last and sum(map(len, lines[at:])) < _LONGEST_ROW_BYTES:
            return
        at += 1
        yield [], 1


def _with_end(lines: list[str], at: int) -> Iterator[str]:
    for index in range(at, len(lines)):
        yield lines[index] + "\n"
    yield "end"  # becomes a part of the last row if that one is not complete


# The filtered part of a huge CSV file on a server, kept beside the project: streamed once, resumed
# where it stopped.

# Small enough for the processor's cache: twice as fast as 8 MB.
_BLOCK_BYTES = 1 << 20
_SAVE_EVERY_BYTES = 16 << 20


@dataclass(frozen=True)
class _State:
    """How far a file has been read. `offset` and `kept_bytes` are ends of rows, in the source and
    in what is kept."""

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
    """Rows of `url` by the values of one `column`. `counted`: values of which every pass counts the
    rows.

    `once`: each value has one row, so that reading may stop when all are found.
    """

    def __init__(self, folder: Path, name: str, url: str, column: str, counted: Iterable[str] = (), once: bool = False,
                 patience: Patience | None = None):
        self.path, self._about = folder / f"{name}.csv", folder / f"{name}.json"
        self._part, self._state_path = folder / f"{name}.unfinished.csv", folder / f"{name}.unfinished.json"
        self.name, self.url, self._column = name, url, column
        self._counted, self._once, self._patience = set(counted), once, patience or Patience()

    @property
    def counts(self) -> dict[str, int] | None:
        """Rows of each counted value in the whole file, None before the first pass."""
        return _read_json(self._about).get("counts")

    def has(self, wanted: Iterable[str]) -> bool:
        """Whether all rows of the `wanted` values stand in `path`."""
        return self.path.exists() and set(wanted) <= set(_read_json(self._about).get("wanted", ()))

    def ensure(self, wanted: Iterable[str]) -> None:
        """Make all rows of the `wanted` values stand in `path`; values that are complete there are
        not read again.

        Raises DetectorError when the file is absent, has another layout, or cannot be read to its
        end; what was read stays. AbsentError is the cause in the first case.
        """
        about = _read_json(self._about) if self.path.exists() else {}
        missing = set(wanted) - set(about.get("wanted", ()))
        if about and not missing:
            return
        try:
            missing, state = self._stream(missing, about)
        except TransferError as error:
            raise self._refusal(error) from error
        self._merge(missing, about, state)

    def _refusal(self, error: TransferError) -> DetectorError:
        if isinstance(error, AbsentError):
            return DetectorError(f"{error}: {self.url}: correct openimages.metadata_url or openimages.version")
        done = _read_json(self._state_path)
        share = f"; it goes on after {done['offset'] / 1e6:,.0f} MB" if done.get("offset") else ""
        return DetectorError(f"{error}: {self.url}: look at the connection, then run the same command again{share}")

    def _stream(self, missing: set[str], about: dict[str, Any]) -> tuple[set[str], _State]:
        """Read the file to its end; return the values that were looked for, and the last state."""
        saved, failed = _read_json(self._state_path), 0
        state = _State(_digest(missing))
        if saved.get("wanted_sha256") == state.wanted_sha256 and self._part.exists():
            state = _State(**saved)
        while state.total is None or state.offset < state.total:
            progress = _Progress(state)
            try:
                with open_at(self.url, state.offset, state.validator, self._patience) as body:
                    # The server's file is a new one: what is kept of the old one does not fit any
                    # more.
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
                with tqdm(total=body.total, initial=state.offset, desc=f"metadata {self.name}", unit="B",
                          unit_scale=True, disable=None, leave=False) as bar:
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
        return replace(state, header=header.decode("utf-8", "replace"), offset=used, kept_bytes=len(header)), rest

    def _picker(self, header: str, missing: set[str]) -> RowPicker:
        try:
            return RowPicker(header.encode(), self._column, missing, self._counted)
        except (ValueError, StopIteration) as error:
            raise DetectorError(f"not the layout of Open Images ({error}): {self.url}: "
                                "correct openimages.metadata_url or openimages.version") from error

    def _pick(self, picker: RowPicker, carry: bytes, blocks: Iterator[bytes], part, progress: "_Progress",
              advance: Callable[[int], object], wanted_count: int) -> None:
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
        """Put the new rows behind those that were complete before. `about` is empty when there are
        none to keep."""
        if about:
            with replacing(self.path) as temporary, temporary.open("wb") as out, self._part.open("rb") as part:
                with self.path.open("rb") as old:
                    _copy(old, out, about["kept_bytes"])
                part.seek(len(state.header.encode()))
                shutil.copyfileobj(part, out, _BLOCK_BYTES)
        else:
            os.replace(self._part, self.path)
        wanted = sorted(missing | set(about.get("wanted", ())))
        write_json(self._about, {"url": self.url, "validator": state.validator, "total": state.total,
                                 "wanted": wanted, "kept_bytes": self.path.stat().st_size, "rows": state.rows,
                                 "counts": state.counts})
        self._part.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)


class _Progress:
    """The last state in which the file of kept rows and the numbers agree; one assignment changes
    all of it."""

    def __init__(self, state: _State):
        self.state = state

    def take(self, picked) -> None:
        state = self.state
        counts = dict(state.counts)
        for name, count in picked.counts.items():
            counts[name] = counts.get(name, 0) + count
        self.state = replace(state, offset=state.offset + picked.used, kept_bytes=state.kept_bytes + len(picked.kept),
                             kept_rows=state.kept_rows + picked.kept_rows, rows=state.rows + picked.rows, counts=counts)


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

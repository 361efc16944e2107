"""Pick the rows of a large CSV file by one column, block by block, in memory of a fixed size.

Blocks without quotes are searched with numpy, without making a Python object of any row that is not
kept. A block with quotes (titles of images) goes through the csv module, whose rows are written
anew with the same values.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

_LONGEST_ROW_BYTES = 1 << 20
# Odd, with bits all over: two fields that differ get the same number about once in 2**64.
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))
_MASKS = np.array([(1 << 8 * min(width, 8)) - 1 for width in range(9)], dtype="<u8")


def _field_numbers(data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return a 64 bit number for each field `data[start:end]`.

    It is made of the length and of the first and last 8 bytes, so that fields of up to 16 bytes are
    told apart fully. `data` needs 8 bytes before the first field and after the last one.
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
    """What one block gave.

    `kept` are its kept rows as they stand in the file and `rows` how many it had. `used` of its
    bytes were used up; the rest belongs in front of the next block. `counts` says how often each
    counted value came.
    """

    kept: bytes = b""
    used: int = 0
    rows: int = 0
    kept_rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)


class RowPicker:
    """Keep the rows whose `column` is one of `wanted`; count the values that are in `counted`.

    `header` is the first line of the file. ValueError when it has no such column.
    """

    def __init__(self, header: bytes, column: str, wanted: Iterable[str],
                 counted: Iterable[str] = ()):
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
        """As `pick`, for rows that are lines; None when a line has other columns."""
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
        """Return the index into `_names` of each field; one past its end for any other value."""
        if not self._names:
            return np.zeros(len(numbers), np.int64)
        places = np.searchsorted(self._numbers, numbers)
        found = self._numbers[np.minimum(places, len(self._names) - 1)] == numbers
        return np.where(found, places, len(self._names))

    def _tally(self, places: np.ndarray) -> dict[str, int]:
        if not self._counted:
            return {}
        counts = np.bincount(places, minlength=len(self._names) + 1)[:-1].tolist()
        return {name: count for name, count in zip(self._names, counts, strict=True)
                if count and name in self._counted}

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
    """Yield the complete rows and the number of lines of each.

    A quote that never closes costs its own line only.
    """
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
        # The row that starts here does not end: the next block has more of it, or its quote is a
        # slip.
        if at >= len(lines) or not last and sum(map(len, lines[at:])) < _LONGEST_ROW_BYTES:
            return
        at += 1
        yield [], 1


def _with_end(lines: list[str], at: int) -> Iterator[str]:
    for index in range(at, len(lines)):
        yield lines[index] + "\n"
    yield "end"  # becomes a part of the last row if that one is not complete

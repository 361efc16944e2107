"""The one exception that users see."""

import math
import unicodedata
from collections.abc import Sequence


class DetectorError(Exception):
    """A refusal in one line: `<what, with the value>: <where>: <what to type next>`.

    `tasks.py` prints it on stderr after `error: ` and exits with code 1; no traceback is shown.
    """


# Words that several rooms use in their one line, and tables for the terminal.

def counted(count: int, one: str, many: str = "") -> str:
    """`1 image`, `1,212 images`, `2 boxes`; `many` is for words whose plural is not `one` with an
    s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def aligned(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Rows of equally many cells as lines with columns; the first `texts` columns stand left,
    numbers right."""
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [(cell, " " * (width - _columns(cell))) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cell + space if place < texts else space + cell
                               for place, (cell, space) in enumerate(cells)).rstrip())
    return "\n".join(lines)


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes: East Asian letters take two, combining accents
    none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


# Numbers that a user types behind an option: invoke's own conversion answers a slip with a
# traceback.

def parse_count(text: str, option: str, example: str, least: int = 1) -> int:
    """The whole number of at least `least` in `text`. DetectorError names the option and an
    example."""
    return int(parse_number(text, option, int, least, math.inf, example))


def parse_number(text: str, option: str, kind: type, least: float, most: float, example: str) -> int | float:
    """The `kind` (int or float) in `text`, from `least` to `most`. DetectorError names the option
    and an example."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        span = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
        what = "a whole number" if kind is int else "a number"
        raise DetectorError(f"{text!r} is not {what} {span}: --{option}: give one, such as --{option} {example}")
    return value



def points(fraction: float | None, undefined: str = "undefined") -> str:
    """Return a fraction 0..1 in points (x100) for people; `undefined` for None."""
    return undefined if fraction is None else f"{100 * fraction:.1f}"

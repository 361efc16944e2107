"""Messages and texts for people: the one error that users see, counts, points, tables, numbers that
were typed."""

import difflib
import math
import unicodedata
from collections.abc import Iterable, Sequence


class DetectorError(Exception):
    """A refusal in one line: `<what, with the value>: <where>: <what to type next>`.

    `core/step.py` prints it on stderr after `error: ` and exits with code 1, without a traceback.
    """


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: `1 image`, `1,212 images`, `2 boxes`.

    `plural` is for nouns whose plural is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def points(fraction: float | None, undefined: str = "undefined") -> str:
    """Return a fraction 0..1 in points (x100), `undefined` for None."""
    return undefined if fraction is None else f"{100 * fraction:.1f}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name that is most like a misspelt one, "" if none is.

    `cutoff` is the least likeness of `difflib`, 0 (any name will do) to 1 (the same).
    """
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), "")


def aligned(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return rows of cells as the lines of a table, columns two spaces apart.

    Args:
        rows: equally many cells each; a row of headings counts as any other.
        texts: so many columns from the left are aligned left, as texts; the others right, as
            numbers.
    """
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(cell + space if place < texts else space + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Count the columns of a terminal that a text takes: East Asian letters two, accents none."""
    return sum(0 if unicodedata.combining(letter) else
               1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


# invoke's own conversion of the numbers behind an option answers a slip with a traceback.

def parse_count(text: str, option: str, example: str, least: int = 1) -> int:
    """Return the whole number in `text`.

    Raises:
        DetectorError: with the option and an example, for a number below `least` or none at all.
    """
    return int(parse_number(text, option, int, least, math.inf, example))


def parse_number(text: str, option: str, kind: type, least: float, most: float,
                 example: str) -> int | float:
    """Return the number of the `kind` int or float in `text`, from `least` to `most`.

    Raises:
        DetectorError: with the option and an example, for a number outside or none at all.
    """
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        span = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
        wanted = "a whole number" if kind is int else "a number"
        raise DetectorError(f"{text!r} is not {wanted} {span}: --{option}: "
                            f"give one, such as --{option} {example}")
    return value

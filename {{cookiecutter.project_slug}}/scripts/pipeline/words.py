"""Words that several rooms use in their one line, and tables for the terminal."""

import unicodedata
from collections.abc import Sequence


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,212 pictures`, `2 boxes`; `many` is for words whose plural is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def aligned(rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Rows of equally many cells as lines with columns; the first `texts` columns stand left, numbers right."""
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [(cell, " " * (width - _columns(cell))) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cell + space if place < texts else space + cell
                               for place, (cell, space) in enumerate(cells)).rstrip())
    return "\n".join(lines)


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes: East Asian letters take two, combining accents none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)

"""Names of Open Images' class codes, from the `class-descriptions` files that people keep beside the boxes."""

import csv
import io
from functools import lru_cache
from pathlib import Path

from scripts.pictures.formats.text import read_text

# Beside the table, above it, and where FiftyOne and OIDv4_ToolKit put it.
_PATTERNS = (
    "*class-descriptions*.csv",
    "classes.csv",
    "metadata/*class-descriptions*.csv",
    "metadata/classes.csv",
    "csv_folder/*class-descriptions*.csv",
)
_LEVELS = 4


@lru_cache(maxsize=16)
def _read(path: Path) -> dict[str, str]:
    """Names by code; lines that do not begin with a code (the header of newer versions) are passed over."""
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2 and row[0].strip().startswith("/")}


def names_beside(table: Path) -> dict[str, str]:
    """Names by code (`/m/011k07`) of the files in the folder of `table` and the three above it; the nearest counts."""
    names: dict[str, str] = {}
    for folder in table.resolve().parents[:_LEVELS]:
        for pattern in _PATTERNS:
            for path in sorted(folder.glob(pattern)):
                names = {**_read(path), **names}
    return names

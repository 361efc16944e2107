"""`eval/suspects.csv`: the list that a person works through, and the marks that the person leaves in it.

Whatever stands in the column `looked` takes a row off the list for as long as the label stays as it is.
"""

import csv
import io
from pathlib import Path

from scripts.evaluation.overlap import ious
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_text

TABLE = "eval/suspects.csv"
COLUMNS = ("rank", "looked", "kind", "suspicion", "file", "class", "suggested_class", "open", "why", "xmin", "ymin",
           "xmax", "ymax", "suggested_xmin", "suggested_ymin", "suggested_xmax", "suggested_ymax")  # fmt: skip
EDGES, SUGGESTED = COLUMNS[9:13], COLUMNS[13:]
SAME_LABEL_IOU, SAME_FOUND_IOU = 0.98, 0.7
"""A label's box does not move by itself; what is missing is drawn a little differently by another checkpoint."""


def read_looked(root: Path) -> list[dict]:
    """The rows of the table that a person marked. DetectorError when a table is there and cannot be read.

    Spreadsheets write semicolons, tabs and decimal commas in some countries.
    """
    try:
        text = (root / TABLE).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise DetectorError(f"not UTF-8: {TABLE}: save it as UTF-8; it holds what you marked as looked at") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise DetectorError(f"column {missing[0]!r} is missing: {TABLE}:1: put it back, or rename the file")
    return [row for row in reader if (row["looked"] or "").strip()]


def is_looked(row: dict, marks: list[dict]) -> bool:
    """Whether a row (as of `suspects.json`) is one of those marked."""
    return any(_same(row, mark) for mark in marks)


def _same(row: dict, mark: dict) -> bool:
    named = all((row[key] or "") == (mark[key] or "") for key in ("kind", "file", "class"))
    label, suggested = row["box_xyxy_px"], row["suggested_box_xyxy_px"]
    if not named or (row["kind"] in ("class", "missing") and row["suggested_class"] != mark["suggested_class"]):
        return False
    overlap = ious([label or suggested], [_numbers(mark, EDGES if label else SUGGESTED)])[0, 0]
    return overlap >= (SAME_LABEL_IOU if label else SAME_FOUND_IOU)


def _numbers(mark: dict, names: tuple[str, ...]) -> list[float]:
    try:
        return [float(mark[name].replace(",", ".")) for name in names]
    except (ValueError, AttributeError):
        return [0.0] * 4


def write_table(root: Path, rows: list[dict], marks: list[dict]) -> None:
    """Write the rows of the list, then those that were marked before, so that the marks stay."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    writer.writerows({**mark, "rank": ""} for mark in marks)
    write_text(root / TABLE, buffer.getvalue())


def _cells(row: dict) -> dict:
    place = f"{row['annotation'] or row['file']}" + (f":{row['line']}" if row["line"] else "")
    edges = [*(row["box_xyxy_px"] or [""] * 4), *(row["suggested_box_xyxy_px"] or [""] * 4)]
    return {**row, "looked": "", "open": place, **dict(zip(EDGES + SUGGESTED, edges, strict=True))}

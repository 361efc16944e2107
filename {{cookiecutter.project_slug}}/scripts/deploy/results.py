"""`predictions.json` and `predictions.csv`, written row by row: a film needs no more memory than a picture."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.pictures.formats.voc import format_number
from scripts.pipeline.files import replacing

PREDICTIONS, TABLE = "predictions.json", "predictions.csv"
COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "score", "frame", "time_s")


class Results:
    """Both files while they are open; `add` takes a picture or a frame with its detections."""

    def __init__(self, predictions, table):
        self._predictions, self._table = predictions, csv.writer(table, lineterminator="\n")
        self._table.writerow(COLUMNS)
        self.rows = self.detections = 0

    def add(self, row: dict) -> None:
        """Append `file`, `width`, `height`, `detections`, and of a frame `frame` and `time_s`, to both files."""
        self._predictions.write(",\n" if self.rows else "[\n")
        text = json.dumps(row, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self._predictions.write(" " + text.replace("\n", "\n "))
        self._table.writerows(_table_rows(row))
        self.rows += 1
        self.detections += len(row["detections"])

    def finish(self) -> None:
        """Close the list of the JSON file."""
        self._predictions.write("\n]\n" if self.rows else "[]\n")


@contextmanager
def results(out: Path) -> Iterator[Results]:
    """The two files of the folder `out`; they replace older ones when the block ends well, and only then."""
    with replacing(out / PREDICTIONS) as json_path, replacing(out / TABLE) as table_path:
        with (json_path.open("w", encoding="utf-8", newline="\n") as predictions,
              table_path.open("w", encoding="utf-8", newline="") as table):
            both = Results(predictions, table)
            yield both
            both.finish()


def _table_rows(row: dict) -> Iterator[list]:
    """A line for each detection, or one with class, box and score empty, as in the project's other tables."""
    picture = [row["file"], row["width"], row["height"]]
    place = [row.get("frame", ""), row.get("time_s", "")]
    for found in row["detections"]:
        edges = [format_number(edge) for edge in found["box_xyxy_px"]]
        yield [*picture, found["class"], *edges, found["score"], *place]
    if not row["detections"]:
        yield [*picture, *[""] * 6, *place]

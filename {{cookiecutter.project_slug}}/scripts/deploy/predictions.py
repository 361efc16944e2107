"""What `invoke predict` writes of each image or frame: `predictions.json` and `predictions.csv`.

Both are written row by row, so that a film needs no more memory than an image.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.core.files import replacing
from scripts.data.formats.voc import format_number
from scripts.evaluation.detections import Detections, clipped_xyxy_px, short

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "score", "frame",
           "time_s")
BOX_DECIMALS = 2


def detection_rows(found: Detections, size_px: tuple[int, int], labels: list[str],
                   threshold: float) -> list[dict]:
    """Return the detections of an image as `predictions.json` holds them.

    The best comes first, none is below the threshold. `size_px` is (width, height).
    """
    rows = []
    boxes = clipped_xyxy_px(found.yxyx_norm, *size_px)
    for box, class_id, score in zip(boxes, found.class_ids, found.scores, strict=True):
        if score >= threshold:
            name = labels[class_id] if class_id < len(labels) else f"class {class_id}"
            edges = [round(float(edge), BOX_DECIMALS) for edge in box]
            rows.append({"class": name, "class_id": int(class_id), "score": short(score),
                         "box_xyxy_px": edges})
    return sorted(rows, key=lambda row: -row["score"])


class Results:
    """Both files while they are open; `add` takes an image or a frame with its detections."""

    def __init__(self, predictions, table):
        self._predictions, self._table = predictions, csv.writer(table, lineterminator="\n")
        self._table.writerow(COLUMNS)
        self.rows = self.detections = 0

    def add(self, row: dict) -> None:
        """Append a row to both files.

        It has `file`, `width`, `height`, `detections`, and of a frame `frame` and `time_s`.
        """
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
    """Open the two files in the folder `out`.

    They replace older ones when the block ends well, and only then.
    """
    with (replacing(out / "predictions.json") as json_path,
          replacing(out / "predictions.csv") as table_path,
          json_path.open("w", encoding="utf-8", newline="\n") as predictions,
          table_path.open("w", encoding="utf-8", newline="") as table):
        both = Results(predictions, table)
        yield both
        both.finish()


def _table_rows(row: dict) -> Iterator[list]:
    """Yield a line for each detection, or one with class, box and score empty, as in the other
    tables of the project."""
    image = [row["file"], row["width"], row["height"]]
    place = [row.get("frame", ""), row.get("time_s", "")]
    for found in row["detections"]:
        edges = [format_number(edge) for edge in found["box_xyxy_px"]]
        yield [*image, found["class"], *edges, found["score"], *place]
    if not row["detections"]:
        yield [*image, *[""] * 6, *place]

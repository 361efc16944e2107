"""A few pictures of a split, the same at every evaluation: what is labelled in them beside what was found."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scripts.pictures.draw import contact_sheet, draw_detections, fitted

MOST_PICTURES = 8
SHOWN_SCORE = 0.3
PANEL_PX, LETTERS_PX = 320, 16


def choose(shown: Iterable[tuple[int, set[int]]], count: int) -> list[int]:
    """At most `count` ids of pictures that hold labels: each class in turn gives the first one that shows it.

    `shown`: id of a picture and the classes labelled in it. The class that the chosen ones show least comes first.
    """
    waiting = {number: classes for number, classes in shown if classes}
    chosen, seen = [], Counter()
    while waiting and len(chosen) < count:
        rarest = min(set().union(*waiting.values()), key=lambda one: (seen[one], one))
        number = next(number for number, classes in waiting.items() if rarest in classes)
        seen.update(waiting.pop(number))
        chosen.append(number)
    return chosen


def side_by_side(picture: Image.Image, labelled: list[dict], found: list[dict]) -> Image.Image:
    """Two panels, each with a caption: `picture` with the boxes `labelled`, and with those `found`, counted.

    The longer side of `picture` should be that of a panel, 320 px, or it is resized after it was drawn on. Boxes are
    those of `draw_detections`, in pixels of `picture`; of those found only scores from 0.3 are drawn.
    """
    sure = [one for one in found if one["score"] >= SHOWN_SCORE]
    drawn = [draw_detections(picture, boxes, LETTERS_PX) for boxes in (labelled, sure)]
    return contact_sheet(drawn, [f"labelled: {len(labelled)}", f"found: {len(sure)} (score from {SHOWN_SCORE})"], 2,
                         PANEL_PX)


class Gallery:
    """The chosen pictures of a split; `files` are its records, `names` class names by label map id."""

    def __init__(self, files: list[Path], names: dict[int, str]):
        self.files, self.names, self.pictures = files, names, None

    def panels(self, evaluation) -> dict[str, Image.Image]:
        """File name -> labels and detections side by side, of a `COCOeval` of the split."""
        truth, found = evaluation.cocoGt.imgToAnns, evaluation.cocoDt.imgToAnns
        if self.pictures is None:  # Read once: pictures and labels are the same at every evaluation.
            shown = ((image["id"], {row["category_id"] for row in truth.get(image["id"], [])})
                     for image in evaluation.cocoGt.dataset["images"])
            self.pictures = read_pictures(self.files, choose(shown, MOST_PICTURES))
        return {each.name: side_by_side(each.picture, *([self._box(row, each.scale) for row in side.get(number, [])]
                                                        for side in (truth, found)))
                for number, each in self.pictures.items()}

    def _box(self, row: dict, scale: float) -> dict:
        """A row of COCO as `draw_detections` takes it; labels have no score, crowds a note."""
        number = int(row["category_id"])
        xmin, ymin, width, height = (float(value) * scale for value in row["bbox"])
        return {"class": self.names.get(number, str(number)), "class_id": number - 1,
                "score": float(row["score"]) if "score" in row else None,
                "box_xyxy_px": [xmin, ymin, xmin + width, ymin + height],
                "note": "not scored" if row.get("iscrowd") else ""}


class Shown(NamedTuple):
    """File name of a picture, the picture as large as a panel, and its scale: pixels of it / stored pixels."""

    name: str
    picture: Image.Image
    scale: float


def read_pictures(files: list[Path], wanted: list[int]) -> dict[int, Shown]:
    """Id -> each of the wanted pictures, in their order, out of record files."""
    import tensorflow as tf

    from scripts.training.pixels import decode_picture

    found = {}
    records = tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator()
    while len(found) < len(wanted) and (data := next(records, None)) is not None:
        feature = tf.train.Example.FromString(data).features.feature
        number = int(feature["image/source_id"].bytes_list.value[0])
        if number in wanted:
            stored = Image.fromarray(decode_picture(feature["image/encoded"].bytes_list.value[0]).numpy())
            small = fitted(stored, PANEL_PX)
            name = feature["image/filename"].bytes_list.value[0].decode()
            found[number] = Shown(name, small, max(small.size) / max(stored.size))
    return {number: found[number] for number in wanted if number in found}

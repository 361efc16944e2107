"""What TensorBoard shows beside Model Garden's own figures: curves and AP by class, and images.

All of it comes out of an evaluation by pycocotools (`COCOeval`) that has run: nothing is matched a
second time.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbit
import tensorflow as tf
from PIL import Image

from scripts.data.drawing import contact_sheet, draw_detections, fitted
from scripts.evaluation.metrics import evaluated
from scripts.training.inputs import decode_image

# Figures of single classes.

THRESHOLDS = np.arange(101) / 100
# Places in the arrays of `COCOeval`.
_ALL_AREAS, _IOU_50, _MOST_DETECTIONS = 0, 0, -1


@dataclass(frozen=True)
class PrCounts:
    """Detections and boxes of a class at IoU 0.5 by score threshold; crowds count neither way.

    Attributes:
        right: Detections that find a box, with a score of at least `THRESHOLDS`, int64 [101].
        wrong: Those that do not, int64 [101].
        missed: Boxes that are not found, int64 [101].
    """

    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Right among shown, float64 [101]; 0 where nothing is shown."""
        return self.right / np.maximum(self.right + self.wrong, 1)

    @property
    def recall(self) -> np.ndarray:
        """Found among labeled boxes, float64 [101]."""
        return self.right / (self.right + self.missed)


def average_precisions(evaluation) -> dict[int, float]:
    """Return the AP (0..1) of each category id of a `COCOeval` that has accumulated.

    Classes without a box to find are not in it.
    """
    # `precision` is [IoU, recall, class, area, limit of detections].
    found = evaluation.eval["precision"][:, :, :, _ALL_AREAS, _MOST_DETECTIONS]
    by_class = ((number, found[:, :, index])
                for index, number in enumerate(evaluation.params.catIds))
    return {int(number): float(part[part > -1].mean())
            for number, part in by_class if (part > -1).any()}


def pr_counts(evaluation) -> dict[int, PrCounts]:
    """Return the counts of each category id of a `COCOeval` that has evaluated.

    Classes without a box to find are not in it.
    """
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    counts = {}
    for index, number in enumerate(evaluation.params.catIds):
        # evalImgs is sorted by class, then area, then image.
        first = (index * areas + _ALL_AREAS) * images
        matches = [match for match in evaluation.evalImgs[first:first + images]
                   if match is not None]
        boxes = sum(int((np.asarray(match["gtIgnore"]) == 0).sum()) for match in matches)
        if boxes:
            counts[int(number)] = _counts(matches, boxes)
    return counts


def _counts(matches: list[dict], boxes: int) -> PrCounts:
    scores = np.concatenate([np.asarray(match["dtScores"], np.float64) for match in matches])
    right = np.concatenate([match["dtMatches"][_IOU_50] > 0 for match in matches])
    ignored = np.concatenate([match["dtIgnore"][_IOU_50] for match in matches]).astype(bool)
    # A score of 0 is no detection: Model Garden fills up with them.
    counted = ~ignored & (scores > 0)
    hits, others = (np.sort(scores[counted & chosen]) for chosen in (right, ~right))
    right_from, wrong_from = (part.size - np.searchsorted(part, THRESHOLDS)
                              for part in (hits, others))
    return PrCounts(right_from, wrong_from, boxes - right_from)


# A few images of a split, the same at every evaluation: labels beside detections.

MOST_IMAGES = 8
SHOWN_SCORE = 0.3
PANEL_PX, LETTERS_PX = 320, 16


def choose(shown: Iterable[tuple[int, set[int]]], count: int) -> list[int]:
    """Choose at most `count` images that hold labels, so that they show every class.

    The class that the chosen images show least comes first, with the first image that shows it.

    Args:
        shown: The id of each image, and the classes labeled in it.
        count: How many to choose.

    Returns:
        The ids of the chosen images.
    """
    waiting = {image: classes for image, classes in shown if classes}
    chosen, seen = [], Counter()
    while waiting and len(chosen) < count:
        left = set().union(*waiting.values())
        rarest = min(left, key=lambda number: (seen[number], number))
        image = next(image for image, classes in waiting.items() if rarest in classes)
        seen.update(waiting.pop(image))
        chosen.append(image)
    return chosen


def side_by_side(image: Image.Image, labeled: list[dict], found: list[dict]) -> Image.Image:
    """Draw two panels, each with a caption: the labels, and the detections.

    Args:
        image: The image. Its longer side should be that of a panel, 320 px: otherwise it is resized
            after it was drawn on.
        labeled: The labels, as `draw_detections` takes them, in pixels of `image`.
        found: The detections; those with a score from 0.3 are drawn and counted.
    """
    sure = [detection for detection in found if detection["score"] >= SHOWN_SCORE]
    drawn = [draw_detections(image, boxes, LETTERS_PX) for boxes in (labeled, sure)]
    captions = [f"labeled: {len(labeled)}", f"found: {len(sure)} (score from {SHOWN_SCORE})"]
    return contact_sheet(drawn, captions, 2, PANEL_PX)


class Shown(NamedTuple):
    """An image as large as a panel, its file name, and pixels of it / stored pixels."""

    name: str
    image: Image.Image
    scale: float


class Gallery:
    """The chosen images of a split; `files` are its records, `names` class names by id."""

    def __init__(self, files: list[Path], names: dict[int, str]):
        self.files, self.names, self.images = files, names, None

    def panels(self, evaluation) -> dict[str, Image.Image]:
        """Return labels and detections side by side by file name, of a `COCOeval` of the split."""
        truth, found = evaluation.cocoGt.imgToAnns, evaluation.cocoDt.imgToAnns
        if self.images is None:
            # Read once: images and labels are the same at every evaluation.
            labels = ((image["id"], {row["category_id"] for row in truth.get(image["id"], [])})
                      for image in evaluation.cocoGt.dataset["images"])
            self.images = read_images(self.files, choose(labels, MOST_IMAGES))
        return {shown.name: side_by_side(shown.image, self._boxes(truth.get(number, []), shown),
                                         self._boxes(found.get(number, []), shown))
                for number, shown in self.images.items()}

    def _boxes(self, rows: list[dict], shown: Shown) -> list[dict]:
        """Return rows of COCO as `draw_detections` takes them; labels have no score."""
        boxes = []
        for row in rows:
            number = int(row["category_id"])
            xmin, ymin, width, height = (float(value) * shown.scale for value in row["bbox"])
            boxes.append({
                "class": self.names.get(number, str(number)), "class_id": number - 1,
                "score": float(row["score"]) if "score" in row else None,
                "box_xyxy_px": [xmin, ymin, xmin + width, ymin + height],
                "note": "not scored" if row.get("iscrowd") else ""})
        return boxes


def read_images(files: list[Path], wanted: list[int]) -> dict[int, Shown]:
    """Return images of record files by id, in the order of the ids `wanted`."""
    found = {}
    records = tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator()
    while len(found) < len(wanted) and (data := next(records, None)) is not None:
        feature = tf.train.Example.FromString(data).features.feature
        number = int(feature["image/source_id"].bytes_list.value[0])
        if number in wanted:
            pixels = decode_image(feature["image/encoded"].bytes_list.value[0]).numpy()
            stored = Image.fromarray(pixels)
            small = fitted(stored, PANEL_PX)
            name = feature["image/filename"].bytes_list.value[0].decode()
            found[number] = Shown(name, small, max(small.size) / max(stored.size))
    return {number: found[number] for number in wanted if number in found}


# Writers of event files.

IMAGES_PER_SECOND = "training/images_per_second"
PR_GROUP = "precision and recall at IoU 0.5"
TEST_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


class DefinedSummaries(orbit.utils.SummaryManager):
    """Model Garden's writer of figures, which leaves out what is undefined."""

    def __init__(self, folder: Path | None, global_step):
        super().__init__(folder and str(folder), tf.summary.scalar, global_step)

    def write_summaries(self, summary_dict) -> None:
        """Write each figure; pycocotools calls an AP or AR undefined by -1."""
        super().write_summaries({
            name: value for name, value in summary_dict.items()
            if not (name.removeprefix("best_").startswith(("AP", "AR")) and value < 0)})


class EvaluationEvents:
    """Figures by class and images of evaluations on a split.

    Args:
        split: `validation` or `test`.
        names: Class names by label map id.
        files: The record files of the split.
    """

    def __init__(self, split: str, names: dict[int, str], files: list[Path]):
        self.split, self.names, self.gallery = split, names, Gallery(files, names)

    def write(self, writer, step: int, evaluation) -> None:
        """Write AP and precision-recall curve of each class with boxes, and images.

        `evaluation` is a `COCOeval` that has run.
        """
        with writer.as_default(step=step):
            for number, average_precision in average_precisions(evaluation).items():
                tf.summary.scalar(f"{self.split} AP by class/{self._name(number)}",
                                  average_precision)
            for number, counts in pr_counts(evaluation).items():
                curve = pr_summary(self._name(number), counts)
                tf.summary.experimental.write_raw_pb(curve.SerializeToString())
            for name, panel in self.gallery.panels(evaluation).items():
                tf.summary.image(f"{self.split} images/{name}", np.asarray(panel)[np.newaxis])
        writer.flush()

    def _name(self, number: int) -> str:
        return self.names.get(number, str(number))


def pr_summary(name: str, counts: PrCounts):
    """Return a curve of TensorBoard's page "PR Curves", at 101 thresholds from 0 to 1.

    Detections have no true negatives: that row of its table is 0.
    """
    from tensorboard.plugins.pr_curve import summary

    return summary.raw_data_pb(
        f"{PR_GROUP}/{name}", counts.right, counts.wrong, np.zeros_like(counts.right),
        counts.missed, counts.precision, counts.recall, len(THRESHOLDS), name)


def write_events(folder: Path, metrics: dict, groundtruth: dict, detections: list[dict],
                 files: list[Path]) -> None:
    """Write what `invoke evaluate` scored on the test split, at the step of the checkpoint.

    Args:
        folder: Where the event file goes.
        metrics: The content of `metrics.json`.
        groundtruth, detections: In COCO form.
        files: The record files of the test split.
    """
    step = int(metrics["checkpoint"].rsplit("-", 1)[1])
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=step):
        for name in TEST_FIGURES:
            if metrics[name] is not None:
                tf.summary.scalar(f"test/{name}", metrics[name])
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    events = EvaluationEvents("test", names, files)
    events.write(writer, step, evaluated(groundtruth, detections))
    writer.close()

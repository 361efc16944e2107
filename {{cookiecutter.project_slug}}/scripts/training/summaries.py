"""Figures of single classes out of an evaluation by pycocotools that has run: nothing is matched a
second time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbit
import tensorflow as tf
from PIL import Image

from scripts.core.layout import Layout
from scripts.data.drawing import contact_sheet, draw_detections, fitted
from scripts.evaluation.metrics import evaluated
from scripts.training.inputs import decode_image

THRESHOLDS = np.arange(101) / 100
_ALL_AREAS, _IOU_50, _MOST_DETECTIONS = 0, 0, -1


@dataclass(frozen=True)
class PrCounts:
    """Detections of a class at IoU 0.5 that are right, those that are not, and boxes not found, by
    score threshold.

    Each is int64 [101], for detections with a score of at least `THRESHOLDS`; crowds count neither
    way.
    """

    right: Any
    wrong: Any
    missed: Any

    @property
    def precision(self):
        """Right among shown, float64 [101]; 0 where nothing is shown."""
        return self.right / np.maximum(self.right + self.wrong, 1)

    @property
    def recall(self):
        """Found among labeled boxes, float64 [101]."""
        return self.right / (self.right + self.missed)


def average_precisions(evaluation) -> dict[int, float]:
    """Category id -> AP 0..1 of a `COCOeval` that has accumulated; classes without a box to find
    are left out."""
    # `precision` is [IoU, recall, class, area, limit of detections].
    found = evaluation.eval["precision"][:, :, :, _ALL_AREAS, _MOST_DETECTIONS]
    by_class = ((number, found[:, :, index]) for index, number in enumerate(evaluation.params.catIds))
    return {int(number): float(part[part > -1].mean()) for number, part in by_class if (part > -1).any()}


def pr_counts(evaluation) -> dict[int, PrCounts]:
    """Category id -> counts of a `COCOeval` that has evaluated; classes without a box to find are
    left out."""
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    counts = {}
    for index, number in enumerate(evaluation.params.catIds):
        first = (index * areas + _ALL_AREAS) * images  # evalImgs is sorted by class, then area, then image.
        matches = [match for match in evaluation.evalImgs[first:first + images] if match is not None]
        boxes = sum(int((np.asarray(match["gtIgnore"]) == 0).sum()) for match in matches)
        if boxes:
            counts[int(number)] = _counts(matches, boxes)
    return counts


def _counts(matches: list[dict], boxes: int) -> PrCounts:
    scores = np.concatenate([np.asarray(match["dtScores"], np.float64) for match in matches])
    right = np.concatenate([match["dtMatches"][_IOU_50] > 0 for match in matches])
    # A score of 0 is no detection: Model Garden fills up with them.
    counted = ~np.concatenate([match["dtIgnore"][_IOU_50] for match in matches]).astype(bool) & (scores > 0)
    hits, others = (np.sort(scores[counted & which]) for which in (right, ~right))
    right_from, wrong_from = (part.size - np.searchsorted(part, THRESHOLDS) for part in (hits, others))
    return PrCounts(right_from, wrong_from, boxes - right_from)


# A few images of a split, the same at every evaluation: what is labeled in them beside what was
# found.

MOST_IMAGES = 8
SHOWN_SCORE = 0.3
PANEL_PX, LETTERS_PX = 320, 16


def choose(shown: Iterable[tuple[int, set[int]]], count: int) -> list[int]:
    """At most `count` ids of images that hold labels: each class in turn gives the first one that
    shows it.

    `shown`: id of an image and the classes labeled in it. The class that the chosen ones show least
    comes first.
    """
    waiting = {number: classes for number, classes in shown if classes}
    chosen, seen = [], Counter()
    while waiting and len(chosen) < count:
        rarest = min(set().union(*waiting.values()), key=lambda one: (seen[one], one))
        number = next(number for number, classes in waiting.items() if rarest in classes)
        seen.update(waiting.pop(number))
        chosen.append(number)
    return chosen


def side_by_side(image: Image.Image, labeled: list[dict], found: list[dict]) -> Image.Image:
    """Two panels, each with a caption: `image` with the boxes `labeled`, and with those `found`,
    counted.

    The longer side of `image` should be that of a panel, 320 px, or it is resized after it was
    drawn on. Boxes are those of `draw_detections`, in pixels of `image`; of those found only scores
    from 0.3 are drawn.
    """
    sure = [one for one in found if one["score"] >= SHOWN_SCORE]
    drawn = [draw_detections(image, boxes, LETTERS_PX) for boxes in (labeled, sure)]
    return contact_sheet(drawn, [f"labeled: {len(labeled)}", f"found: {len(sure)} (score from {SHOWN_SCORE})"], 2,
                         PANEL_PX)


class Gallery:
    """The chosen images of a split; `files` are its records, `names` class names by label map id.
    """

    def __init__(self, files: list[Path], names: dict[int, str]):
        self.files, self.names, self.images = files, names, None

    def panels(self, evaluation) -> dict[str, Image.Image]:
        """File name -> labels and detections side by side, of a `COCOeval` of the split."""
        truth, found = evaluation.cocoGt.imgToAnns, evaluation.cocoDt.imgToAnns
        if self.images is None:  # Read once: images and labels are the same at every evaluation.
            shown = ((image["id"], {row["category_id"] for row in truth.get(image["id"], [])})
                     for image in evaluation.cocoGt.dataset["images"])
            self.images = read_images(self.files, choose(shown, MOST_IMAGES))
        return {each.name: side_by_side(each.image, *([self._box(row, each.scale) for row in side.get(number, [])]
                                                        for side in (truth, found)))
                for number, each in self.images.items()}

    def _box(self, row: dict, scale: float) -> dict:
        """A row of COCO as `draw_detections` takes it; labels have no score, crowds a note."""
        number = int(row["category_id"])
        xmin, ymin, width, height = (float(value) * scale for value in row["bbox"])
        return {"class": self.names.get(number, str(number)), "class_id": number - 1,
                "score": float(row["score"]) if "score" in row else None,
                "box_xyxy_px": [xmin, ymin, xmin + width, ymin + height],
                "note": "not scored" if row.get("iscrowd") else ""}


class Shown(NamedTuple):
    """File name of an image, the image as large as a panel, and its scale: pixels of it / stored
    pixels."""

    name: str
    image: Image.Image
    scale: float


def read_images(files: list[Path], wanted: list[int]) -> dict[int, Shown]:
    """Id -> each of the wanted images, in their order, out of record files."""
    import tensorflow as tf

    found = {}
    records = tf.data.TFRecordDataset([str(path) for path in files]).as_numpy_iterator()
    while len(found) < len(wanted) and (data := next(records, None)) is not None:
        feature = tf.train.Example.FromString(data).features.feature
        number = int(feature["image/source_id"].bytes_list.value[0])
        if number in wanted:
            stored = Image.fromarray(decode_image(feature["image/encoded"].bytes_list.value[0]).numpy())
            small = fitted(stored, PANEL_PX)
            name = feature["image/filename"].bytes_list.value[0].decode()
            found[number] = Shown(name, small, max(small.size) / max(stored.size))
    return {number: found[number] for number in wanted if number in found}


# What TensorBoard shows beside Model Garden's own figures.

IMAGES_PER_SECOND = "training/images_per_second"
PR_GROUP = "precision and recall at IoU 0.5"


class DefinedSummaries(orbit.utils.SummaryManager):
    """Model Garden's writer of figures, which leaves out what is undefined."""

    def __init__(self, folder: Path | None, global_step):
        super().__init__(folder and str(folder), tf.summary.scalar, global_step)

    def write_summaries(self, summary_dict) -> None:
        """Writes each figure; pycocotools calls an AP or AR undefined by -1."""
        super().write_summaries({name: value for name, value in summary_dict.items()
                                 if not (name.removeprefix("best_").startswith(("AP", "AR")) and value < 0)})


class EvaluationEvents:
    """Figures by class and images of an evaluation on a split (`validation`, `test`)."""

    def __init__(self, split: str, names: dict[int, str], files: list[Path]):
        self.split, self.names, self.gallery = split, names, Gallery(files, names)

    def write(self, writer, step: int, evaluation) -> None:
        """AP and precision-recall curve of each class with boxes, and images, of a `COCOeval` that
        has run."""
        with writer.as_default(step=step):
            for number, average_precision in average_precisions(evaluation).items():
                tf.summary.scalar(f"{self.split} AP by class/{self._name(number)}", average_precision)
            for number, counts in pr_counts(evaluation).items():
                tf.summary.experimental.write_raw_pb(pr_summary(self._name(number), counts).SerializeToString())
            for name, panel in self.gallery.panels(evaluation).items():
                tf.summary.image(f"{self.split} images/{name}", np.asarray(panel)[np.newaxis])
        writer.flush()

    def _name(self, number: int) -> str:
        return self.names.get(number, str(number))


def pr_summary(name: str, counts: PrCounts):
    """A curve of TensorBoard's page "PR Curves", at 101 thresholds from 0 to 1.

    Detections have no true negatives: that row of its table is 0.
    """
    from tensorboard.plugins.pr_curve import summary

    return summary.raw_data_pb(f"{PR_GROUP}/{name}", counts.right, counts.wrong, np.zeros_like(counts.right),
                               counts.missed, counts.precision, counts.recall, len(THRESHOLDS), name)


# What TensorBoard shows of the test split: `eval/tensorboard/`.

SCALARS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def write_events(root: Path, metrics: dict, groundtruth: dict, detections: list[dict]) -> None:
    """The figures of `eval/metrics.json`, and by class and in images, at the step of the
    checkpoint."""
    import tensorflow as tf

    step = int(metrics["checkpoint"].rsplit("-", 1)[1])
    writer = tf.summary.create_file_writer(str(root / "eval/tensorboard"))
    with writer.as_default(step=step):
        for name in SCALARS:
            if metrics[name] is not None:
                tf.summary.scalar(f"test/{name}", metrics[name])
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    events = EvaluationEvents("test", names, Layout(root).records("test"))
    events.write(writer, step, evaluated(groundtruth, detections))
    writer.close()

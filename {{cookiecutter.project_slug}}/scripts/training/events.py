"""What TensorBoard shows beside Model Garden's own figures."""

from pathlib import Path

import numpy as np
import orbit
import tensorflow as tf

from scripts.training.curves import THRESHOLDS, PrCounts, average_precisions, pr_counts
from scripts.training.gallery import Gallery

PICTURES_PER_SECOND = "training/pictures_per_second"
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
    """Figures by class and pictures of an evaluation on a split (`validation`, `test`)."""

    def __init__(self, split: str, names: dict[int, str], files: list[Path]):
        self.split, self.names, self.gallery = split, names, Gallery(files, names)

    def write(self, writer, step: int, evaluation) -> None:
        """AP and precision-recall curve of each class with boxes, and pictures, of a `COCOeval` that has run."""
        with writer.as_default(step=step):
            for number, average_precision in average_precisions(evaluation).items():
                tf.summary.scalar(f"{self.split} AP by class/{self._name(number)}", average_precision)
            for number, counts in pr_counts(evaluation).items():
                tf.summary.experimental.write_raw_pb(pr_summary(self._name(number), counts).SerializeToString())
            for name, panel in self.gallery.panels(evaluation).items():
                tf.summary.image(f"{self.split} pictures/{name}", np.asarray(panel)[np.newaxis])
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

"""What the trained network says at each label and beside it: a few numbers of every picture."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scripts.evaluation.groundtruth import RecordBox
from scripts.evaluation.overlap import ious
from scripts.evaluation.views import View

AT_LABEL_IOU = 0.5
"""An anchor with this overlap speaks about the label."""
BESIDE_IOU = 0.1
"""A detection that overlaps a label at least so much may be the same object, drawn better."""
FREE_IOU = 0.4
"""A detection that overlaps every label less is an object of its own."""
USUAL = 0.5
"""Taken for the typical score of a label where a split has none."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelFacts:
    """Of one label: `scores` [classes] 0..1 of the network at its place; `placed` is the best score of its class times
    the overlap of the anchor that has it; the best detection beside it; `features` [d] of what is inside."""

    split: str
    file_name: str
    label: RecordBox
    scores: Any
    placed: float
    features: Any
    beside: float = 0.0
    beside_iou: float = 0.0
    beside_px: Corners | None = None

    @property
    def own(self) -> float:
        """What the network scores the label's class at its place."""
        return float(self.scores[self.label.label_id - 1])


@dataclass(frozen=True)
class Found:
    """A detection; `iou` is its overlap with the label that it overlaps most. `free`: it is about no label."""

    split: str
    file_name: str
    found_id: int
    xyxy_px: Corners
    score: float
    iou: float
    free: bool


@dataclass(frozen=True)
class Network:
    """What the trained network is worth in a split, 0..1: its `usual` score at labels (the median); the `share` of
    labels of which it is at least half as sure, since where it often sees nothing that says little; the scores of
    detections, falling, and how many of them up to each are about a label."""

    usual: float
    share: float
    scores: Any
    about_labels: Any

    def precision(self, score: float) -> float:
        """The share of detections with at least this score that are about a label."""
        count = int(np.searchsorted(-self.scores, -score, side="right"))
        return float(self.about_labels[count - 1] / count) if count else 0.0


@dataclass
class Seen:
    """All labels that are judged and all detections, and features of boxes where nothing is."""

    labels: list[LabelFacts] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    grounds: list = field(default_factory=list)

    def add(self, view: View) -> None:
        """Note one picture. Crowds, and labels of classes that the network does not know, are not judged."""
        crowds = [label.crowd for label in view.labels]
        overlaps = ious(view.found_xyxy_px, [label.xyxy_px for label in view.labels], crowds)
        beside = [_beside(view, overlaps, index) for index in range(len(view.labels))]
        self.labels += _labels(view, overlaps, beside)
        self.found += _found(view, overlaps, set(beside))
        self.grounds += list(view.ground_features)

    def network(self, split: str) -> Network:
        """How well the network knows this split; it is surer of labels that it has trained on."""
        own = np.array([one.own for one in self.labels if one.split == split] or [USUAL])
        usual = float(np.median(own))
        found = sorted((one for one in self.found if one.split == split), key=lambda one: -one.score)
        return Network(max(0.01, usual), float((own >= usual / 2).mean()), np.array([one.score for one in found]),
                       np.cumsum([not one.free for one in found]))  # fmt: skip


def _found(view: View, overlaps: np.ndarray, beside: set[int | None]) -> Iterator[Found]:
    """Detections; those about a label that is drawn badly are not free, however little they overlap it."""
    for at, most in enumerate(overlaps.max(1, initial=0.0)):
        yield Found(view.split, view.file_name, int(view.found_ids[at]), _corners(view.found_xyxy_px[at]),
                    float(view.found_scores[at]), float(most), bool(most < FREE_IOU and at not in beside))  # fmt: skip


def _labels(view: View, overlaps: np.ndarray, beside: list[int | None]) -> Iterator[LabelFacts]:
    """`overlaps` are those of the picture's detections with its labels, `beside` is `_beside` of each label."""
    at_anchors = ious(view.anchors_xyxy_px, [label.xyxy_px for label in view.labels])
    for index, label in enumerate(view.labels):
        if label.crowd or label.label_id > view.scores.shape[1]:
            continue
        near = np.where(at_anchors[:, index, None] >= AT_LABEL_IOU, view.scores, 0.0).max(0, initial=0.0)
        placed = float((view.scores[:, label.label_id - 1] * at_anchors[:, index]).max(initial=0.0))
        at = beside[index]
        other = () if at is None else (
            float(view.found_scores[at]), float(overlaps[at, index]), _corners(view.found_xyxy_px[at]))  # fmt: skip
        yield LabelFacts(view.split, view.file_name, label, near, placed, view.label_features[index], *other)


def _beside(view: View, overlaps: np.ndarray, index: int) -> int | None:
    """The place of the best detection of the label's class that is about this label more than another."""
    mine = overlaps[:, index] >= np.maximum(overlaps.max(1, initial=0.0), BESIDE_IOU)
    scores = np.where(mine & (view.found_ids == view.labels[index].label_id), view.found_scores, 0.0)
    return int(scores.argmax()) if scores.any() else None


def _corners(edges) -> Corners:
    """Four edges as plain numbers, to a thousandth of a pixel."""
    return tuple(round(float(value), 3) for value in edges)

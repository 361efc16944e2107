"""Which labels look wrong: what the trained network and a classifier of crops say of each.

The trained network has seen the labels that it judges, wrong ones too, and may have learned them by
heart. So a second opinion is asked: that of `crop_classifier.py`, which judges each label without
having been fitted to it. How much each of the two counts follows from how often it is right here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.dataset import Corners, ious
from scripts.evaluation.crop_classifier import (
    background_boxes,
    leave_one_out_scores,
    reliability,
)
from scripts.evaluation.detections import batched, clipped_xyxy_px, decode_rgb, record_images

# What the network sees in each image.

# Detections below it say nothing about labels.
LOWEST_SCORE = 0.05


@dataclass(frozen=True)
class View:
    """One image: its labels, and what the network and the backbone make of it.

    Boxes are xmin, ymin, xmax, ymax in pixels, [n, 4], clipped to the image. `label_ids`, `xyxy_px`
    and `crowds` are the labels, as in `RecordImage`. `anchors_xyxy_px` with `scores` [n, classes]
    0..1 are where the network looked, class i is label map id i + 1. `found_xyxy_px` [m, 4],
    `found_ids` [m] (of the label map) and `found_scores` [m] are the detections, best first.
    `label_features` [labels, d] and `background_features` [b, d] describe the inside of labels and
    of boxes where nothing is.
    """

    split: str
    file_name: str
    width_px: int
    height_px: int
    label_ids: tuple[int, ...]
    xyxy_px: tuple[Corners, ...]
    crowds: tuple[bool, ...]
    anchors_xyxy_px: Any
    scores: Any
    found_xyxy_px: Any
    found_ids: Any
    found_scores: Any
    label_features: Any
    background_features: Any


def views(model, describe: Callable, files: dict[str, list[Path]]) -> Iterator[View]:
    """Yield the images of each split, in the order of its TFRecords.

    Args:
        model: a `TrainedModel`.
        describe: as `crop_describer` gives it.
        files: split to its TFRecord files.
    """
    import tensorflow as tf

    look = tf.function(lambda pixels: model.look(pixels, LOWEST_SCORE))
    for split, records in files.items():
        for images in batched(record_images(records)):
            decoded = [decode_rgb(image.encoded) for image in images]
            seen = [part.numpy() for part in look(model.batch(decoded))]
            for image, pixels, *parts in zip(images, decoded, *seen, strict=True):
                yield _view(split, image, pixels, describe, *parts)


def _view(split: str, image, pixels, describe: Callable, anchors, scores, boxes, ids, found_scores,
          count) -> View:
    size_px = (image.width_px, image.height_px)
    found_px = clipped_xyxy_px(boxes[:count], *size_px)
    labeled_px = np.array(image.xyxy_px).reshape(-1, 4)
    backgrounds_px = background_boxes(image.file_name, size_px, labeled_px, found_px)
    features = describe(pixels, np.concatenate([labeled_px, backgrounds_px]))
    labels = (image.label_ids, image.xyxy_px, image.crowds)
    return View(split, image.file_name, *size_px, *labels, clipped_xyxy_px(anchors, *size_px),
                scores, found_px, ids[:count].astype(int) + 1, found_scores[:count],
                features[:len(labeled_px)], features[len(labeled_px):])


# The evidence: a few numbers of each label and each detection.

# An anchor with this overlap speaks about the label.
AT_LABEL_IOU = 0.5
# A detection that overlaps a label at least so much may be the same object, drawn better.
BESIDE_IOU = 0.1
# A detection that overlaps every label less is an object of its own.
FREE_IOU = 0.4
# Taken for the typical score of a label where a split has none.
USUAL = 0.5


@dataclass(frozen=True)
class LabelEvidence:
    """What the network sees at one label.

    `scores` [classes] 0..1 at its place; `placed` is the best score of its class times the overlap
    of the anchor that has it; the best detection beside it; `features` [d] of what is inside.
    """

    split: str
    file_name: str
    label_id: int
    xyxy_px: Corners
    scores: Any
    placed: float
    features: Any
    beside: float = 0.0
    beside_iou: float = 0.0
    beside_px: Corners | None = None

    @property
    def own(self) -> float:
        """What the network scores the label's class at its place."""
        return float(self.scores[self.label_id - 1])


@dataclass(frozen=True)
class DetectionEvidence:
    """A detection; `iou` is its largest overlap with a label; `free`: it is about no label."""

    split: str
    file_name: str
    class_id: int
    xyxy_px: Corners
    score: float
    iou: float
    free: bool


@dataclass(frozen=True)
class NetworkReliability:
    """How far the network can be trusted in a split, 0..1.

    `usual` is its median score at labels. `share` is the share of labels of which it is at least
    half as sure: where it often sees nothing, that it sees nothing says little. `scores` are those
    of detections, falling, `about_labels` how many up to each are about a label.
    """

    usual: float
    share: float
    scores: Any
    about_labels: Any

    def precision(self, score: float) -> float:
        """Return the share of detections with at least this score that are about a label."""
        count = int(np.searchsorted(-self.scores, -score, side="right"))
        return float(self.about_labels[count - 1] / count) if count else 0.0


@dataclass
class Evidence:
    """All labels that are judged, all detections, and features of boxes where nothing is."""

    labels: list[LabelEvidence] = field(default_factory=list)
    found: list[DetectionEvidence] = field(default_factory=list)
    backgrounds: list = field(default_factory=list)

    def add(self, view: View) -> None:
        """Add one image."""
        overlaps = ious(view.found_xyxy_px, view.xyxy_px, view.crowds)
        beside = [_beside(view, overlaps, index) for index in range(len(view.label_ids))]
        self.labels += _labels(view, overlaps, beside)
        for at, most in enumerate(overlaps.max(1, initial=0.0)):
            # What is about a label that is drawn badly is not free, however little it overlaps it.
            free = bool(most < FREE_IOU and at not in beside)
            edges, score = _corners(view.found_xyxy_px[at]), float(view.found_scores[at])
            self.found.append(DetectionEvidence(view.split, view.file_name, int(view.found_ids[at]),
                                                edges, score, float(most), free))
        self.backgrounds += list(view.background_features)

    def network(self, split: str) -> NetworkReliability:
        """Return how well the network knows a split; it is surer of labels it has trained on."""
        own = np.array([label.own for label in self.labels if label.split == split] or [USUAL])
        usual = float(np.median(own))
        found = [row for row in self.found if row.split == split]
        found.sort(key=lambda row: -row.score)
        return NetworkReliability(
            max(0.01, usual), float((own >= usual / 2).mean()),
            np.array([row.score for row in found]), np.cumsum([not row.free for row in found]))


def _labels(view: View, overlaps: np.ndarray, beside: list[int | None]) -> Iterator[LabelEvidence]:
    """The labels of an image but crowds and classes that the network does not know."""
    at_anchors = ious(view.anchors_xyxy_px, view.xyxy_px)
    for index, (label_id, edges) in enumerate(zip(view.label_ids, view.xyxy_px, strict=True)):
        # A crowd has no edges to judge, and the network no score for a class that it does not know.
        if view.crowds[index] or label_id > view.scores.shape[1]:
            continue
        near = at_anchors[:, index, None] >= AT_LABEL_IOU
        scores = np.where(near, view.scores, 0.0).max(0, initial=0.0)
        placed = float((view.scores[:, label_id - 1] * at_anchors[:, index]).max(initial=0.0))
        at, other = beside[index], ()
        if at is not None:
            other = (float(view.found_scores[at]), float(overlaps[at, index]),
                     _corners(view.found_xyxy_px[at]))
        yield LabelEvidence(view.split, view.file_name, label_id, edges, scores, placed,
                            view.label_features[index], *other)


def _beside(view: View, overlaps: np.ndarray, index: int) -> int | None:
    """The place of the best detection of the label's class that is about this label most."""
    about = overlaps[:, index] >= np.maximum(overlaps.max(1, initial=0.0), BESIDE_IOU)
    scores = np.where(about & (view.found_ids == view.label_ids[index]), view.found_scores, 0.0)
    return int(scores.argmax()) if scores.any() else None


def _corners(edges) -> Corners:
    """Four edges as plain numbers, to a thousandth of a pixel."""
    return tuple(round(float(value), 3) for value in edges)


# The ranking, worst first.

KINDS = ("missing", "class", "box", "extra")
# Chosen on the sets of `benchmarks/label_errors.py`, so that the kinds share the first tenth of the
# list.
MISSING_WEIGHT = 0.8
# A network that is unsure of a class is unsure of the box too: the box is blamed when nothing else
# explains it.
BOX_LAST = 0.9
# A detection that overlaps a label more is no better box for it.
SAME_IOU = 0.8


@dataclass(frozen=True)
class LabelIssue:
    """A label that looks wrong, or a missing one. `suspicion` 0..1 orders them, no probability.

    `label_id`, `box_px`: the label's (None: missing); `suggested_id`, `suggested_px`: what there
    would be instead. `seen` is what the network scores at the place, `usual` what it typically
    scores at labels of the split; `iou` is the overlap of label and suggested box.
    """

    kind: str
    suspicion: float
    split: str
    file_name: str
    label_id: int | None = None
    box_px: Corners | None = None
    suggested_id: int | None = None
    suggested_px: Corners | None = None
    seen: float = 0.0
    usual: float = 0.0
    iou: float = 0.0


def find_label_issues(images: Iterable[View]) -> list[LabelIssue]:
    """Judge all labels that are scored and all detections without a label; the worst come first.

    Crowds, and labels of classes that the network does not know, are not judged; nothing is missing
    inside a crowd.
    """
    evidence = Evidence()
    for view in images:
        evidence.add(view)
    labels, found = evidence.labels, evidence.found
    splits = {row.split for row in [*labels, *found]}
    networks = {split: evidence.network(split) for split in splits}
    issues = [_missing(row, networks[row.split]) for row in found if row.free]
    if labels:
        # Class 0 is the background.
        classes = [label.label_id for label in labels] + [0] * len(evidence.backgrounds)
        scores = leave_one_out_scores([label.features for label in labels] + evidence.backgrounds,
                                      classes)
        weight = reliability(scores, classes)
        issues += [_of_label(label, row, weight, networks[label.split])
                   for label, row in zip(labels, scores, strict=False)]
    return sorted(issues, key=lambda issue: (-issue.suspicion, issue.split, issue.file_name))


def _missing(found: DetectionEvidence, network: NetworkReliability) -> LabelIssue:
    """A detection without a label counts as far as it is sure and as others as sure are right."""
    sure = min(1.0, found.score / network.usual)
    suspicion = MISSING_WEIGHT * sure * network.precision(found.score)
    return LabelIssue("missing", suspicion, found.split, found.file_name,
                      suggested_id=found.class_id, suggested_px=found.xyxy_px, seen=found.score,
                      usual=network.usual, iou=found.iou)


def _of_label(label: LabelEvidence, crop_scores: np.ndarray, weight: float,
              network: NetworkReliability) -> LabelIssue:
    """The doubt that weighs most: another class, nothing there, or a box that fits badly.

    `crop_scores` are those of the crop classifier by class, `weight` is its reliability.
    """
    number, usual = label.label_id, network.usual
    # Each doubt is that of the classifier and that of the network, as far as the first is reliable.
    nothing = 1.0 - min(1.0, float(label.scores.max()) / usual)
    background = _doubt(crop_scores[number], crop_scores[0])
    doubts = {"extra": weight * background + (1 - weight) * nothing,
              "box": _box_doubt(label, network)}
    rivals = {}
    for other in range(1, len(crop_scores)):
        if other != number and other <= len(label.scores):
            score = label.scores[other - 1]
            rivals[other] = (weight * _doubt(crop_scores[number], crop_scores[other])
                             + (1 - weight) * score / (label.own + score + 1e-6))
    rival = max(rivals, key=rivals.get, default=None)
    doubts["class"] = float(rivals.get(rival, 0.0))
    kind = max(doubts, key=lambda name: doubts[name] * (BOX_LAST if name == "box" else 1.0))

    # What there would be instead.
    suggested = {}
    if kind == "class":
        suggested = {"suggested_id": rival}
    elif kind == "box" and label.beside_px and label.beside_iou < SAME_IOU:
        suggested = {"suggested_id": number, "suggested_px": label.beside_px,
                     "iou": label.beside_iou}
    return LabelIssue(kind, doubts[kind], label.split, label.file_name, label_id=number,
                      box_px=label.xyxy_px, usual=usual, seen=label.own, **suggested)


def _doubt(own: float, other: float) -> float:
    """0 when the classifier is sure of the label, 1 when of something else, else between."""
    return min(1.0, max(0.0, (1.0 + float(other) - float(own)) / 2))


def _box_doubt(label: LabelEvidence, network: NetworkReliability) -> float:
    """High when the network is unsure of the label's place, or surer of a place beside it."""
    unsure = (1.0 - min(1.0, label.own / network.usual)) * network.share
    if not label.beside:
        return unsure
    better = (min(1.0, label.beside / network.usual)
              * (1.0 - min(1.0, label.placed / label.beside)))
    return max(unsure, better)

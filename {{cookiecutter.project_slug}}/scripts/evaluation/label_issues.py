"""A linear classifier that judges each example as if it had not been trained on it: ridge
regression, left one out.

Exact and in one go by the hat matrix (Hastie, Tibshirani and Friedman 2009, "The Elements of
Statistical Learning", section 7.10): with h the leverage of an example, its left-out prediction is
(p - h y) / (1 - h).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.dataset import ious
from scripts.evaluation.detections import RecordBox, clipped_xyxy_px, decode_rgb, record_images
from scripts.steps.evaluate import BATCH, batched

STRENGTH = 3.0
"""Of the penalty, a feature: with it 432 features of 60 boxes are no trouble."""


def leave_one_out_scores(features, classes) -> np.ndarray:
    """How well each class fits each example, [n, classes], about 0..1; `features` [n, d], `classes`
    [n] from 0."""
    x = np.asarray(features, np.float64)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    x = np.hstack([x, np.ones((len(x), 1))])
    wanted = np.eye(int(np.max(classes)) + 1)[classes]
    inverse = np.linalg.inv(x.T @ x + STRENGTH * x.shape[1] * np.eye(x.shape[1]))
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)[:, None]
    return (x @ (inverse @ (x.T @ wanted)) - leverage * wanted) / (1.0 - leverage)


def trust(scores: np.ndarray, classes) -> float:
    """How far above chance the classifier is, 0..1: the mean over classes of the share that it gets
    right, rescaled."""
    classes, best = np.asarray(classes), scores.argmax(1)
    rights = [float((best[classes == each] == each).mean()) for each in np.unique(classes)]
    chance = 1.0 / len(rights)
    return max(0.0, (float(np.mean(rights)) - chance) / (1.0 - chance)) if len(rights) > 1 else 0.0


# What the pre-trained backbone makes of the inside of boxes: a witness that has never seen these
# labels.

LEVELS = 2
"""Of the backbone's outputs: the coarsest ones know most about classes."""
MARGIN = 0.08
"""Of a side, added on each side: the surroundings tell what a thing is."""
GROUNDS, TRIES = 3, 60
GROUND_SIDE = (0.1, 0.5)
GROUND_IOU = 0.15


def load_describe(root: Path):
    """A function of (pixels [height, width, 3], boxes xyxy in pixels [n, 4]) that gives features
    float32 [n, d].

    DetectorError without an experiment or the pre-trained weights that it names.
    """
    import tensorflow as tf

    from scripts.evaluation.detector import pretrained_network
    from scripts.training.inputs import normalize_pixels

    network, side_px = pretrained_network(root)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4], tf.float32)])
    def features(pixels, yxyx_norm):
        owners = tf.zeros(tf.shape(yxyx_norm)[:1], tf.int32)
        inside = tf.image.crop_and_resize(tf.cast(pixels, tf.float32)[tf.newaxis], yxyx_norm, owners, [side_px] * 2,
                                          extrapolation_value=127.0)  # fmt: skip
        levels = network.backbone(normalize_pixels(inside), training=False)
        return tf.concat([tf.reduce_mean(levels[name], [1, 2]) for name in sorted(levels, key=int)[-LEVELS:]], -1)

    def describe(pixels, xyxy_px):
        boxes = np.asarray(xyxy_px, np.float64).reshape(-1, 4)
        around = MARGIN * (boxes[:, 2:] - boxes[:, :2])
        edges = np.hstack([boxes[:, :2] - around, boxes[:, 2:] + around])[:, [1, 0, 3, 2]]
        height_px, width_px = pixels.shape[:2]
        return features(pixels, (edges / [height_px, width_px, height_px, width_px]).astype(np.float32)).numpy()

    return describe


def grounds(name: str, size_px: tuple[int, int], labeled, found) -> np.ndarray:
    """Up to `GROUNDS` boxes xyxy in pixels [n, 4] where neither a label nor a detection is; the
    same for one name."""
    dice, boxes = np.random.default_rng(zlib.crc32(name.encode())), []
    taken = np.concatenate([np.asarray(each, np.float64).reshape(-1, 4) for each in (labeled, found)])
    for _ in range(TRIES):
        sides = dice.uniform(*GROUND_SIDE, 2) * size_px
        corner = dice.uniform(0, np.asarray(size_px) - sides)
        box = np.concatenate([corner, corner + sides])
        if ious([box], taken).max(initial=0.0) < GROUND_IOU:
            boxes.append(box)
        if len(boxes) == GROUNDS:
            break
    return np.asarray(boxes).reshape(-1, 4)


# What a checkpoint sees in labeled images, and what a witness says of the inside of boxes.

LOWEST_SCORE = 0.05
"""Detections below it say nothing about labels."""


@dataclass(frozen=True)
class View:
    """One image. Boxes are xmin, ymin, xmax, ymax in pixels of it, float [n, 4], cut at its edges.

    `anchors_xyxy_px` with `scores` [n, classes] 0..1 are where the network looked, `found_xyxy_px`
    [m, 4], `found_ids` [m] and `found_scores` [m] what is left of them after suppression, best
    first. Class i is label map id i + 1; `found_ids` are those of the label map. `label_features`
    [labels, d] and `ground_features` [g, d] describe the inside of the labels and of boxes where
    nothing is (see `crops.py`).
    """

    split: str
    file_name: str
    width_px: int
    height_px: int
    labels: tuple[RecordBox, ...]
    anchors_xyxy_px: Any
    scores: Any
    found_xyxy_px: Any
    found_ids: Any
    found_scores: Any
    label_features: Any
    ground_features: Any


def views(root: Path, model, describe: Callable, splits: tuple[str, ...]) -> Iterator[View]:
    """The images of `splits` in the order of their records, for a `TrainedModel` and the witness of
    `crops.py`."""
    import tensorflow as tf

    from scripts.evaluation.detector import stretch

    look = tf.function(lambda pixels: model.look(pixels, LOWEST_SCORE))
    for split in splits:
        for images in batched(record_images(root, split), BATCH):
            decoded = [decode_rgb(image.encoded) for image in images]
            seen = look(tf.stack([stretch(pixels, model.input_px) for pixels in decoded]))
            for image, pixels, *parts in zip(images, decoded, *(part.numpy() for part in seen), strict=True):
                yield _view(split, image, pixels, describe, *parts)


def _view(split: str, image, pixels, describe: Callable, anchors, scores, boxes, ids, found_scores, count) -> View:
    size_px = (image.width_px, image.height_px)
    found_px = clipped_xyxy_px(boxes[:count], *size_px)
    labeled_px = np.array([box.xyxy_px for box in image.boxes]).reshape(-1, 4)
    grounds_px = grounds(image.file_name, size_px, labeled_px, found_px)
    features = describe(pixels, np.concatenate([labeled_px, grounds_px]))
    return View(split, image.file_name, *size_px, image.boxes, clipped_xyxy_px(anchors, *size_px), scores,
                found_px, ids[:count].astype(int) + 1, found_scores[:count],
                features[:len(labeled_px)], features[len(labeled_px):])  # fmt: skip


# What the trained network says at each label and beside it: a few numbers of every image.

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
    """Of one label: `scores` [classes] 0..1 of the network at its place; `placed` is the best score
    of its class times the overlap of the anchor that has it; the best detection beside it;
    `features` [d] of what is inside."""

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
    """A detection; `iou` is its overlap with the label that it overlaps most. `free`: it is about
    no label."""

    split: str
    file_name: str
    found_id: int
    xyxy_px: Corners
    score: float
    iou: float
    free: bool


@dataclass(frozen=True)
class Network:
    """What the trained network is worth in a split, 0..1: its `usual` score at labels (the median);
    the `share` of labels of which it is at least half as sure, since where it often sees nothing
    that says little; the scores of detections, falling, and how many of them up to each are about a
    label."""

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
        """Note one image. Crowds, and labels of classes that the network does not know, are not
        judged."""
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
    """Detections; those about a label that is drawn badly are not free, however little they overlap
    it."""
    for at, most in enumerate(overlaps.max(1, initial=0.0)):
        yield Found(view.split, view.file_name, int(view.found_ids[at]), _corners(view.found_xyxy_px[at]),
                    float(view.found_scores[at]), float(most), bool(most < FREE_IOU and at not in beside))  # fmt: skip


def _labels(view: View, overlaps: np.ndarray, beside: list[int | None]) -> Iterator[LabelFacts]:
    """`overlaps` are those of the image's detections with its labels, `beside` is `_beside` of each
    label."""
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
    """The place of the best detection of the label's class that is about this label more than
    another."""
    mine = overlaps[:, index] >= np.maximum(overlaps.max(1, initial=0.0), BESIDE_IOU)
    scores = np.where(mine & (view.found_ids == view.labels[index].label_id), view.found_scores, 0.0)
    return int(scores.argmax()) if scores.any() else None


def _corners(edges) -> Corners:
    """Four edges as plain numbers, to a thousandth of a pixel."""
    return tuple(round(float(value), 3) for value in edges)


# Which labels look wrong, worst first: what the trained network and an independent witness say of
# each.

KINDS = ("missing", "class", "box", "extra")
MISSING_WEIGHT = 0.8
"""Chosen on the sets of `benchmarks/label_errors.py`, so that the kinds share the first tenth of
the list."""
BOX_LAST = 0.9
SAME_IOU = 0.8
"""A detection that overlaps a label more is no better box for it."""


@dataclass(frozen=True)
class Suspect:
    """A label that looks wrong, or a missing one. `suspicion` 0..1 orders them and is no
    probability.

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


def suspects(images: Iterable[View]) -> list[Suspect]:
    """All labels that are scored and all detections without a label, the most suspicious first.

    Labels of classes that the network does not know, and crowds, are left out; nothing is missing
    inside a crowd.
    """
    seen = Seen()
    for view in images:
        seen.add(view)
    knows = {split: seen.network(split) for split in {one.split for one in [*seen.labels, *seen.found]}}
    found = [_missing(one, knows[one.split]) for one in seen.found if one.free]
    for one, witness, weight in _heard(seen):
        found.append(_of_label(one, witness, weight, knows[one.split]))
    return sorted(found, key=lambda one: (-one.suspicion, one.split, one.file_name))


def _heard(seen: Seen) -> Iterator[tuple[LabelFacts, np.ndarray, float]]:
    """Each label with the scores of the witness, [background, class 1, class 2, ...], and the
    weight of its word."""
    if not seen.labels:
        return
    classes = [one.label.label_id for one in seen.labels] + [0] * len(seen.grounds)
    scores = leave_one_out_scores([one.features for one in seen.labels] + seen.grounds, classes)
    weight = trust(scores, classes)
    for one, row in zip(seen.labels, scores, strict=False):
        yield one, row, weight


def _missing(one: Found, network: Network) -> Suspect:
    """A detection without a label is as suspicious as it is sure, and as others as sure are right.
    """
    suspicion = MISSING_WEIGHT * min(1.0, one.score / network.usual) * network.precision(one.score)
    return Suspect("missing", suspicion, one.split, one.file_name, suggested_id=one.found_id,
                   suggested_px=one.xyxy_px, seen=one.score, usual=network.usual, iou=one.iou)  # fmt: skip


def _of_label(one: LabelFacts, witness: np.ndarray, weight: float, network: Network) -> Suspect:
    """The doubt that weighs most: another class, nothing there, or a box that fits badly."""
    number, usual = one.label.label_id, network.usual
    doubts = {"extra": weight * _doubt(witness[number], witness[0])
              + (1 - weight) * (1.0 - min(1.0, float(one.scores.max()) / usual)), "box": _box_doubt(one, network)}
    rivals = {each: weight * _doubt(witness[number], witness[each])
              + (1 - weight) * one.scores[each - 1] / (one.own + one.scores[each - 1] + 1e-6)
              for each in range(1, len(witness)) if each != number and each <= len(one.scores)}
    rival = max(rivals, key=rivals.get, default=None)
    doubts["class"] = float(rivals.get(rival, 0.0))
    # A network that is unsure of a class is unsure of the box too: the box is blamed when nothing
    # else explains it.
    kind = max(doubts, key=lambda each: doubts[each] * (BOX_LAST if each == "box" else 1.0))
    label = {"label_id": number, "box_px": one.label.xyxy_px, "usual": usual}
    where = (one.split, one.file_name)
    if kind == "class":
        return Suspect(kind, doubts[kind], *where, **label, suggested_id=rival, seen=one.own)
    if kind == "box" and one.beside_px and one.beside_iou < SAME_IOU:
        better = {"suggested_id": number, "suggested_px": one.beside_px, "iou": one.beside_iou}
        return Suspect(kind, doubts[kind], *where, **label, **better, seen=one.own)
    return Suspect(kind, doubts[kind], *where, **label, seen=one.own)


def _doubt(own: float, other: float) -> float:
    """0 when the witness is sure of the label, 1 when it is sure of something else, a half when it
    cannot tell."""
    return min(1.0, max(0.0, (1.0 + float(other) - float(own)) / 2))


def _box_doubt(one: LabelFacts, network: Network) -> float:
    """High when the network is less sure of the label's place than of labels otherwise, or surer of
    a place beside."""
    unsure = (1.0 - min(1.0, one.own / network.usual)) * network.share
    better = min(1.0, one.beside / network.usual) * (1.0 - min(1.0, one.placed / one.beside)) if one.beside else 0.0
    return max(unsure, better)

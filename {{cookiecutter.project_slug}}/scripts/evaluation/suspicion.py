"""Which labels look wrong, worst first: what the trained network and an independent witness say of each.

After confident learning (Northcutt, Jiang and Chuang 2021) and its form for boxes (Tkachenko, Thyagarajan and Mueller
2023, "ObjectLab"). The trained network has learned wrong training labels by heart, so that the class of a label is
judged by a witness who has not: a linear classifier on features of the pre-trained backbone, which leaves out the
label that it judges. Its word counts as much as it is right about the others, the network's for the rest. Whether a
box fits, and whether one is missing, only the network can say.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scripts.evaluation.groundtruth import RecordBox
from scripts.evaluation.left_out import left_out_scores, trust
from scripts.evaluation.overlap import ious
from scripts.evaluation.views import View

KINDS = ("missing", "class", "box", "extra")
AT_LABEL_IOU = 0.5
"""An anchor with this overlap speaks about the label."""
BESIDE_IOU = (0.1, 0.8)
"""A detection that overlaps a label so much may be the same object, drawn better."""
FREE_IOU = 0.4
"""A detection that overlaps every label less is an object of its own."""
MISSING_WEIGHT, BOX_WEIGHT = 0.8, 0.9
"""Set on the fruit photographs of `benchmarks/label_errors.py`: the kinds share the first tenth of the list."""
USUAL = 0.5
"""Taken for the typical score of a label where a split has none."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Suspect:
    """A label that looks wrong, or a missing one. `suspicion` 0..1 orders them and is no probability.

    `label_id`, `box_px`: the label's (None: missing); `suggested_id`, `suggested_px`: what there would be instead.
    `seen` is what the network scores at the place, `usual` what it typically scores at labels of the split; `iou` is
    the overlap of label and suggested box.
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


@dataclass(frozen=True)
class _Facts:
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
class _Network:
    """What the trained network is worth in a split, 0..1: its `usual` score at labels (the median); the `share` of
    labels of which it is at least half as sure, since where it often sees nothing that says little; the scores of
    detections, falling, and how many of them up to each lie on a label."""

    usual: float
    share: float
    found_scores: Any
    on_label: Any

    def precision(self, score: float) -> float:
        """The share of detections with at least this score that lie on a label."""
        count = int((self.found_scores >= score).sum())
        return float(self.on_label[count - 1] / count) if count else 0.0


@dataclass
class _Seen:
    """What is kept of the pictures, of which there may be many: a few numbers a box."""

    facts: list[_Facts] = field(default_factory=list)
    missing: list[Suspect] = field(default_factory=list)
    on_label: list[tuple[str, float]] = field(default_factory=list)
    grounds: list = field(default_factory=list)


def suspects(pictures: Iterable[View]) -> list[Suspect]:
    """All labels that are scored and all detections without a label, the most suspicious first.

    Labels of classes that the network does not know, and crowds, are left out; nothing is missing inside a crowd.
    """
    seen = _Seen()
    for view in pictures:
        crowds = [label.crowd for label in view.labels]
        overlaps = ious(view.found_xyxy_px, [label.xyxy_px for label in view.labels], crowds)
        beside = [_beside(view, overlaps, index) for index in range(len(view.labels))]
        seen.facts += _label_facts(view, overlaps, beside)
        seen.missing += _free(view, overlaps, set(beside))
        seen.on_label += [(view.split, float(score)) for score, most in
                          zip(view.found_scores, overlaps.max(1, initial=0.0), strict=True) if most >= FREE_IOU]
        seen.grounds += list(view.ground_features)
    knows = _network(seen)
    found = [_with_suspicion(one, knows[one.split]) for one in seen.missing]
    for one, witness, weight in _heard(seen):
        found.append(_of_label(one, witness, weight, knows[one.split]))
    return sorted(found, key=lambda one: (-one.suspicion, one.split, one.file_name))


def _network(seen: _Seen) -> dict[str, _Network]:
    """How well the network knows the labels of each split; it is surer of those that it has trained on."""
    found = {}
    for split in {one.split for one in [*seen.facts, *seen.missing]}:
        own = np.array([one.own for one in seen.facts if one.split == split] or [USUAL])
        rows = [(score, 1) for of, score in seen.on_label if of == split]
        rows += [(one.seen, 0) for one in seen.missing if one.split == split]
        rows.sort(reverse=True)
        scores, hits = np.array(rows or [(0.0, 0)]).T
        found[split] = _Network(max(0.01, float(np.median(own))), float((own >= np.median(own) / 2).mean()), scores,
                                hits.cumsum())  # fmt: skip
    return found


def _heard(seen: _Seen) -> Iterator[tuple[_Facts, np.ndarray, float]]:
    """Each label with the scores of the witness, [background, class 1, class 2, ...], and the weight of its word."""
    if not seen.facts:
        return
    classes = [one.label.label_id for one in seen.facts] + [0] * len(seen.grounds)
    scores = left_out_scores([one.features for one in seen.facts] + seen.grounds, classes)
    weight = trust(scores, classes)
    for one, row in zip(seen.facts, scores, strict=False):
        yield one, row, weight


def _free(view: View, overlaps: np.ndarray, beside: set[int | None]) -> Iterator[Suspect]:
    """Detections that are about no label, also not about one that is drawn badly."""
    for at, most in enumerate(overlaps.max(1, initial=0.0)):
        if most < FREE_IOU and at not in beside:
            yield Suspect("missing", 0.0, view.split, view.file_name, suggested_id=int(view.found_ids[at]),
                          suggested_px=corners(view.found_xyxy_px[at]), seen=float(view.found_scores[at]),
                          iou=float(most))  # fmt: skip


def _label_facts(view: View, overlaps: np.ndarray, beside: list[int | None]) -> Iterator[_Facts]:
    """`overlaps` are those of the picture's detections with its labels, `beside` is `_beside` of each label."""
    at_anchors = ious(view.anchors_xyxy_px, [label.xyxy_px for label in view.labels])
    for index, label in enumerate(view.labels):
        if label.crowd or label.label_id > view.scores.shape[1]:
            continue
        near = np.where(at_anchors[:, index, None] >= AT_LABEL_IOU, view.scores, 0.0).max(0, initial=0.0)
        placed = float((view.scores[:, label.label_id - 1] * at_anchors[:, index]).max(initial=0.0))
        at = beside[index]
        other = () if at is None else (
            float(view.found_scores[at]), float(overlaps[at, index]), corners(view.found_xyxy_px[at]))  # fmt: skip
        yield _Facts(view.split, view.file_name, label, near, placed, view.label_features[index], *other)


def _beside(view: View, overlaps: np.ndarray, index: int) -> int | None:
    """The place of the best detection of the label's class that is about this label more than another."""
    mine = overlaps[:, index] >= np.maximum(overlaps.max(1, initial=0.0), BESIDE_IOU[0])
    scores = np.where(mine & (view.found_ids == view.labels[index].label_id), view.found_scores, 0.0)
    return int(scores.argmax()) if scores.any() else None


def corners(edges) -> Corners:
    """Four edges as plain numbers, to a thousandth of a pixel."""
    return tuple(round(float(value), 3) for value in edges)


def _with_suspicion(one: Suspect, network: _Network) -> Suspect:
    """A detection without a label is as suspicious as it is sure, and as others as sure are right."""
    suspicion = MISSING_WEIGHT * min(1.0, one.seen / network.usual) * network.precision(one.seen)
    return replace(one, suspicion=suspicion, usual=network.usual)


def _of_label(one: _Facts, witness: np.ndarray, weight: float, network: _Network) -> Suspect:
    """The doubt that weighs most: another class, nothing there, or a box that fits badly."""
    number, usual = one.label.label_id, network.usual
    doubts = {"extra": weight * _doubt(witness[number], witness[0])
              + (1 - weight) * (1.0 - min(1.0, float(one.scores.max()) / usual)), "box": _box_doubt(one, network)}
    rivals = {each: weight * _doubt(witness[number], witness[each])
              + (1 - weight) * one.scores[each - 1] / (one.own + one.scores[each - 1] + 1e-6)
              for each in range(1, len(witness)) if each != number and each <= len(one.scores)}
    rival = max(rivals, key=rivals.get, default=None)
    doubts["class"] = float(rivals.get(rival, 0.0))
    kind = max(doubts, key=doubts.get)
    label = {"label_id": number, "box_px": one.label.xyxy_px, "usual": usual}
    where = (one.split, one.file_name)
    if kind == "class":
        return Suspect(kind, doubts[kind], *where, **label, suggested_id=rival, seen=one.own)
    if kind == "box" and one.beside_px and one.beside_iou < BESIDE_IOU[1]:
        better = {"suggested_id": number, "suggested_px": one.beside_px, "iou": one.beside_iou}
        return Suspect(kind, doubts[kind], *where, **label, **better, seen=one.own)
    return Suspect(kind, doubts[kind], *where, **label, seen=one.own)


def _doubt(own: float, other: float) -> float:
    """0 when the witness is sure of the label, 1 when it is sure of something else, a half when it cannot tell."""
    return min(1.0, max(0.0, (1.0 + float(other) - float(own)) / 2))


def _box_doubt(one: _Facts, network: _Network) -> float:
    """High when the network is less sure of the label's place than of labels otherwise, or surer of a place beside."""
    unsure = (1.0 - min(1.0, one.own / network.usual)) * network.share
    better = min(1.0, one.beside / network.usual) * (1.0 - min(1.0, one.placed / one.beside)) if one.beside else 0.0
    return BOX_WEIGHT * max(unsure, better)

"""Which labels look wrong, worst first: what the trained network and an independent witness say of each.

After confident learning (Northcutt, Jiang and Chuang 2021) and its form for boxes (Tkachenko, Thyagarajan and Mueller
2023, "ObjectLab"). The trained network has learned wrong training labels by heart, so that the class of a label is
judged by a witness who has not: a linear classifier on features of the pre-trained backbone, which leaves out the
label that it judges. Its word counts as much as it is right about the others, the network's for the rest. Whether a
box fits, and whether one is missing, only the network can say.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from scripts.evaluation.label_facts import Corners, Found, LabelFacts, Network, Seen
from scripts.evaluation.left_out import left_out_scores, trust
from scripts.evaluation.views import View

KINDS = ("missing", "class", "box", "extra")
MISSING_WEIGHT = 0.8
"""Chosen on the sets of `benchmarks/label_errors.py`, so that the kinds share the first tenth of the list."""
BOX_LAST = 0.9
SAME_IOU = 0.8
"""A detection that overlaps a label more is no better box for it."""


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


def suspects(pictures: Iterable[View]) -> list[Suspect]:
    """All labels that are scored and all detections without a label, the most suspicious first.

    Labels of classes that the network does not know, and crowds, are left out; nothing is missing inside a crowd.
    """
    seen = Seen()
    for view in pictures:
        seen.add(view)
    knows = {split: seen.network(split) for split in {one.split for one in [*seen.labels, *seen.found]}}
    found = [_missing(one, knows[one.split]) for one in seen.found if one.free]
    for one, witness, weight in _heard(seen):
        found.append(_of_label(one, witness, weight, knows[one.split]))
    return sorted(found, key=lambda one: (-one.suspicion, one.split, one.file_name))


def _heard(seen: Seen) -> Iterator[tuple[LabelFacts, np.ndarray, float]]:
    """Each label with the scores of the witness, [background, class 1, class 2, ...], and the weight of its word."""
    if not seen.labels:
        return
    classes = [one.label.label_id for one in seen.labels] + [0] * len(seen.grounds)
    scores = left_out_scores([one.features for one in seen.labels] + seen.grounds, classes)
    weight = trust(scores, classes)
    for one, row in zip(seen.labels, scores, strict=False):
        yield one, row, weight


def _missing(one: Found, network: Network) -> Suspect:
    """A detection without a label is as suspicious as it is sure, and as others as sure are right."""
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
    # A network that is unsure of a class is unsure of the box too: the box is blamed when nothing else explains it.
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
    """0 when the witness is sure of the label, 1 when it is sure of something else, a half when it cannot tell."""
    return min(1.0, max(0.0, (1.0 + float(other) - float(own)) / 2))


def _box_doubt(one: LabelFacts, network: Network) -> float:
    """High when the network is less sure of the label's place than of labels otherwise, or surer of a place beside."""
    unsure = (1.0 - min(1.0, one.own / network.usual)) * network.share
    better = min(1.0, one.beside / network.usual) * (1.0 - min(1.0, one.placed / one.beside)) if one.beside else 0.0
    return max(unsure, better)

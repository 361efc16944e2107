"""Which labels look wrong to a detector that was trained on them, worst first.

After the idea of confident learning (Northcutt, Jiang and Chuang 2021) and its form for boxes (Tkachenko, Thyagarajan
and Mueller 2023, "ObjectLab"): what the network says of the very place of a label, beside what it usually says of
labels in that split. It has seen the training labels, wrong ones too, so that it is surer there than on others.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.evaluation.groundtruth import RecordBox
from scripts.evaluation.views import View

KINDS = ("missing", "class", "box", "extra")
AT_LABEL_IOU = 0.5
"""An anchor with this overlap speaks about the label."""
BESIDE_IOU = (0.1, 0.8)
"""A detection that overlaps a label so much may be the same object, drawn better."""
FREE_IOU = 0.3
"""A detection that overlaps every label less is an object of its own."""

USUAL = 0.5
"""Taken for the typical score of a label where a split has none."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Suspect:
    """A label that looks wrong, or a missing one. `suspicion` 0..1 orders them and is no probability.

    `label_id`, `box_px`: the label's (None: missing); `suggested_id`, `suggested_px`: what the network would have
    there. `seen` is the score that speaks against the label, `own` the one for it, `usual` the split's typical one.
    """

    kind: str
    suspicion: float
    split: str
    file_name: str
    label_id: int | None
    box_px: Corners | None
    suggested_id: int | None
    suggested_px: Corners | None
    seen: float
    own: float
    usual: float
    iou: float


@dataclass(frozen=True)
class _Facts:
    """Of one label: scores 0..1 of its class and of the best other one at its place; the best detection beside it.

    `placed` is the best score of its class times the overlap of the anchor that has it.
    """

    split: str
    file_name: str
    label: RecordBox
    own: float
    placed: float
    other: float
    other_id: int | None
    beside: float = 0.0
    beside_iou: float = 0.0
    beside_px: Corners | None = None


@dataclass(frozen=True)
class _Free:
    """A detection that overlaps no label by more than `iou`."""

    split: str
    file_name: str
    found_id: int
    xyxy_px: Corners
    score: float
    iou: float


def suspects(pictures: Iterable[View]) -> list[Suspect]:
    """All labels that are scored and all detections without a label, the most suspicious first.

    Labels of classes that the network does not know, and crowds, are left out; nothing is missing inside a crowd.
    Of the pictures, which may be many, only a few numbers a box are kept.
    """
    facts, free = [], []
    for view in pictures:
        overlaps = ious(view.found_xyxy_px, view.labels)
        facts += _label_facts(view, overlaps)
        free += _free(view, overlaps)
    usual = {split: max(0.01, float(np.median([one.own for one in facts if one.split == split] or [USUAL])))
             for split in {one.split for one in facts + free}}  # fmt: skip
    found = [_of_label(one, usual[one.split]) for one in facts] + [_missing(one, usual[one.split]) for one in free]
    return sorted(found, key=lambda one: (-one.suspicion, one.split, one.file_name))


def ious(xyxy_px, labels: Sequence[RecordBox]) -> np.ndarray:
    """IoU [n, labels] of boxes with labels; with a crowd it is the share of the box inside it, as in COCO."""
    from pycocotools.mask import iou

    if not len(xyxy_px) or not labels:
        return np.zeros((len(xyxy_px), len(labels)))
    both = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (xyxy_px, [each.xyxy_px for each in labels]))
    # pycocotools reads the memory as it lies, whatever its order: columns first would give other boxes.
    one, other = (np.ascontiguousarray(np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])) for boxes in both)
    return iou(one, other, [int(label.crowd) for label in labels])


def _free(view: View, overlaps: np.ndarray) -> Iterator[_Free]:
    for at, most in enumerate(overlaps.max(1, initial=0.0)):
        if most < FREE_IOU:
            yield _Free(view.split, view.file_name, int(view.found_ids[at]), corners(view.found_xyxy_px[at]),
                        float(view.found_scores[at]), float(most))  # fmt: skip


def _label_facts(view: View, overlaps: np.ndarray) -> Iterator[_Facts]:
    """`overlaps` are those of the picture's detections with its labels."""
    at_anchors = ious(view.anchors_xyxy_px, view.labels)
    classes = view.scores.shape[1]
    for index, label in enumerate(view.labels):
        if label.crowd or label.label_id > classes:
            continue
        near = np.where(at_anchors[:, index, None] >= AT_LABEL_IOU, view.scores, 0.0).max(0, initial=0.0)
        own = float(near[label.label_id - 1])
        placed = float((view.scores[:, label.label_id - 1] * at_anchors[:, index]).max(initial=0.0))
        near[label.label_id - 1] = 0.0
        other_id = int(near.argmax()) + 1 if classes > 1 else None
        yield _Facts(view.split, view.file_name, label, own, placed, float(near.max()), other_id,
                     *_beside(view, overlaps, index))  # fmt: skip


def _beside(view: View, overlaps: np.ndarray, index: int) -> tuple:
    """Score, IoU and box of the best detection of the label's class that is about this label more than another."""
    mine = overlaps[:, index] >= np.maximum(overlaps.max(1, initial=0.0), BESIDE_IOU[0])
    scores = np.where(mine & (view.found_ids == view.labels[index].label_id), view.found_scores, 0.0)
    if not scores.any():
        return ()
    at = int(scores.argmax())
    return float(scores[at]), float(overlaps[at, index]), corners(view.found_xyxy_px[at])


def corners(edges) -> Corners:
    """Four edges as plain numbers, to a thousandth of a pixel."""
    return tuple(round(float(value), 3) for value in edges)


def _of_label(one: _Facts, usual: float) -> Suspect:
    doubts = {
        "class": min(1.0, (one.own + one.other) / usual) ** 0.5 * 1.3 * one.other / (one.own + one.other + 1e-6),
        "extra": 1.0 - min(1.0, max(one.own, one.other) / usual),
        "box": min(1.0, one.beside / usual) * (1.0 - min(1.0, one.placed / one.beside))
        if one.beside and one.beside_iou < BESIDE_IOU[1] else 0.0,
    }  # fmt: skip
    kind = max(doubts, key=doubts.get)
    suggested_id, suggested_px, seen = {
        "class": (one.other_id, None, one.other),
        "extra": (None, None, max(one.own, one.other)),
        "box": (one.label.label_id, one.beside_px, one.beside),
    }[kind]
    return Suspect(kind, min(1.0, doubts[kind]), one.split, one.file_name, one.label.label_id, one.label.xyxy_px,
                   suggested_id, suggested_px, seen, one.own, usual, one.beside_iou)


def _missing(one: _Free, usual: float) -> Suspect:
    return Suspect("missing", min(1.0, one.score / usual), one.split, one.file_name, None, None, one.found_id,
                   one.xyxy_px, one.score, 0.0, usual, one.iou)

"""Label errors put into `images/` of a project on purpose: classes changed, boxes moved, dropped
and added."""

import random
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tools.bake import TEMPLATE

sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))

from scripts.data.dataset import Box
from scripts.data.formats.voc import read_voc, voc_xml
from scripts.data.manifest import stored_images

KINDS = ("class", "box", "missing", "extra")
"""As `invoke suspects` names them: another class, a moved and scaled box, a box dropped, one added.
"""
MOVED_IOU = (0.3, 0.6)
FREE_IOU = 0.1
TRIES = 1000

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Corruption:
    """One error: `file` is `images/SPLIT/NAME`, `box_px` the label's box (the dropped one's where
    none is left)."""

    kind: str
    file: str
    class_name: str
    box_px: Corners
    true_class: str | None
    true_box_px: Corners | None


def corrupt(project: Path, share: float, seed: int) -> list[dict]:
    """Corrupts `share` of the boxes, as many of each kind, and gives what was done. One error a box
    at most.

    A set of one class has no changed classes. Boxes are moved and scaled until their IoU with the
    true one lies within `MOVED_IOU`; added ones have the size of some box of the set and lie where
    no box is.
    """
    dice = random.Random(seed)
    labels = {key: read_voc(path.with_suffix(".xml"))
              for key, path in stored_images(project / "images").items()}
    boxes = {key: list(label.boxes) for key, label in labels.items()}
    places = [(key, index) for key, label in labels.items() for index in range(len(label.boxes))]
    classes = sorted({box.class_name for label in labels.values() for box in label.boxes})
    kinds = [kind for kind in KINDS if kind != "class" or len(classes) > 1]
    each = round(share * len(places) / len(kinds))
    chosen, done = dice.sample(places, each * len(kinds)), []
    for number, (key, index) in enumerate(chosen):
        size = (labels[key].width_px, labels[key].height_px)
        kind, old = kinds[number % len(kinds)], labels[key].boxes[index]
        new = _changed(kind, old, [box for box in boxes[key] if box], size, labels, classes, dice)
        if kind == "extra":
            boxes[key].append(new)
            done.append(Corruption(kind, f"images/{key}", new.class_name, new.xyxy_px, None, None))
        else:
            boxes[key][index] = new
            seen = new or old
            done.append(Corruption(
                kind, f"images/{key}", seen.class_name, seen.xyxy_px, old.class_name, old.xyxy_px))
    for key, path in stored_images(project / "images").items():
        if key in {each.file.removeprefix("images/") for each in done}:
            kept = tuple(box for box in boxes[key] if box)
            data = voc_xml(
                path.parent.name, path.name, labels[key].width_px, labels[key].height_px, kept)
            path.with_suffix(".xml").write_bytes(data)
    print("corrupted:", dict(Counter(each.kind for each in done)), "of", len(places), "boxes",
          flush=True)
    return [asdict(each) for each in done]


def _changed(kind, old, others, size, labels, classes, dice) -> Box | None:
    if kind == "missing":
        return None
    if kind == "class":
        return replace(
            old, class_name=dice.choice([name for name in classes if name != old.class_name]))
    if kind == "box":
        return replace(old, xyxy_px=_moved(old.xyxy_px, size, dice))
    return Box(dice.choice(classes), _added(others, size, labels, dice))


def _moved(box: Corners, size: tuple[int, int], dice) -> Corners:
    wide, high = box[2] - box[0], box[3] - box[1]
    for _ in range(TRIES):
        grown = [side * dice.uniform(0.6, 1.5) for side in (wide, high)]
        middle = [(box[at] + box[at + 2]) / 2 + dice.uniform(-0.5, 0.5) * side
                  for at, side in ((0, wide), (1, high))]
        new = inside((middle[0] - grown[0] / 2, middle[1] - grown[1] / 2,
                      middle[0] + grown[0] / 2, middle[1] + grown[1] / 2), size)
        if MOVED_IOU[0] <= iou(new, box) <= MOVED_IOU[1]:
            return new
    raise ValueError(f"no moved box found for {box} in {size}")


def _added(others: list[Box], size: tuple[int, int], labels, dice) -> Corners:
    """A place for the size (as a share of its image) of some box, smaller and smaller while none is
    free."""
    for number in range(TRIES):
        label = dice.choice([label for label in labels.values() if label.boxes])
        xmin, ymin, xmax, ymax = dice.choice(label.boxes).xyxy_px
        shrink = 1 - 0.9 * number / TRIES
        wide = (xmax - xmin) / label.width_px * size[0] * shrink
        high = (ymax - ymin) / label.height_px * size[1] * shrink
        left, top = dice.uniform(0, max(0, size[0] - wide)), dice.uniform(0, max(0, size[1] - high))
        new = inside((left, top, left + wide, top + high), size)
        if min(new[2] - new[0], new[3] - new[1]) >= 8 and all(
            iou(new, box.xyxy_px) <= FREE_IOU for box in others):
            return new
    raise ValueError(f"no free place in {size}")


def inside(box: Corners, size: tuple[int, int]) -> Corners:
    """The box in whole pixels, cut to an image of this width and height."""
    return tuple(
        float(round(min(max(value, 0), side))) for value, side in zip(box, size * 2, strict=True))


def iou(one: Corners, other: Corners) -> float:
    """Intersection over union of two boxes of some area."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return wide * high / (sum(areas) - wide * high)

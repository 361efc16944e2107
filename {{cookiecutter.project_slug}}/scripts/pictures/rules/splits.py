"""Rules about the three splits: pictures that stand in two of them, classes that a split lacks."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from scripts.pictures.findings import Finding, finding
from scripts.pictures.rules.boxes import numbered_boxes
from scripts.pictures.source import same_name
from scripts.pictures.split import SPLITS
from scripts.pictures.stored import Stored


def split_findings(pictures: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Equal pictures in two splits, two pictures of one name, and classes without boxes in a split."""
    by_content, by_name = defaultdict(list), defaultdict(list)
    boxes = {split: Counter() for split in SPLITS}
    for stored in pictures:
        by_content[stored.facts.sha256].append(stored)
        by_name[stored.split, same_name(stored.path.stem)].append(stored)
        boxes[stored.split].update(box.class_name for box, _ in numbered_boxes(stored) if box.class_name)
    for sha256, twins in by_content.items():
        for twin in twins[1:] if sha256 else []:
            text = f"{twin.split}/{twin.path.name} is the same picture as {twins[0].split}/{twins[0].path.name}"
            code = "W112" if twin.split == twins[0].split else "E011"
            yield finding(code, twin.shown, text, picture=twin.path.name)
    for (split, _), same in by_name.items():
        if len(same) > 1:
            names = ", ".join(stored.path.name for stored in same)
            yield finding("E020", same[1].shown, f"one name in images/{split}: {names}", picture=same[1].path.name)
    yield from _empty_classes(boxes, labels)


def _empty_classes(boxes: dict[str, Counter], labels: list[str]) -> Iterator[Finding]:
    for name in labels or sorted(set().union(*boxes.values())):
        if all(boxes[split][name] for split in SPLITS):
            continue
        table = ", ".join(f"{split} {boxes[split][name]}" for split in SPLITS)
        yield finding("E002", "images", f"boxes of '{name}': {table}", class_name=name)

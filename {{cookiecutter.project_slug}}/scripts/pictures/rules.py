"""The rules of `check`: each looks at pictures of `images/` and yields findings."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from scripts.pictures.dataset import Box
from scripts.pictures.findings import Finding, finding
from scripts.pictures.source import same_name
from scripts.pictures.split import SPLITS
from scripts.pictures.stored import Stored
from scripts.pictures.formats.voc import format_number

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def picture_findings(stored: Stored) -> Iterator[Finding]:
    """What is wrong with a picture file and its label file as such."""
    facts, name = stored.facts, stored.path.name
    if facts.error:
        yield finding("E010", stored.shown, f"'{name}': {facts.error}", picture=name)
    elif facts.source_format.lower() not in ("jpeg", "mpo", "png"):
        text = f"'{name}' is {facts.source_format}, which training does not read"
        yield finding("E022", stored.shown, text, picture=name)
    elif facts.orientation != 1:
        yield finding("E007", stored.shown, f"EXIF orientation {facts.orientation}", picture=name)
    if stored.label_error:
        text = f"'{stored.path.stem}.xml': {stored.label_error}"
        yield finding("E019", stored.label_shown, text, stored.label_error_line, picture=name)
    elif stored.label is None:
        yield finding("E012", stored.shown, f"no .xml file is named '{stored.path.stem}'", picture=name)
    elif not facts.error:
        declared = (stored.label.width_px, stored.label.height_px)
        real = (facts.width_px, facts.height_px)
        if declared != real and 0 not in declared:
            text = f"size {declared[0]}x{declared[1]}, picture {real[0]}x{real[1]}"
            yield finding("E006", stored.label_shown, text, stored.label.size_line, picture=name)


def numbered_boxes(stored: Stored) -> Iterator[tuple[Box, int]]:
    """Boxes of a picture with the line to point to."""
    yield from zip(stored.label.boxes, stored.lines, strict=True) if stored.label else ()


def box_findings(stored: Stored, min_box_px: float) -> Iterator[Finding]:
    """Boxes without numbers, inverted, too small, or outside the picture; one finding a box."""
    for box, line in numbered_boxes(stored):
        found = _box_problem(box, stored.facts.width_px, stored.facts.height_px, min_box_px)
        if found:
            code, text = found
            yield finding(code, stored.label_shown, text, line, box.class_name, stored.path.name)
        if not box.class_name:
            yield finding("E021", stored.label_shown, "the box has no <name>", line, "", stored.path.name)


def _box_problem(box: Box, width_px: int, height_px: int, min_box_px: float) -> tuple[str, str] | None:
    xmin, ymin, xmax, ymax = box.xyxy_px
    corners = "(" + ", ".join(map(format_number, box.xyxy_px)) + ")"
    wrong = [name for name, value in zip(_CORNERS, box.xyxy_px, strict=True) if value != value]
    if wrong:
        return "E008", f"'{box.class_name}' box: {', '.join(wrong)} missing or not a number"
    if xmin > xmax or ymin > ymax:
        return "E003", f"'{box.class_name}' box {corners} is inverted"
    if width_px and (xmin < 0 or ymin < 0 or xmax > width_px or ymax > height_px):
        far = max(-xmin / width_px, -ymin / height_px, xmax / width_px - 1, ymax / height_px - 1)
        text = f"box {corners} leaves the {width_px}x{height_px} picture by {100 * far:.1f} % of its side"
        return "E005", f"'{box.class_name}' {text}"
    side = min(xmax - xmin, ymax - ymin)
    if side <= 0 or side < min_box_px:
        return "E004", f"'{box.class_name}' box {corners} is {format_number(side)} px wide or high"
    return None


def name_findings(pictures: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Boxes of classes that are not in `labels`; without labels, names that differ only by case or spaces."""
    places = [(box.class_name, stored, line) for stored in pictures for box, line in numbered_boxes(stored)]
    if labels:
        for name, stored, line in places:
            if name and name not in labels:
                near = _nearest(name, labels)
                text = f"class '{name}' is not in source.labels" + (f", nearest: '{near}'" if near else "")
                yield finding("E001", stored.label_shown, text, line, name, stored.path.name)
        return
    spellings = defaultdict(Counter)
    for name, _, _ in places:
        spellings["".join(same_name(name).split())][name] += 1
    usual = {name: names.most_common(1)[0] for names in spellings.values() for name in names}
    for name, stored, line in places:
        common, count = usual[name]
        if name != common:
            text = f"class '{name}' beside '{common}' ({count} boxes)"
            yield finding("W108", stored.label_shown, text, line, name, stored.path.name)


def _nearest(name: str, labels: list[str]) -> str:
    folded = {same_name(label).strip(): label for label in labels}
    near = difflib.get_close_matches(same_name(name).strip(), folded, n=1)
    return folded[near[0]] if near else ""


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


def orphan_findings(root: Path, pictures: list[Stored], labels: list[Path]) -> Iterator[Finding]:
    """Label files in `images/` without a picture beside them."""
    there = {stored.path.with_suffix(".xml") for stored in pictures}
    for label in labels:
        if label not in there:
            yield finding("E009", label.relative_to(root).as_posix(), f"no picture is named '{label.stem}'")

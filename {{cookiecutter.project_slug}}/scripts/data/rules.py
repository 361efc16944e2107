"""Rules about boxes: one image at a time."""

import csv
import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from scripts.core.schema import SLOTS
from scripts.core.text import counted
from scripts.data.dataset import SPLITS, Box
from scripts.data.findings import Finding, finding
from scripts.data.manifest import Stored
from scripts.data.source import same_name

ROUNDING_PX = 1e-6
"""A corner this far outside is arithmetic, not a mistake: 0.1 + 0.2 of a wide image is off by less.
"""

WHOLE_IMAGE = 0.98
"""Share of the image's area. A real object is rarely cut off by all four borders; a box drawn by a
habit is."""

SAME_THING_IOU = 0.9
"""Two people who box one object agree to about this; two objects of a class hardly ever overlap so
much."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def numbered_boxes(stored: Stored) -> Iterator[tuple[Box, int]]:
    """Boxes of an image with the line to point to."""
    yield from zip(stored.label.boxes, stored.lines, strict=True) if stored.label else ()


def has_area(box: Box) -> bool:
    """Whether the box has four numbers, in order, and covers something."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    return xmin < xmax and ymin < ymax  # false for nan


def box_text(xyxy_px: tuple[float, float, float, float]) -> str:
    """The corners as they stand in messages: `(12, 3.5, 40, 20)`, seven digits at most."""
    return "(" + ", ".join(f"{value:.7g}" for value in xyxy_px) + ")"


def named(stored: Stored, text: str) -> str:
    """A message about an image, whose name it bears where the label file is not of this image
    alone."""
    alone = Path(stored.label_shown).stem == Path(stored.shown).stem
    return text if alone else f"'{Path(stored.shown).name}': {text}"


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes with area, 0..1."""
    a, b = one.xyxy_px, other.xyxy_px
    width_px, height_px = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width_px <= 0 or height_px <= 0:
        return 0.0
    shared = width_px * height_px
    return shared / (area_px(a) + area_px(b) - shared)


def area_px(xyxy_px: tuple[float, float, float, float]) -> float:
    """Square pixels of a box."""
    return (xyxy_px[2] - xyxy_px[0]) * (xyxy_px[3] - xyxy_px[1])


def box_findings(stored: Stored, min_box_px: float) -> Iterator[Finding]:
    """Boxes without numbers or class, inverted, too small, outside, over the whole image, doubled,
    or too many."""
    name = stored.path.name
    for box, line in numbered_boxes(stored):
        found = box_problem(box, stored.facts.width_px, stored.facts.height_px, min_box_px)
        if found:
            yield finding(found[0], stored.label_shown, named(stored, found[1]), line, box.class_name, name)
        if not box.class_name:
            yield finding("E021", stored.label_shown, named(stored, "the box has no class"), line, "", name)
    for box, line, earlier_line, overlap in doubled_boxes(stored):
        text = f"'{box.class_name}' box {box_text(box.xyxy_px)} lies on that of line {earlier_line} (IoU {overlap:.2f})"
        yield finding("W115", stored.label_shown, named(stored, text), line, box.class_name, name)
    single = [line for box, line in numbered_boxes(stored) if not (box.group_of or box.is_crowd)]
    if len(single) > SLOTS:
        text = f"{len(single)} boxes, a model of ours finds {SLOTS} at most: {len(single) - SLOTS} are always missed"
        yield finding("E014", stored.label_shown, named(stored, text), single[SLOTS], "", name)


def box_problem(box: Box, width_px: int, height_px: int, min_box_px: float) -> tuple[str, str] | None:
    """Code and message of the worst that is wrong with the corners, None when they are right.

    `width_px` 0: the image could not be read, so nothing is said about its borders.
    """
    xmin, ymin, xmax, ymax = box.xyxy_px
    start = f"'{box.class_name}' box"
    wrong = [name for name, value in zip(_CORNERS, box.xyxy_px, strict=True) if value != value]
    if wrong:
        return "E008", f"{start}: {', '.join(wrong)} missing or not a number"
    start = f"{start} {box_text(box.xyxy_px)}"
    if xmin > xmax or ymin > ymax:
        return "E003", f"{start} is inverted"
    if width_px and outside_px(box.xyxy_px, width_px, height_px) > ROUNDING_PX:
        share = outside_share(box.xyxy_px, width_px, height_px)
        return "E005", f"{start} leaves the {width_px}x{height_px} image by {_percent(share)} of its side"
    side = min(xmax - xmin, ymax - ymin)
    if side <= 0 or side < min_box_px:
        return "E004", f"{start} is {side:.7g} px wide or high"
    share = area_px(box.xyxy_px) / (width_px * height_px) if width_px else 0.0
    if share > WHOLE_IMAGE and not (box.group_of or box.is_crowd):
        return "W114", f"{start} covers {_percent(share)} of the {width_px}x{height_px} image"
    return None


def outside_px(xyxy_px: tuple[float, ...], width_px: int, height_px: int) -> float:
    """How far a box reaches beyond the border that it leaves farthest, in pixels; negative or 0
    inside."""
    return max(-xyxy_px[0], -xyxy_px[1], xyxy_px[2] - width_px, xyxy_px[3] - height_px)


def outside_share(xyxy_px: tuple[float, ...], width_px: int, height_px: int) -> float:
    """The same as a fraction of the side of the image."""
    xmin, ymin, xmax, ymax = xyxy_px
    return max(-xmin / width_px, -ymin / height_px, (xmax - width_px) / width_px, (ymax - height_px) / height_px)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"


def doubled_boxes(stored: Stored) -> Iterator[tuple[Box, int, int, float]]:
    """Each box that lies on an earlier one of its class: box, its line, the line of the earlier
    one, their IoU.

    Boxes around groups are left out: they may well lie on one another.
    """
    earlier = defaultdict(list)
    for box, line in numbered_boxes(stored):
        if box.group_of or box.is_crowd or not has_area(box):
            continue
        same = next(((seen, at) for seen, at in earlier[box.class_name] if iou(seen, box) > SAME_THING_IOU), None)
        if same:
            yield box, line, same[1], iou(same[0], box)
        earlier[box.class_name].append((box, line))


# Rules about class names: unknown ones, slips of the pen, two spellings of one class.

def name_findings(images: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Boxes of classes that are not in `labels`; without labels, names that differ only by case or
    spaces."""
    places = [(box.class_name, stored, line) for stored in images for box, line in numbered_boxes(stored)]
    counts = Counter(name for name, _, _ in places)
    if labels:
        near = {name: _nearest(name, labels) for name in counts if name and name not in labels}
        for name, stored, line in places:
            if name in near:
                text = f"class '{name}' is not in source.labels" + (f", nearest: '{near[name]}'" if near[name] else "")
                yield finding("E001", stored.label_shown, named(stored, text), line, name, stored.path.name)
        return
    usual = common_spellings(counts)
    for name, stored, line in places:
        if name in usual:
            text = f"class '{name}' beside '{usual[name]}' ({counts[usual[name]]} boxes)"
            yield finding("W108", stored.label_shown, named(stored, text), line, name, stored.path.name)


def folded(name: str) -> str:
    """Equal for names that differ only by case, spaces, hyphens or underscores."""
    return "".join(letter for letter in same_name(name) if letter not in "-_" and not letter.isspace())


def common_spellings(counts: Counter) -> dict[str, str]:
    """The most common spelling for each name that is another spelling of it; `counts` are boxes by
    name."""
    spellings = defaultdict(list)
    for name in counts:
        spellings[folded(name)].append(name)
    usual = {}
    for names in spellings.values():
        common = max(names, key=lambda name: counts[name])
        usual.update({name: common for name in names if name != common})
    return usual


def _nearest(name: str, labels: list[str]) -> str:
    by_folded = {same_name(label).strip(): label for label in labels}
    near = difflib.get_close_matches(same_name(name).strip(), by_folded, n=1)
    return by_folded[near[0]] if near else ""


# Rules about the files as such: can an image be read, is there a label file that fits it.

READ_BY_TENSORFLOW = ("jpeg", "mpo", "png")
"""Formats by Pillow's name, in lower case, that training decodes. It would also decode GIF and BMP,
which other tools of the chain do not expect in `images/`."""


def image_findings(stored: Stored) -> Iterator[Finding]:
    """What is wrong with an image file and its label file as such."""
    facts, name = stored.facts, stored.path.name
    if facts.error:
        yield finding("E010", stored.shown, f"'{name}': {facts.error}", image=name)
    elif facts.source_format.lower() not in READ_BY_TENSORFLOW:
        text = f"'{name}' is {facts.source_format}, which training does not read"
        yield finding("E022", stored.shown, text, image=name)
    elif not facts.whole:
        text = f"'{name}' has no sound end, or a wrong checksum: TensorFlow refuses it"
        yield finding("E010", stored.shown, text, image=name)
    elif facts.orientation != 1:
        yield finding("E007", stored.shown, f"EXIF orientation {facts.orientation}", image=name)
    if stored.label_error:
        text = f"'{stored.path.stem}.xml': {stored.label_error}"
        yield finding("E019", stored.label_shown, text, stored.label_error_line, image=name)
    elif stored.label is None:
        yield finding("E012", stored.shown, f"no .xml file is named '{stored.path.stem}'", image=name)
    elif not facts.error:
        declared = (stored.label.width_px, stored.label.height_px)
        real = (facts.width_px, facts.height_px)
        if declared != real and 0 not in declared:
            text = f"size {declared[0]}x{declared[1]}, image {real[0]}x{real[1]}"
            yield finding("E006", stored.label_shown, text, stored.label.size_line, image=name)


def orphan_findings(root: Path, images: list[Stored], labels: list[Path]) -> Iterator[Finding]:
    """Label files in `images/` without an image beside them."""
    there = {stored.path.with_suffix(".xml") for stored in images}
    for label in labels:
        if label not in there:
            yield finding("E009", label.relative_to(root).as_posix(), f"no image is named '{label.stem}'")


# Rules about the three splits: images that stand in two of them, classes that a split lacks.

def split_findings(images: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Equal images in two splits, two images of one name, and classes without boxes in a split."""
    by_content, by_name = defaultdict(list), defaultdict(list)
    boxes = {split: Counter() for split in SPLITS}
    for stored in images:
        by_content[stored.facts.sha256].append(stored)
        by_name[stored.split, same_name(stored.path.stem)].append(stored)
        boxes[stored.split].update(box.class_name for box, _ in numbered_boxes(stored) if box.class_name)
    for sha256, duplicates in by_content.items():
        for duplicate in duplicates[1:] if sha256 else []:
            text = f"{duplicate.split}/{duplicate.path.name} is the same image as {duplicates[0].split}/{duplicates[0].path.name}"
            code = "W112" if duplicate.split == duplicates[0].split else "E011"
            yield finding(code, duplicate.shown, text, image=duplicate.path.name)
    for (split, _), same in by_name.items():
        if len(same) > 1:
            names = ", ".join(stored.path.name for stored in same)
            yield finding("E020", same[1].shown, f"one name in images/{split}: {names}", image=same[1].path.name)
    yield from _empty_classes(boxes, labels)


def _empty_classes(boxes: dict[str, Counter], labels: list[str]) -> Iterator[Finding]:
    for name in labels or sorted(set().union(*boxes.values())):
        if all(boxes[split][name] for split in SPLITS):
            continue
        table = ", ".join(f"{split} {boxes[split][name]}" for split in SPLITS)
        yield finding("E002", "images", f"boxes of '{name}': {table}", class_name=name)


# Rules about the set as a whole: things to know, one finding each, that nobody can correct in one
# file.

FEWER = 10
"""A class with this many times fewer boxes than the largest is learned visibly worse; within it,
the difference drowns in how hard the classes are."""

TINY_PX = 8
"""Side of one cell of the finest map that a model looks at. What is smaller shares its cell with
all around it."""

MANY_TINY = 0.05
"""Share of boxes. Below it tiny things are exceptions; above it they are part of the task."""

MANY_SET_APART = 0.25
"""Share of boxes that are drawn but not learned or not scored. The labels of Open Images and Pascal
VOC stay below."""

MOSTLY_FILLED = 0.65
"""Share of an image, averaged over train, that its boxes cover. Photographs of single things from
the web have about 0.5, and a detector learns from them; far above that there is little background
to learn from."""

ENOUGH = 20
"""Boxes or images, at least: a share of fewer says nothing about the set."""

ATTRIBUTION = "images/source/openimages/ATTRIBUTION.csv"


def balance_findings(images: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Classes (of `labels`, if there are any) with far fewer training boxes than the largest."""
    named = Counter(box.class_name for one in images if one.split == "train" for box, _ in numbered_boxes(one))
    usual, boxes = common_spellings(named), Counter()
    for name, count in named.items():
        boxes[usual.get(name, name)] += count
    boxes = {name: count for name, count in boxes.items() if name and (not labels or name in labels)}
    if not boxes:
        return
    most, largest = max((count, name) for name, count in boxes.items())
    rare = sorted((count, name) for name, count in boxes.items() if count * FEWER <= most)
    if rare:
        names = ", ".join(f"'{name}' {count:,}" for count, name in rare[:3]) + ", ..." * (len(rare) > 3)
        yield finding("W101", "images/train", f"boxes: '{largest}' {most:,}, but {names}")


def tiny_findings(images: list[Stored], input_px: int) -> Iterator[Finding]:
    """Boxes that are tiny once the image is stretched to the `input_px` x `input_px` that the model
    sees."""
    tiny = boxes = 0
    for one in images:
        image_px = one.facts.width_px * one.facts.height_px
        for box, _ in numbered_boxes(one) if image_px else ():
            boxes += 1
            tiny += has_area(box) and area_px(box.xyxy_px) / image_px * input_px**2 < TINY_PX**2
    if boxes >= ENOUGH and tiny >= MANY_TINY * boxes:
        text = f"{counted(tiny, 'box', 'boxes')} of {boxes:,} ({100 * tiny / boxes:.0f} %)"
        verb = "is" if tiny == 1 else "are"
        yield finding("W102", "images", f"{text} {verb} under {TINY_PX}x{TINY_PX} px at an input of {input_px} px")


def flag_findings(images: list[Stored]) -> Iterator[Finding]:
    """Boxes that are marked as something that training or scoring leaves out."""
    marked, boxes, any_mark = Counter(), 0, 0
    for one in images:
        for box, _ in numbered_boxes(one):
            names = [name for name in ("group_of", "is_crowd", "difficult") if getattr(box, name)]
            marked.update(names)
            boxes, any_mark = boxes + 1, any_mark + bool(names)
    if boxes >= ENOUGH and any_mark >= MANY_SET_APART * boxes:
        parts = ", ".join(f"{name} {count:,}" for name, count in marked.items())
        share = 100 * any_mark / boxes
        yield finding("W103", "images", f"{any_mark:,} of {boxes:,} boxes ({share:.0f} %) are marked: {parts}")


def background_findings(images: list[Stored]) -> Iterator[Finding]:
    """No image without boxes, and those with boxes show hardly anything else."""
    covered = [_covered(one) for one in images if one.split == "train" and one.label and one.facts.width_px]
    if len(covered) >= ENOUGH and min(covered) > 0 and sum(covered) / len(covered) > MOSTLY_FILLED:
        share = 100 * sum(covered) / len(covered)
        text = f"none of {len(covered):,} images is without boxes, and boxes cover {share:.0f} % of them on average"
        yield finding("W104", "images/train", text)


def _covered(stored: Stored) -> float:
    """Share of an image that its boxes cover, overlaps counted twice, at most 1."""
    areas_px = sum(area_px(box.xyxy_px) for box, _ in numbered_boxes(stored) if has_area(box))
    return min(1.0, areas_px / (stored.facts.width_px * stored.facts.height_px))


def license_findings(root: Path, images: list[Stored]) -> Iterator[Finding]:
    """Images of Open Images whose author or license is not in `ATTRIBUTION.csv`; for `source.kind =
    "openimages"`."""
    named = _attributed(root / ATTRIBUTION)
    folder = ATTRIBUTION.rpartition("/")[0] + "/"
    ours = [one for one in images if one.entry and one.entry["source"].startswith(folder)]
    missing = [one for one in ours if Path(one.entry["source"]).stem not in named]
    if missing:
        text = f"{len(missing):,} of {counted(len(ours), 'image')} without author or license, such as "
        yield finding("W105", ATTRIBUTION, text + missing[0].path.name)


def _attributed(path: Path) -> set[str]:
    """ImageIDs of the rows that name an author and a license."""
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{key.lower(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    return {row.get("imageid", "") for row in rows if row.get("author") and (row.get("license") or row.get("license"))}

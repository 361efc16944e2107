"""The rules of `invoke check`: what can be wrong with labeled images.

A rule takes images of `images/` as `manifest.read_stored` returns them and yields findings. The
first rules look at one image, the later ones at all of them. The measures of a box stand here too,
because `fixes.py` repairs by the same ones.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from scripts.core.schema import SLOTS
from scripts.core.text import counted, nearest
from scripts.data.dataset import SPLITS, Box, Corners
from scripts.data.findings import Finding, finding
from scripts.data.manifest import Stored
from scripts.data.openimages.download_folder import ATTRIBUTION_FILE
from scripts.data.source import same_name

# Pillow's names, in lower case, of what training decodes. TensorFlow would also decode GIF and BMP,
# which other tools of the chain do not expect in `images/`.
READ_BY_TENSORFLOW = ("jpeg", "mpo", "png")

# A corner this far outside is arithmetic, not a mistake: 0.1 + 0.2 of a wide image is off by less.
ROUNDING_PX = 1e-6
# A real object is rarely cut off by all four borders; a box drawn out of habit is.
FULL_IMAGE_SHARE = 0.98
# Two people who box one object agree to about this; two objects of a class hardly ever do.
SAME_OBJECT_IOU = 0.9

# A class with this many times fewer boxes than the largest is learned visibly worse. Below that,
# the difference between hard and easy classes is larger.
RARE_RATIO = 10
# The side of a cell of the finest feature map, in pixels of the input. What is smaller shares its
# cell with everything around it.
TINY_PX = 8
# Share of boxes. Below it tiny objects are exceptions, above it they are part of the task.
TINY_SHARE = 0.05
# Share of boxes that are not learned or not scored. Open Images and Pascal VOC stay below.
MARKED_SHARE = 0.25
# Share of an image that its boxes cover, averaged over train. Photographs of single objects from
# the web have about 0.5, and a detector learns from them.
COVERED_SHARE = 0.65
# A share of fewer boxes or images says nothing about the set.
LEAST_COUNT = 20


# Measures of a box.


def numbered_boxes(stored: Stored) -> Iterator[tuple[Box, int]]:
    """Yield the boxes of an image, each with the line to point to."""
    if stored.label:
        yield from zip(stored.label.boxes, stored.lines, strict=True)


def has_area(box: Box) -> bool:
    """Return whether the box has four numbers, in order, and covers something."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    return xmin < xmax and ymin < ymax  # false for nan


def area_px(xyxy_px: Corners) -> float:
    """Return the area of a box in square pixels."""
    return (xyxy_px[2] - xyxy_px[0]) * (xyxy_px[3] - xyxy_px[1])


def iou(box: Box, other: Box) -> float:
    """Return the intersection over union of two boxes with area, 0..1."""
    a, b = box.xyxy_px, other.xyxy_px
    width_px, height_px = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width_px <= 0 or height_px <= 0:
        return 0.0
    shared = width_px * height_px
    return shared / (area_px(a) + area_px(b) - shared)


def outside_px(xyxy_px: Corners, width_px: int, height_px: int) -> float:
    """Return how far a box reaches beyond the border it leaves farthest; 0 or negative inside."""
    return max(-xyxy_px[0], -xyxy_px[1], xyxy_px[2] - width_px, xyxy_px[3] - height_px)


def outside_share(xyxy_px: Corners, width_px: int, height_px: int) -> float:
    """Return `outside_px` as a fraction of the side of the image."""
    xmin, ymin, xmax, ymax = xyxy_px
    return max(-xmin / width_px, -ymin / height_px,
               (xmax - width_px) / width_px, (ymax - height_px) / height_px)


def box_text(xyxy_px: Corners) -> str:
    """Return the corners as messages show them: `(12, 3.5, 40, 20)`, at most seven digits."""
    return "(" + ", ".join(f"{value:.7g}" for value in xyxy_px) + ")"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"


# Rules about one image.


def image_findings(stored: Stored, min_box_px: float) -> Iterator[Finding]:
    """Yield what is wrong with an image, its label file and its boxes."""
    yield from _file_findings(stored)
    yield from _label_file_findings(stored)
    yield from _box_findings(stored, min_box_px)


def _file_findings(stored: Stored) -> Iterator[Finding]:
    facts, name = stored.facts, stored.path.name
    if facts.error:
        yield finding("E010", stored.shown, f"'{name}': {facts.error}", image=name)
    elif facts.source_format.lower() not in READ_BY_TENSORFLOW:
        text = f"'{name}' is {facts.source_format}, which training does not read"
        yield finding("E022", stored.shown, text, image=name)
    elif not facts.complete:
        text = f"'{name}' has no end mark or a wrong checksum, and TensorFlow does not decode it"
        yield finding("E010", stored.shown, text, image=name)
    elif facts.orientation != 1:
        yield finding("E007", stored.shown, f"EXIF orientation {facts.orientation}", image=name)


def _label_file_findings(stored: Stored) -> Iterator[Finding]:
    name, stem = stored.path.name, stored.path.stem
    if stored.label_error:
        yield finding("E019", stored.label_shown, f"'{stem}.xml': {stored.label_error}",
                      stored.label_error_line, image=name)
    elif stored.label is None:
        yield finding("E012", stored.shown, f"no .xml file is named '{stem}'", image=name)
    elif not stored.facts.error:
        declared = (stored.label.width_px, stored.label.height_px)
        real = (stored.facts.width_px, stored.facts.height_px)
        if declared != real and 0 not in declared:
            text = f"size {declared[0]}x{declared[1]}, image {real[0]}x{real[1]}"
            yield finding("E006", stored.label_shown, text, stored.label.size_line, image=name)


def _box_findings(stored: Stored, min_box_px: float) -> Iterator[Finding]:
    for box, line in numbered_boxes(stored):
        problem = box_problem(box, stored.facts.width_px, stored.facts.height_px, min_box_px)
        if problem:
            code, text = problem
            yield _at_box(code, stored, text, line, box.class_name)
        if not box.class_name:
            yield _at_box("E021", stored, "the box has no class", line)
    for box, line, earlier_line, overlap in _doubled_boxes(stored):
        text = (f"'{box.class_name}' box {box_text(box.xyxy_px)} lies on that of line "
                f"{earlier_line} (IoU {overlap:.2f})")
        yield _at_box("W115", stored, text, line, box.class_name)
    # Groups and crowds are not scored, so they take no place among the detections.
    single = [line for box, line in numbered_boxes(stored) if not (box.group_of or box.is_crowd)]
    if len(single) > SLOTS:
        text = (f"{len(single)} boxes, a model finds {SLOTS} at most: "
                f"{len(single) - SLOTS} are always missed")
        yield _at_box("E014", stored, text, single[SLOTS])


def _at_box(code: str, stored: Stored, text: str, line: int, class_name: str = "") -> Finding:
    """Return a finding about a box. Where the label file is of many images, it names the image."""
    if Path(stored.label_shown).stem != Path(stored.shown).stem:
        text = f"'{Path(stored.shown).name}': {text}"
    return finding(code, stored.label_shown, text, line, class_name, stored.path.name)


def box_problem(
    box: Box, width_px: int, height_px: int, min_box_px: float
) -> tuple[str, str] | None:
    """Return code and message of the worst that is wrong with the corners, None for a good box.

    `width_px` 0: the image could not be read, so nothing is said about its borders.
    """
    xmin, ymin, xmax, ymax = box.xyxy_px
    start = f"'{box.class_name}' box"
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box.xyxy_px, strict=True)
    missing = [name for name, value in edges if value != value]
    if missing:
        return "E008", f"{start}: {', '.join(missing)} missing or not a number"
    start = f"{start} {box_text(box.xyxy_px)}"
    if xmin > xmax or ymin > ymax:
        return "E003", f"{start} is inverted"
    if width_px and outside_px(box.xyxy_px, width_px, height_px) > ROUNDING_PX:
        share = _percent(outside_share(box.xyxy_px, width_px, height_px))
        return "E005", f"{start} leaves the {width_px}x{height_px} image by {share} of its side"
    side_px = min(xmax - xmin, ymax - ymin)
    if side_px <= 0 or side_px < min_box_px:
        return "E004", f"{start} is {side_px:.7g} px wide or high"
    share = area_px(box.xyxy_px) / (width_px * height_px) if width_px else 0.0
    if share > FULL_IMAGE_SHARE and not (box.group_of or box.is_crowd):
        return "W114", f"{start} covers {_percent(share)} of the {width_px}x{height_px} image"
    return None


def _doubled_boxes(stored: Stored) -> Iterator[tuple[Box, int, int, float]]:
    """Yield each box that lies on an earlier one of its class: box, its line, that of the earlier
    one, their IoU.

    Boxes around groups may well lie on one another.
    """
    earlier = defaultdict(list)
    for box, line in numbered_boxes(stored):
        if box.group_of or box.is_crowd or not has_area(box):
            continue
        for seen, seen_line in earlier[box.class_name]:
            overlap = iou(seen, box)
            if overlap > SAME_OBJECT_IOU:
                yield box, line, seen_line, overlap
                break
        earlier[box.class_name].append((box, line))


# Rules about all images.


def set_findings(images: list[Stored], labels: Sequence[str], input_px: int) -> Iterator[Finding]:
    """Yield what is wrong with the images as a set.

    Args:
        images: all images of `images/`.
        labels: `source.labels`; empty for the classes that the images have.
        input_px: the side of the square that the model sees.
    """
    yield from _unknown_names(images, labels) if labels else _spellings(images)
    yield from _same_images(images)
    yield from _empty_classes(images, labels)
    yield from _rare_classes(images, labels)
    yield from _tiny_boxes(images, input_px)
    yield from _marked_boxes(images)
    yield from _little_background(images)


def orphan_findings(images: list[Stored], labels: list[Path]) -> Iterator[Finding]:
    """Yield the label files of `images/` that have no image beside them."""
    there = {stored.path.with_suffix(".xml") for stored in images}
    for label in labels:
        if label not in there:
            shown = f"images/{label.parent.name}/{label.name}"
            yield finding("E009", shown, f"no image is named '{label.stem}'")


def class_counts(images: list[Stored]) -> Counter:
    """Return the number of boxes by class name."""
    return Counter(box.class_name for stored in images for box, _ in numbered_boxes(stored))


def _unknown_names(images: list[Stored], labels: Sequence[str]) -> Iterator[Finding]:
    near = {name: _nearest_label(name, labels)
            for name in class_counts(images) if name not in labels}
    for stored in images:
        for box, line in numbered_boxes(stored):
            name = box.class_name
            if name and name in near:
                text = f"class '{name}' is not in source.labels"
                text += f", nearest: '{near[name]}'" if near[name] else ""
                yield _at_box("E001", stored, text, line, name)


def _nearest_label(name: str, labels: Sequence[str]) -> str:
    by_name = {same_name(label).strip(): label for label in labels}
    return by_name.get(nearest(same_name(name).strip(), by_name), "")


def _spellings(images: list[Stored]) -> Iterator[Finding]:
    counts = class_counts(images)
    usual = common_spellings(counts)
    for stored in images:
        for box, line in numbered_boxes(stored):
            name = box.class_name
            if name in usual:
                text = f"class '{name}' beside '{usual[name]}' ({counts[usual[name]]} boxes)"
                yield _at_box("W108", stored, text, line, name)


def folded(name: str) -> str:
    """Return the same text for names that differ only by case, spaces, hyphens or underscores."""
    return "".join(letter for letter in same_name(name)
                   if letter not in "-_" and not letter.isspace())


def common_spellings(counts: Counter) -> dict[str, str]:
    """Return the most common spelling for each name that is another spelling of it.

    `counts` are boxes by class name.
    """
    spellings = defaultdict(list)
    for name in counts:
        spellings[folded(name)].append(name)
    usual = {}
    for names in spellings.values():
        common = max(names, key=lambda name: counts[name])
        usual.update({name: common for name in names if name != common})
    return usual


def _same_images(images: list[Stored]) -> Iterator[Finding]:
    """Yield identical images, and images of a split that share their name and so their labels."""
    by_content, by_name = defaultdict(list), defaultdict(list)
    for stored in images:
        if stored.facts.sha256:
            by_content[stored.facts.sha256].append(stored)
        by_name[stored.split, same_name(stored.path.stem)].append(stored)
    for first, *duplicates in by_content.values():
        for duplicate in duplicates:
            text = (f"{duplicate.split}/{duplicate.path.name} is the same image as "
                    f"{first.split}/{first.path.name}")
            code = "W112" if duplicate.split == first.split else "E011"
            yield finding(code, duplicate.shown, text, image=duplicate.path.name)
    for (split, _), same in by_name.items():
        if len(same) > 1:
            names = ", ".join(stored.path.name for stored in same)
            text = f"one name in images/{split}: {names}"
            yield finding("E020", same[1].shown, text, image=same[1].path.name)


def _empty_classes(images: list[Stored], labels: Sequence[str]) -> Iterator[Finding]:
    boxes = {split: class_counts([stored for stored in images if stored.split == split])
             for split in SPLITS}
    for name in labels or sorted(set().union(*boxes.values()) - {""}):
        if not all(boxes[split][name] for split in SPLITS):
            table = ", ".join(f"{split} {boxes[split][name]}" for split in SPLITS)
            yield finding("E002", "images", f"boxes of '{name}': {table}", class_name=name)


def _rare_classes(images: list[Stored], labels: Sequence[str]) -> Iterator[Finding]:
    counts = class_counts([stored for stored in images if stored.split == "train"])
    usual, boxes = common_spellings(counts), Counter()
    for name, count in counts.items():
        boxes[usual.get(name, name)] += count
    learned = {name: count for name, count in boxes.items()
               if name and (not labels or name in labels)}
    if not learned:
        return
    most, largest = max((count, name) for name, count in learned.items())
    rare = sorted((count, name) for name, count in learned.items() if count * RARE_RATIO <= most)
    if rare:
        names = ", ".join(f"'{name}' {count:,}" for count, name in rare[:3])
        more = ", ..." if len(rare) > 3 else ""
        text = f"boxes: '{largest}' {most:,}, but {names}{more}"
        yield finding("W101", "images/train", text)


def _tiny_boxes(images: list[Stored], input_px: int) -> Iterator[Finding]:
    tiny = boxes = 0
    for stored in images:
        image_px = stored.facts.width_px * stored.facts.height_px
        for box, _ in numbered_boxes(stored) if image_px else ():
            boxes += 1
            # The image is stretched to the square, so an area keeps its share of it.
            tiny += (has_area(box)
                     and area_px(box.xyxy_px) / image_px * input_px**2 < TINY_PX**2)
    if boxes >= LEAST_COUNT and tiny >= TINY_SHARE * boxes:
        share = f"{counted(tiny, 'box', 'boxes')} of {boxes:,} ({100 * tiny / boxes:.0f} %)"
        verb = "is" if tiny == 1 else "are"
        text = f"{share} {verb} under {TINY_PX}x{TINY_PX} px at an input of {input_px} px"
        yield finding("W102", "images", text)


def _marked_boxes(images: list[Stored]) -> Iterator[Finding]:
    flags, boxes, marked = Counter(), 0, 0
    for stored in images:
        for box, _ in numbered_boxes(stored):
            names = [name for name in ("group_of", "is_crowd", "difficult") if getattr(box, name)]
            flags.update(names)
            boxes, marked = boxes + 1, marked + bool(names)
    if boxes >= LEAST_COUNT and marked >= MARKED_SHARE * boxes:
        parts = ", ".join(f"{name} {count:,}" for name, count in flags.items())
        share = f"{marked:,} of {boxes:,} boxes ({100 * marked / boxes:.0f} %)"
        yield finding("W103", "images", f"{share} are marked: {parts}")


def _little_background(images: list[Stored]) -> Iterator[Finding]:
    covered = [_covered_share(stored) for stored in images
               if stored.split == "train" and stored.label and stored.facts.width_px]
    if len(covered) < LEAST_COUNT or min(covered) == 0:
        return
    mean = sum(covered) / len(covered)
    if mean > COVERED_SHARE:
        text = (f"none of {len(covered):,} images is without boxes, and boxes cover "
                f"{100 * mean:.0f} % of them on average")
        yield finding("W104", "images/train", text)


def _covered_share(stored: Stored) -> float:
    """Return the share of an image that its boxes cover, overlaps counted twice, at most 1."""
    covered_px = sum(area_px(box.xyxy_px) for box, _ in numbered_boxes(stored) if has_area(box))
    return min(1.0, covered_px / (stored.facts.width_px * stored.facts.height_px))


# Images of Open Images: who made them.


def attributed_ids(path: Path) -> set[str]:
    """Return the ImageIDs of `ATTRIBUTION.csv` that have an author and a license."""
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {row.get("ImageID", "") for row in csv.DictReader(file)
                if row.get("Author") and row.get("License")}


def license_findings(images: list[Stored], attributed: Collection[str]) -> Iterator[Finding]:
    """Yield a finding when downloaded images have no author or license in `attributed`."""
    folder = "images/source/openimages/"
    downloaded = [stored for stored in images
                  if stored.entry and stored.entry["source"].startswith(folder)]
    missing = [stored for stored in downloaded
               if Path(stored.entry["source"]).stem not in attributed]
    if missing:
        text = (f"{len(missing):,} of {counted(len(downloaded), 'image')} without author or "
                f"license, such as {missing[0].path.name}")
        yield finding("W105", folder + ATTRIBUTION_FILE, text)

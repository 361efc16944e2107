"""From the files of a source to usable images with their boxes, and what was wrong with them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.core.runtime import map_items
from scripts.core.text import counted
from scripts.data.dataset import Box, Image, Labels
from scripts.data.findings import Finding, finding
from scripts.data.image_files import ImageFacts, inspect_image, swaps_sides
from scripts.data.labels import plain_boxes, read_labels
from scripts.data.pairing import Entry
from scripts.data.source import SUFFIXES, SourceFiles, split_of

# Fractions are written with six digits by most tools; that is at most this part of a side.
_ROUNDING = 2e-6
_SUFFIXES = {"JPEG": SUFFIXES["jpeg"], "MPO": SUFFIXES["jpeg"], "PNG": SUFFIXES["png"]}


@dataclass(frozen=True)
class Item:
    """A usable image of the source.

    `shown` and `label_shown` are its files as the user knows them ("": no label file),
    `label_format` is the value of `source.format` that the label file has. `name` is its name in
    `images/` without extension; `image.split` is the source's, later the final split.
    """

    image: Image
    facts: ImageFacts
    shown: str
    label_shown: str
    label_format: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """File name in `images/`, extension by content."""
        return self.name + SUFFIXES[self.facts.format][0]


class SourceReader:
    """Reads all images of a source once and sorts them into usable items and findings."""

    def __init__(self, files: SourceFiles, source, staging: Path):
        """`source` is the table of detector.toml, `staging` a folder for re-encoded images."""
        self.files, self.exif, self.unlabeled = files, source.exif, source.unlabeled
        self.staging = staging
        self.labels = read_labels(files, source.format)
        self.findings: list[Finding] = list(self.labels.findings)
        self.skipped = 0

    def read(self) -> list[Item]:
        """Return the usable images in the order of their paths."""
        images = [path for path in self.files.images if path not in self.labels.excluded]
        tasks = [(str(path), self.exif, str(self.staging)) for path in images]
        facts = map_items(inspect_image, tasks, "organize")
        items = [self._item(path, found) for path, found in zip(images, facts, strict=True)]
        return [item for item in items if item is not None]

    def _item(self, path: Path, facts: ImageFacts) -> Item | None:
        """Return an image with its boxes in pixels, None if it cannot be used or is skipped."""
        shown, entry = self.files.show(path), self.labels.entries.get(path)
        if facts.error:
            self.findings.append(finding("E010", shown, f"'{path.name}': {facts.error}"))
            return None
        if entry is None and self.unlabeled != "negative":
            self.skipped += 1
            if self.unlabeled == "error":
                text = f"no label file names '{path.name}'"
                self.findings.append(finding("E012", shown, text))
            return None
        self.findings += _image_repairs(shown, facts, path, self.exif)
        label_path = entry.file.path if entry else None
        label_shown = self.files.show(label_path) if label_path else ""
        boxes: tuple[Box, ...] = ()
        if entry:
            boxes, clipped = _in_pixels(entry.labels, facts.width_px, facts.height_px)
            repairs = [*_label_repairs(facts, path, entry),
                       *(("R212", "a corner was past the border by rounding: put on it", line)
                         for line in clipped)]
            self.findings += [finding(code, label_shown, text, line, image=shown)
                              for code, text, line in repairs]
        labels = entry.labels if entry else None
        self.findings += _exif_findings(shown, facts, labels, self.exif, label_shown)
        split = self.labels.splits.get(path) or split_of(path, self.files.folder)
        image = Image(path, facts.width_px, facts.height_px, boxes, label_path, split)
        return Item(image, facts, shown, label_shown, entry.file.format if entry else "")


def _in_pixels(labels: Labels, width_px: int, height_px: int) -> tuple[tuple[Box, ...], list[int]]:
    """Return boxes in pixels, and the lines of those that reached past the border by rounding.

    Pixel edges stay as they are. Fractions are multiplied by the sides; a corner that is out by
    the rounding of six digits is put on the border.
    """
    if not labels.fractions:
        return labels.boxes, []
    boxes, clipped, sides = [], [], (width_px, height_px) * 2
    for box in labels.boxes:
        inside = tuple(min(max(edge, 0.0), 1.0) if -_ROUNDING <= edge <= 1 + _ROUNDING else edge
                       for edge in box.xyxy_px)
        # What is not a number is not equal to itself.
        if any(edge != new for edge, new in zip(box.xyxy_px, inside, strict=True) if edge == edge):
            clipped.append(box.line)
        edges = tuple(edge * side for edge, side in zip(inside, sides, strict=True))
        boxes.append(replace(box, xyxy_px=edges))
    return tuple(boxes), clipped


# What is odd about an image or its label file, and is right in memory.


def _image_repairs(shown: str, facts: ImageFacts, image: Path, exif: str) -> Iterator[Finding]:
    suffixes = _SUFFIXES.get(facts.source_format)
    if suffixes is None:
        yield finding("R204", shown, f"{facts.source_format} written as {facts.format}")
        return
    if image.suffix.lower() not in suffixes:
        yield finding("R203", shown, f"'{image.name}' is {facts.source_format}")
    if facts.staged and not (exif == "displayed" and facts.orientation != 1):  # those are R205
        yield finding("R217", shown, f"'{image.name}' has no sound end, or a wrong checksum")
    if facts.mode != "RGB":
        yield finding("R210", shown, f"mode {facts.mode}, read as RGB")


def _label_repairs(facts: ImageFacts, image: Path, entry: Entry) -> list[tuple[str, str, int]]:
    """Return code, message and line of each."""
    labels = entry.labels
    found = [(note.code, note.message, note.line) for note in labels.notes]
    real, declared = (facts.width_px, facts.height_px), (labels.width_px, labels.height_px)
    turned = swaps_sides(facts.orientation) and declared == real[::-1]
    # Formats that state no size at all have none to be wrong.
    if declared != real and not turned and (any(declared) or entry.file.format == "voc"):
        text = f"size {declared[0]}x{declared[1]}, image {real[0]}x{real[1]}"
        found.append(("R201" if 0 in declared else "R202", text, labels.size_line))
    if labels.depth not in (0, 3):
        found.append(("R211", f"depth {labels.depth}, read as 3 channels", labels.size_line))
    if entry.file.format == "voc" and labels.image != image.name:
        found.append(("R208", f"<filename> '{labels.image}' is not '{image.name}'", 0))
    return found


def _exif_findings(shown: str, facts: ImageFacts, labels: Labels | None, exif: str,
                   label_shown: str) -> Iterator[Finding]:
    """Yield findings about an image that a camera marked as turned."""
    if facts.orientation == 1:
        return
    stored = (facts.width_px, facts.height_px)
    if exif == "displayed" and swaps_sides(facts.orientation):
        stored = stored[::-1]
    # The size in the label file tells on which view the boxes were drawn.
    declared = (labels.width_px, labels.height_px) if labels else (0, 0)
    drawn_on = ""
    if swaps_sides(facts.orientation) and facts.width_px != facts.height_px:
        drawn_on = {stored: "stored", stored[::-1]: "displayed"}.get(declared, "")
    hint = ""
    if drawn_on:
        hint = (f"; its label file says {declared[0]}x{declared[1]}, the size of the {drawn_on} "
                "view")
    if exif == "error":
        yield finding("E007", shown, f"EXIF orientation {facts.orientation}{hint}")
        return
    if exif == "displayed":
        text = f"EXIF orientation {facts.orientation}: turned upright, without the tag"
        yield finding("R205", shown, text)
    if drawn_on and drawn_on != exif:
        text = f"source.exif is '{exif}'{hint}"
        yield finding("W109", label_shown, text, labels.size_line, image=shown)


# Identical images.


def drop_duplicates(items: list[Item]) -> tuple[list[Item], list[Finding]]:
    """Keep the first of images with equal bytes in one split, a labeled one before an unlabeled.

    A duplicate with the same boxes is dropped as a repair; one with other boxes as a warning, since
    only a person can tell which boxes are right. OIDv4_ToolKit stores an image once a class, each
    copy with the boxes of that class: such copies become one image with all boxes.
    """
    first: dict[tuple[str, str], Item] = {}
    findings = []
    for item in sorted(items, key=lambda item: (not item.label_shown, item.shown)):
        key = (item.facts.sha256, item.image.split)
        kept = first.setdefault(key, item)
        if kept is item:
            continue
        parts = kept.label_format == item.label_format == "oidv4"
        if not item.label_shown or _same_boxes(kept, item):
            text = f"the same image as {kept.shown}: kept once"
            findings.append(finding("R207", item.shown, text))
        elif parts and not _classes(kept) & _classes(item):
            text = f"its boxes joined those of {kept.shown}"
            findings.append(finding("R215", item.label_shown, text))
            first[key] = _with_boxes_of(kept, item)
        else:
            used = counted(len(kept.image.boxes), "box is", "boxes are")
            text = (f"the same image as {kept.shown}, whose {used} used, not the "
                    f"{len(item.image.boxes)} here")
            findings.append(finding("W107", item.label_shown, text, image=kept.shown))
    return sorted(first.values(), key=lambda item: item.shown), findings


def _same_boxes(item: Item, other: Item) -> bool:
    return plain_boxes(item.image.boxes) == plain_boxes(other.image.boxes)


def _classes(item: Item) -> set[str]:
    return {box.class_name for box in item.image.boxes}


def _with_boxes_of(kept: Item, other: Item) -> Item:
    """Return `kept` with the boxes of both. Lines are dropped: they would point into two files."""
    boxes = tuple(replace(box, line=0) for box in kept.image.boxes + other.image.boxes)
    shown = f"{kept.label_shown} and {other.label_shown}"
    return replace(kept, image=replace(kept.image, boxes=boxes), label_shown=shown)

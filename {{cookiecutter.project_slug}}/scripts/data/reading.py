"""TODO."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from scripts.core.runtime import map_items
from scripts.core.text import counted
from scripts.data.dataset import Box, Image, Labels
from scripts.data.findings import Finding, finding
from scripts.data.image_files import EXTENSIONS, ImageFacts, inspect_image, swaps_sides
from scripts.data.pairing import Entry, plain_boxes, read_labels
from scripts.data.source import SourceFiles, same_name, split_of

# Fractions are written with six digits by most tools; that is at most this part of a side.
_ROUNDING = 2e-6



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
        return self.name + EXTENSIONS[self.facts.format]



def _exif_findings(
    shown: str, facts: ImageFacts, labels: Labels | None, exif: str, label_shown: str
) -> list[Finding]:
    if facts.orientation == 1:
        return []
    turned = swaps_sides(facts.orientation) and facts.width_px != facts.height_px
    stored = (facts.width_px, facts.height_px)
    if exif == "displayed" and swaps_sides(facts.orientation):
        stored = stored[::-1]
    declared = (labels.width_px, labels.height_px) if labels else (0, 0)
    drawn_on = {stored: "stored", stored[::-1]: "displayed"}.get(declared, "") if turned else ""
    hint = f"; its label file says {declared[0]}x{declared[1]}, the size of the {drawn_on} view" if drawn_on else ""
    if exif == "error":
        return [finding("E007", shown, f"EXIF orientation {facts.orientation}{hint}")]
    found = []
    if exif == "displayed":
        found.append(finding("R205", shown, f"EXIF orientation {facts.orientation}: turned upright, without the tag"))
    if drawn_on and drawn_on != exif:
        text = f"source.exif is '{exif}'{hint}"
        found.append(finding("W109", label_shown, text, labels.size_line, image=shown))
    return found



def _label_repairs(shown: str, facts: ImageFacts, image: Path, entry: Entry) -> list[tuple[str, str, int]]:
    """Code, message and line of what was wrong with the label file and is right in memory."""
    labels, found = entry.labels, [(note.code, note.message, note.line) for note in entry.labels.notes]
    real, declared = (facts.width_px, facts.height_px), (labels.width_px, labels.height_px)
    turned = facts.orientation >= 5 and declared == real[::-1]
    # Formats that state no size at all have none to be wrong.
    if declared != real and not turned and (any(declared) or entry.file.format == "voc"):
        text = f"size {declared[0]}x{declared[1]}, image {real[0]}x{real[1]}"
        found.append(("R201" if 0 in declared else "R202", text, labels.size_line))
    if labels.depth not in (0, 3):
        found.append(("R211", f"depth {labels.depth}, read as 3 channels", labels.size_line))
    if entry.file.format == "voc" and labels.image != image.name:
        found.append(("R208", f"<filename> '{labels.image}' is not '{image.name}'", 0))
    return found



def _image_repairs(shown: str, facts: ImageFacts, image: Path, exif: str) -> list[Finding]:
    suffixes = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}.get(facts.source_format)
    if suffixes is None:
        return [finding("R204", shown, f"{facts.source_format} written as {facts.format}")]
    found = []
    if image.suffix.lower() not in suffixes:
        found.append(finding("R203", shown, f"'{image.name}' is {facts.source_format}"))
    if facts.staged and not (exif == "displayed" and facts.orientation != 1):  # turned ones are R205
        found.append(finding("R217", shown, f"'{image.name}' has no sound end, or a wrong checksum"))
    if facts.mode != "RGB":
        found.append(finding("R210", shown, f"mode {facts.mode}, read as RGB"))
    return found



def _in_pixels(labels: Labels, width_px: int, height_px: int) -> tuple[tuple[Box, ...], list[int]]:
    """The boxes in pixels, and the lines of those that reached past the border by no more than
    rounding.

    Pixel edges stay as they are. Fractions are multiplied by the sides; a corner that is out by the
    rounding of six digits is put on the border.
    """
    if not labels.fractions:
        return labels.boxes, []
    boxes, clipped = [], []
    for box in labels.boxes:
        inside = tuple(min(max(v, 0.0), 1.0) if -_ROUNDING <= v <= 1 + _ROUNDING else v for v in box.xyxy_px)
        if any(value != value_in for value, value_in in zip(box.xyxy_px, inside, strict=True) if value == value):
            clipped.append(box.line)
        sides = (width_px, height_px) * 2
        boxes.append(replace(box, xyxy_px=tuple(v * side for v, side in zip(inside, sides, strict=True))))
    return tuple(boxes), clipped



class SourceReader:
    """Reads all images of a source once and sorts them into usable items and findings."""

    def __init__(self, files: SourceFiles, source, staging: Path):
        self.files, self.exif, self.unlabeled, self.staging = files, source.exif, source.unlabeled, staging
        self.labels = read_labels(files, source.format)
        self.findings: list[Finding] = list(self.labels.findings)
        self.skipped = 0

    def read(self) -> list[Item]:
        """The usable items in the order of their paths."""
        images = [path for path in self.files.images if path not in self.labels.left_out]
        tasks = [(str(path), self.exif, str(self.staging)) for path in images]
        facts = map_items(inspect_image, tasks, "organize")
        items = [self._item(path, found) for path, found in zip(images, facts, strict=True)]
        return [item for item in items if item is not None]

    def _item(self, path: Path, facts: ImageFacts) -> Item | None:
        shown, entry = self.files.show(path), self.labels.entries.get(path)
        if facts.error:
            self.findings.append(finding("E010", shown, f"'{path.name}': {facts.error}"))
            return None
        if entry is None and self.unlabeled != "negative":
            self.skipped += 1
            if self.unlabeled == "error":
                self.findings.append(finding("E012", shown, f"no label file names '{path.name}'"))
            return None
        self.findings += _image_repairs(shown, facts, path, self.exif)
        label_path = entry.file.path if entry else None
        label_shown = self.files.show(label_path) if label_path else ""
        boxes: tuple[Box, ...] = ()
        if entry:
            boxes, clipped = _in_pixels(entry.labels, facts.width_px, facts.height_px)
            found = _label_repairs(label_shown, facts, path, entry)
            found += [("R212", "a corner was past the border by rounding: put on it", line) for line in clipped]
            self.findings += [finding(code, label_shown, text, line, image=shown) for code, text, line in found]
        self.findings += _exif_findings(shown, facts, entry.labels if entry else None, self.exif, label_shown)
        split = self.labels.splits.get(path) or split_of(path, self.files.folder)
        image = Image(path, facts.width_px, facts.height_px, boxes, label_path, split)
        return Item(image, facts, shown, label_shown, entry.file.format if entry else "")



def _same_boxes(one: Item, other: Item) -> bool:
    return plain_boxes(one.image.boxes) == plain_boxes(other.image.boxes)



def drop_duplicates(items: list[Item]) -> tuple[list[Item], list[Finding]]:
    """Keep the first of images with equal bytes in one split, a labeled one before one without
    label file.

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
        if _same_boxes(kept, item) or not item.label_shown:
            findings.append(finding("R207", item.shown, f"the same image as {kept.shown}: kept once"))
        elif kept.label_format == item.label_format == "oidv4" and not _classes(kept) & _classes(item):
            findings.append(finding("R215", item.label_shown, f"its boxes joined those of {kept.shown}"))
            first[key] = _with_boxes_of(kept, item)
        else:
            here, there = len(item.image.boxes), len(kept.image.boxes)
            used = counted(there, "box is", "boxes are")
            text = f"the same image as {kept.shown}, whose {used} used, not the {here} here"
            findings.append(finding("W107", item.label_shown, text, image=kept.shown))
    return sorted(first.values(), key=lambda item: item.shown), findings



def _classes(item: Item) -> set[str]:
    return {box.class_name for box in item.image.boxes}



def _with_boxes_of(kept: Item, other: Item) -> Item:
    """`kept` with the boxes of both. Lines are dropped: they would point into two files."""
    boxes = tuple(replace(box, line=0) for box in kept.image.boxes + other.image.boxes)
    shown = f"{kept.label_shown} and {other.label_shown}"
    return replace(kept, image=replace(kept.image, boxes=boxes), label_shown=shown)


_DEEPEST = 8



def _with_folders(shown: str, depth: int) -> str:
    """`upper_folder_stem` with `depth` folders in front, or fewer when the path has fewer."""
    path = PurePosixPath(shown)
    folders = [part for part in path.parts[:-1] if part not in ("/", "..", ".", "~")]
    return "_".join([*folders[len(folders) - min(depth, len(folders)) :], path.stem])



def _distinct(shown: list[str], used: set[str]) -> list[str]:
    """A free name for each path of a group, with as few folders in front as tell them apart."""
    for depth in range(len(shown) > 1, _DEEPEST):
        names = [_with_folders(path, depth) for path in shown]
        keys = {same_name(name) for name in names}
        if len(keys) == len(names) and not keys & used:
            return names
    numbered = (f"{_with_folders(shown[0], 1)}_{number}" for number in range(2, 2 + len(used) + 2 * len(shown)))
    return [name for name in numbered if same_name(name) not in used][: len(shown)]



def give_names(items: list[Item], known: dict[str, str]) -> tuple[list[Item], int]:
    """Items with their `name`, and how many differ from the name of their file.

    `known` maps a source file to the name it got in an earlier run: it keeps that, whatever came
    later. Of several new images with one name all get folders in front, so the order does not
    matter.
    """
    names = {item.shown: known[item.shown] for item in items if item.shown in known}
    used = {same_name(name) for name in known.values()}
    groups = defaultdict(list)
    for item in items:
        if item.shown not in names:
            groups[same_name(PurePosixPath(item.shown).stem)].append(item.shown)
    for _, shown in sorted(groups.items(), key=lambda group: (len(group[1]) > 1, group[0])):  # plain names first
        for path, name in zip(shown, _distinct(shown, used), strict=True):
            names[path] = name
            used.add(same_name(name))
    renamed = sum(names[item.shown] != PurePosixPath(item.shown).stem for item in items)
    return [replace(item, name=names[item.shown]) for item in items], renamed

"""From source files to items: picture, facts and boxes together, and what is wrong with them."""

from dataclasses import dataclass, replace
from pathlib import Path

from scripts.pictures.dataset import Picture
from scripts.pictures.decode import EXTENSIONS, PictureFacts, inspect_picture, swaps_sides
from scripts.pictures.findings import Finding, finding
from scripts.pictures.pool import map_items
from scripts.pictures.source import SourceFiles, pair_labels, split_of
from scripts.pictures.formats.voc import VocError, VocFile, read_voc
from scripts.pipeline.words import counted


@dataclass(frozen=True)
class Item:
    """A usable picture of the source.

    `shown` and `label_shown` are its files as the user knows them ("": no label file).
    `name` is its name in `images/` without extension; `picture.split` is the source's, later the final split.
    """

    picture: Picture
    facts: PictureFacts
    shown: str
    label_shown: str
    name: str = ""

    @property
    def file_name(self) -> str:
        """File name in `images/`, extension by content."""
        return self.name + EXTENSIONS[self.facts.format]


def _exif_findings(
    shown: str, facts: PictureFacts, label: VocFile | None, exif: str, label_shown: str
) -> list[Finding]:
    if facts.orientation == 1:
        return []
    turned = swaps_sides(facts.orientation) and facts.width_px != facts.height_px
    stored = (facts.width_px, facts.height_px)
    if exif == "displayed" and swaps_sides(facts.orientation):
        stored = stored[::-1]
    declared = (label.width_px, label.height_px) if label else (0, 0)
    drawn_on = {stored: "stored", stored[::-1]: "displayed"}.get(declared, "") if turned else ""
    hint = f"; its label file says {declared[0]}x{declared[1]}, the size of the {drawn_on} view" if drawn_on else ""
    if exif == "error":
        return [finding("E007", shown, f"EXIF orientation {facts.orientation}{hint}")]
    found = []
    if exif == "displayed":
        found.append(finding("R205", shown, f"EXIF orientation {facts.orientation}: turned upright, without the tag"))
    if drawn_on and drawn_on != exif:
        text = f"source.exif is '{exif}'{hint}"
        found.append(finding("W109", label_shown, text, label.size_line))
    return found


def _label_repairs(shown: str, facts: PictureFacts, picture: Path, label: VocFile) -> list[Finding]:
    found, declared = [], (label.width_px, label.height_px)
    real = (facts.width_px, facts.height_px)
    if 0 in declared:
        found.append(
            finding("R201", shown, f"size {declared[0]}x{declared[1]}, picture {real[0]}x{real[1]}", label.size_line)
        )
    elif declared != real and not (facts.orientation >= 5 and declared == real[::-1]):
        found.append(
            finding("R202", shown, f"size {declared[0]}x{declared[1]}, picture {real[0]}x{real[1]}", label.size_line)
        )
    if label.filename != picture.name:
        found.append(finding("R208", shown, f"<filename> '{label.filename}' is not '{picture.name}'"))
    found += [finding("R206", shown, "coordinates with a decimal comma", line) for line in label.comma_lines]
    return found


def _picture_repairs(shown: str, facts: PictureFacts, picture: Path) -> list[Finding]:
    suffixes = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}.get(facts.source_format)
    if suffixes is None:
        return [finding("R204", shown, f"{facts.source_format} written as {facts.format}")]
    if picture.suffix.lower() not in suffixes:
        return [finding("R203", shown, f"'{picture.name}' is {facts.source_format}")]
    return []


class SourceReader:
    """Reads all pictures of a source once and sorts them into usable items and findings."""

    def __init__(self, files: SourceFiles, exif: str, unlabelled: str, staging: Path):
        self.files, self.exif, self.unlabelled, self.staging = files, exif, unlabelled, staging
        self.findings: list[Finding] = []
        self.skipped = 0

    def read(self) -> list[Item]:
        """The usable items in the order of their paths."""
        pairs, self.findings = pair_labels(self.files)
        tasks = [(str(picture), self.exif, str(self.staging)) for picture in pairs]
        facts = map_items(inspect_picture, tasks, "organize")
        items = [
            self._item(picture, label, found) for (picture, label), found in zip(pairs.items(), facts, strict=True)
        ]
        return [item for item in items if item is not None]

    def _item(self, path: Path, label_path: Path | None, facts: PictureFacts) -> Item | None:
        shown = self.files.show(path)
        if facts.error:
            self.findings.append(finding("E010", shown, f"'{path.name}': {facts.error}"))
            return None
        if label_path is None:
            return self._unlabelled(path, shown, facts)
        label_shown = self.files.show(label_path)
        try:
            label = read_voc(label_path)
        except VocError as error:
            self.findings.append(finding("E019", label_shown, f"'{label_path.name}': {error}", error.line))
            return None
        self.findings += _picture_repairs(shown, facts, path)
        self.findings += _label_repairs(label_shown, facts, path, label)
        self.findings += _exif_findings(shown, facts, label, self.exif, label_shown)
        return self._build(path, label_path, facts, label.boxes)

    def _unlabelled(self, path: Path, shown: str, facts: PictureFacts) -> Item | None:
        if self.unlabelled == "negative":
            self.findings += _picture_repairs(shown, facts, path)
            self.findings += _exif_findings(shown, facts, None, self.exif, "")
            return self._build(path, None, facts, ())
        self.skipped += 1
        if self.unlabelled == "error":
            self.findings.append(finding("E012", shown, f"no .xml file is named '{path.stem}'"))
        return None

    def _build(self, path: Path, label_path: Path | None, facts: PictureFacts, boxes: tuple) -> Item:
        picture = Picture(path, facts.width_px, facts.height_px, boxes, label_path, split_of(path, self.files.folder))
        return Item(picture, facts, self.files.show(path), self.files.show(label_path) if label_path else "")


def _same_boxes(one: Item, other: Item) -> bool:
    def plain(item):
        return sorted(repr(replace(box, line=0)) for box in item.picture.boxes)

    return plain(one) == plain(other)


def drop_twins(items: list[Item]) -> tuple[list[Item], list[Finding]]:
    """Keep the first of pictures with equal bytes in one split, a labelled one before one without label file.

    A twin with the same boxes is dropped as a repair; one with other boxes as a warning, since only a person
    can tell which boxes are right.
    """
    first: dict[tuple[str, str], Item] = {}
    findings = []
    for item in sorted(items, key=lambda item: (not item.label_shown, item.shown)):
        kept = first.setdefault((item.facts.sha256, item.picture.split), item)
        if kept is item:
            continue
        if _same_boxes(kept, item) or not item.label_shown:
            findings.append(finding("R207", item.shown, f"the same picture as {kept.shown}: kept once"))
        else:
            here, there = len(item.picture.boxes), len(kept.picture.boxes)
            used = counted(there, "box is", "boxes are")
            text = f"the same picture as {kept.shown}, whose {used} used, not the {here} here"
            findings.append(finding("W107", item.label_shown, text, picture=kept.shown))
    return sorted(first.values(), key=lambda item: item.shown), findings

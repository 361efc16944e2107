"""Where a labelled box is written: the file and line that a person opens to correct it."""

from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.dataset import LabelError
from scripts.pictures.ledger import read_ledger
from scripts.pictures.stored import read_label, shown_lines
from scripts.records.label_map import LABEL_MAP, read_label_map
from scripts.records.table import usable_box

NEAR_PX = 0.1
"""Records hold fractions in float32: edges come back to a thousandth of a pixel."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """A file as findings of `check` name it, and a line in it; None for what is not known."""

    file: str | None
    line: int | None


@dataclass(frozen=True)
class _Labels:
    file: str | None
    boxes: tuple[tuple[str, Corners, int], ...] = ()


class LabelPlaces:
    """Looks up boxes of the records in the label files that they came from, each file read once.

    The place is in the source as long as the label file in `images/` is as organize wrote it, else in `images/`.
    """

    def __init__(self, root: Path):
        self.root = root
        self._entries = {entry["name"]: entry for entry in read_ledger(root)["pictures"]}
        self._classes = set(read_label_map(root / LABEL_MAP).values())
        self._read: dict[str, _Labels] = {}

    def of(self, split: str, image: dict, class_name: str | None, xyxy_px: Corners | None) -> Place:
        """The place of a box of an `image` of COCO's; without box, or when it is not found: the file alone."""
        key = f"images/{split}/{image['file_name']}"
        if key not in self._read:
            self._read[key] = self._labels(self.root / key, image["width"], image["height"])
        found = self._read[key]
        for name, edges, line in found.boxes if xyxy_px else ():
            if name == class_name and all(abs(a - b) <= NEAR_PX for a, b in zip(edges, xyxy_px, strict=True)):
                return Place(found.file, line or None)
        return Place(found.file, None)

    def _labels(self, picture: Path, width_px: int, height_px: int) -> _Labels:
        path, entry = picture.with_suffix(".xml"), self._entries.get(picture.stem)
        try:
            label, as_written = read_label(path, entry)
        except (LabelError, FileNotFoundError):
            return _Labels(None)
        file, lines = shown_lines(self.root, path, label, entry if as_written else None)
        rows = []
        for box, line in zip(label.boxes, lines, strict=True):
            usable, _ = usable_box(box, width_px, height_px, self._classes)
            rows += [(usable.class_name, usable.xyxy_px, line)] if usable else []
        return _Labels(file, tuple(rows))

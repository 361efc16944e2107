"""What `invoke check --fix` repairs in `images/` without a person looking at the images.

`plan_fixes` finds all edits without writing anything, so `check` can say how many there are.
`write_fixes` then edits the files of one image. A repair is planned only where a single answer is
possible; everything else stays a finding.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.core.files import write_bytes
from scripts.core.text import DetectorError
from scripts.data.dataset import Box, Corners
from scripts.data.findings import Finding
from scripts.data.formats.voc import edited_voc
from scripts.data.image_files import inspect_bytes, swaps_sides, without_turn
from scripts.data.manifest import Stored
from scripts.data.rules import (
    READ_BY_TENSORFLOW,
    ROUNDING_PX,
    SAME_OBJECT_IOU,
    box_problem,
    box_text,
    class_counts,
    common_spellings,
    folded,
    has_area,
    iou,
    outside_px,
    outside_share,
)
from scripts.data.source import SUFFIXES

# A box may leave the image by this share of a side and be clipped. More is a wrong size or a
# rotated image, and clipping would hide it.
MOST_OUTSIDE = 0.10
# A box with a shorter side shows nothing: it is dropped, and no repair may leave one.
LEAST_PX = 1.0
# Sides that differ by one factor, to this precision, show that the image was resized after it was
# labeled.
SCALED = 0.01

# Letters of a class name that may be wrong, missing or too many.
MOST_TYPOS = 2
# Letters that a name needs for each typing error in it: `cow` is not a misspelled `cat`.
LETTERS_PER_TYPO = 3


# Place in the label file, the new box (None: dropped), code, and what was done.
BoxEdit = tuple[int, Box | None, str, str]


@dataclass(frozen=True)
class Edit:
    """A change at one place.

    `before` and `after` are the values for `annotations/fixes.json`: corners as a list, a name, a
    size, a format; None is a box that is dropped. `text` says the same for a person. `shown_line`
    is the line that the finding names.
    """

    code: str
    file: str
    line: int
    class_name: str
    before: object
    after: object
    text: str
    shown_line: int = 0

    def as_json(self) -> dict:
        """Return the form of `annotations/fixes.json`."""
        return {"code": self.code, "file": self.file, "line": self.line, "class": self.class_name,
                "before": self.before, "after": self.after}

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.code}  {self.text}"


@dataclass
class ImagePlan:
    """All edits of one image and its label file.

    `boxes` are the new boxes by their place in the label file (None: dropped); `size` and
    `filename` the new values of these tags (None: kept); `image` is what happens to the image
    itself: "" (nothing), `encode`, `turn` or `untag`.
    """

    stored: Stored
    edits: list[Edit] = field(default_factory=list)
    boxes: dict[int, Box | None] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    filename: str | None = None
    image: str = ""

    @property
    def image_file(self) -> str:
        """Return the image as messages name it."""
        return f"images/{self.stored.split}/{self.stored.path.name}"

    @property
    def label_file(self) -> str:
        """Return the label file as messages name it."""
        return f"images/{self.stored.split}/{self.stored.path.stem}.xml"

    def edit_box(self, place: int, box: Box | None, code: str, text: str, before: object,
                 after: object) -> None:
        """Replace the box at `place` of the label file, None drops it."""
        old = self.stored.label.boxes[place]
        self.edits.append(Edit(code, self.label_file, old.line, old.class_name, before, after,
                               text, self.stored.lines[place]))
        self.boxes[place] = box


def plan_fixes(images: list[Stored], source, limits) -> list[ImagePlan]:
    """Return the plans of all images that have something to repair.

    A code in `check.accept` is left as it is: what a person accepted is meant.

    Args:
        images: All images of `images/`.
        source: The table [source] of detector.toml.
        limits: The table [check].
    """
    names = renames(images, source.labels, limits.accept)
    plans = [_plan(stored, names, source.exif, limits) for stored in images]
    return [plan for plan in plans if plan.edits]


def repaired_findings(findings: list[Finding], plans: list[ImagePlan]) -> list[Finding]:
    """Return the findings that the plans repair."""
    edits = Counter((edit.code, plan.stored.path.name, edit.shown_line)
                    for plan in plans for edit in plan.edits)
    repaired = []
    for finding in findings:
        key = (finding.code, finding.image, finding.line)
        if edits[key]:
            edits[key] -= 1
            repaired.append(finding)
    return repaired


def _plan(stored: Stored, names: dict[str, tuple[str, str]], exif: str, limits) -> ImagePlan:
    plan = ImagePlan(stored)
    if stored.facts.error:
        return plan  # nothing is known about an image that cannot be read
    width_px, height_px = _plan_image(plan, exif, limits.accept)
    if stored.label is None:
        return plan
    if "E006" not in limits.accept:
        _plan_size(plan, (width_px, height_px))

    # Names first: two boxes are copies of each other only under the same name.
    for place, box in enumerate(stored.label.boxes):
        if box.class_name in names:
            code, name = names[box.class_name]
            plan.edit_box(place, replace(box, class_name=name), code,
                          f"'{box.class_name}' renamed to '{name}'", box.class_name, name)
    boxes = [plan.boxes.get(place, box) for place, box in enumerate(stored.label.boxes)]
    for place, box, code, text in _box_edits(boxes, width_px, height_px, limits):
        before = [None if value != value else value for value in boxes[place].xyxy_px]
        after = None if box is None else list(box.xyxy_px)
        plan.edit_box(place, box, code, f"'{boxes[place].class_name}' {text}", before, after)
    return plan


# Class names that are typing errors, and of which name.


def renames(images: list[Stored], labels: Sequence[str],
            accept: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return code and right name for each class name that is to be corrected."""
    counts = class_counts(images)
    if not labels:
        found = common_spellings(counts) if "W108" not in accept else {}
        return {name: ("W108", common) for name, common in found.items()}
    if "E001" in accept:
        return {}
    meant = {name: _meant_label(name, labels, counts)
             for name in counts if name and name not in labels}
    return {name: ("E001", label) for name, label in meant.items() if label}


def _meant_label(name: str, labels: Sequence[str], counts: Counter) -> str:
    """Return the one label that a name is meant to be, "" when that is not certain.

    Another spelling of a label is certain. A typing error keeps the first letter (`bear` is not a
    misspelled `pear`), is near to no other label, and is rarer than the right name: a name with
    more boxes is a class, or the setting is wrong.
    """
    same = [label for label in labels if folded(label) == folded(name)]
    if same:
        return same[0] if len(same) == 1 else ""
    typos = {label: edit_distance(folded(name), folded(label)) for label in labels}
    near = [label for label in labels if typos[label] <= MOST_TYPOS]
    if len(near) != 1:
        return ""
    label = near[0]
    if folded(label)[:1] != folded(name)[:1] or counts[name] > counts[label]:
        return ""
    return label if len(folded(name)) >= LETTERS_PER_TYPO * typos[label] else ""


def edit_distance(text: str, other: str) -> int:
    """Return the Levenshtein distance: letters to change, add or remove."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(text, 1):
        corner, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            changed = corner + (letter != wanted)
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


# Corners of boxes.


def _box_edits(boxes: list[Box], width_px: int, height_px: int, limits) -> Iterator[BoxEdit]:
    now: list[Box | None] = list(boxes)
    for place, box in enumerate(boxes):
        problem = box_problem(box, width_px, height_px, limits.min_box_px)
        if not problem or problem[0] in limits.accept:
            continue
        repaired = _repaired(problem[0], box, width_px, height_px)
        if repaired:
            now[place], text = repaired
            yield place, now[place], problem[0], text
    if "W115" not in limits.accept:
        yield from _copies(now)


def _repaired(code: str, box: Box, width_px: int, height_px: int) -> tuple[Box | None, str] | None:
    """Return the repaired box (None: drop it) and what was done; None to leave it as it is."""
    if code == "E008":
        return None, "dropped, its corners are no numbers"
    xmin, ymin, xmax, ymax = box.xyxy_px
    start = box_text(box.xyxy_px)
    if code == "E004" and _shorter_side_px(box.xyxy_px) < LEAST_PX:
        return None, f"dropped {start}"
    if code == "E003":
        swapped = (min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
        is_inside = outside_px(swapped, width_px, height_px) <= ROUNDING_PX
        if is_inside and _shorter_side_px(swapped) >= LEAST_PX:
            return replace(box, xyxy_px=swapped), f"swapped {start} to {box_text(swapped)}"
    if code == "E005" and outside_share(box.xyxy_px, width_px, height_px) <= MOST_OUTSIDE:
        clipped = (max(xmin, 0.0), max(ymin, 0.0),
                   min(xmax, float(width_px)), min(ymax, float(height_px)))
        if _shorter_side_px(clipped) >= LEAST_PX:
            return replace(box, xyxy_px=clipped), f"clipped {start} to {box_text(clipped)}"
    return None


def _shorter_side_px(xyxy_px: Corners) -> float:
    return min(xyxy_px[2] - xyxy_px[0], xyxy_px[3] - xyxy_px[1])


def _copies(boxes: list[Box | None]) -> Iterator[BoxEdit]:
    """Drop boxes that repeat an earlier one to the pixel.

    Boxes that differ by more may be two objects: a person has to look.
    """
    kept: list[Box] = []
    for place, box in enumerate(boxes):
        if box is None or box.group_of or box.is_crowd or not has_area(box):
            continue
        if any(_is_copy(box, seen) for seen in kept):
            text = f"dropped {box_text(box.xyxy_px)}, the same box stands above"
            yield place, None, "W115", text
        else:
            kept.append(box)


def _is_copy(box: Box, seen: Box) -> bool:
    if box.class_name != seen.class_name:
        return False
    near = all(abs(edge - other) < LEAST_PX
               for edge, other in zip(box.xyxy_px, seen.xyxy_px, strict=True))
    return near and iou(box, seen) > SAME_OBJECT_IOU


# The image itself and the size in its label file.


def _plan_image(plan: ImagePlan, exif: str, accept: Collection[str]) -> tuple[int, int]:
    """Plan what happens to the image; return its width and height afterwards, in pixels."""
    stored, facts = plan.stored, plan.stored.facts
    size = (facts.width_px, facts.height_px)
    turned = facts.orientation != 1
    if turned and exif == "error":
        return size  # only a person knows on which view the boxes were drawn
    upright = turned and exif == "displayed"
    if facts.source_format.lower() not in READ_BY_TENSORFLOW:
        target = _encoded_path(stored)
        if "E022" in accept or (target != stored.path and target.exists()):
            return size
        plan.image, plan.filename = "encode", target.name
        text = f"{facts.source_format} written as {target.name}"
        text += ", turned upright" if upright else ""
        plan.edits.append(Edit("E022", plan.image_file, 0, "", facts.source_format, target.name,
                               text))
    elif turned and "E007" not in accept:
        plan.image = "turn" if upright else "untag"
        action = "turned upright" if upright else "tag set to 1, the pixels as they were"
        text = f"EXIF orientation {facts.orientation}: {action}"
        plan.edits.append(Edit("E007", plan.image_file, 0, "", facts.orientation, 1, text))
    if not (plan.image and upright and swaps_sides(facts.orientation)):
        return size
    if stored.label and (stored.label.width_px, stored.label.height_px) == size:
        plan.size = size[::-1]
    return size[::-1]


def _encoded_path(stored: Stored) -> Path:
    """Return where an image goes when it is written as a JPEG or PNG."""
    if stored.path.suffix.lower() in SUFFIXES[stored.facts.format]:
        return stored.path
    return stored.path.with_suffix(SUFFIXES[stored.facts.format][0])


def _plan_size(plan: ImagePlan, real: tuple[int, int]) -> None:
    """Plan to correct the declared size, unless the boxes may belong to another view."""
    label = plan.stored.label
    declared = plan.size or (label.width_px, label.height_px)
    if declared == real or 0 in declared or _is_other_view(declared, real, label.boxes):
        return
    plan.size = real
    text = f"size {declared[0]}x{declared[1]} corrected to {real[0]}x{real[1]}"
    plan.edits.append(Edit("E006", plan.label_file, label.size_line, "", list(declared),
                           list(real), text, label.size_line))


def _is_other_view(declared: tuple[int, int], real: tuple[int, int], boxes: Sequence[Box]) -> bool:
    """Return whether the declared size is that of a resized or rotated image, or a box needs it."""
    across, down = declared[0] / real[0], declared[1] / real[1]
    if abs(across - down) <= SCALED * across or declared == real[::-1]:
        return True
    return any(box.xyxy_px[2] > real[0] or box.xyxy_px[3] > real[1] for box in boxes)


# Writing.


def write_fixes(plan: ImagePlan, exif: str) -> list[Edit]:
    """Write the files of one image, each completely or not at all; return the edits that were made.

    `exif` is `source.exif`. The label file comes first: if the image is not written after it, it is
    still turned or in another format, and the next run finds it again.
    """
    path, stored = plan.stored.path, plan.stored
    image = _image_bytes(plan, exif)
    if plan.image and image is None:
        # The orientation stands where it cannot be changed: finding and size stay.
        plan.edits = [edit for edit in plan.edits if edit.code not in ("E007", "E022")]
        plan.filename = None
    label_path = path.with_suffix(".xml")
    if stored.label and (plan.boxes or plan.size or plan.filename):
        data = label_path.read_bytes()
        write_bytes(label_path, edited_voc(data, plan.boxes, plan.size, plan.filename))
    if image is not None:
        target = _encoded_path(stored) if plan.image == "encode" else path
        write_bytes(target, image)
        if target != path:
            path.unlink()
    return plan.edits


def _image_bytes(plan: ImagePlan, exif: str) -> bytes | None:
    """Return the new bytes of the image, None when it stays."""
    if not plan.image:
        return None
    data = plan.stored.path.read_bytes()
    if plan.image == "untag":
        return without_turn(data)
    return inspect_bytes(data, "displayed" if exif == "displayed" else "stored")[1]


def read_fixes(path: Path) -> list[dict]:
    """Return the edits of `fixes.json`, every one that `--fix` ever made, the oldest first.

    Raises:
        DetectorError: The file is there and is something else.
    """
    try:
        journal = json.loads(path.read_text("utf-8"))
        if journal["schema"] == 1 and isinstance(journal["fixes"], list):
            return journal["fixes"]
        problem = f"schema {journal['schema']!r} is not 1"
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: annotations/{path.name}: "
                        "move it away, then `invoke check --fix`")

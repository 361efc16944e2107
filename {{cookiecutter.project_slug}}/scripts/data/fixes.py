"""One edit of a file in `images/`, and all edits of one image."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lxml import etree

from scripts.core.files import write_bytes, write_json
from scripts.core.text import DetectorError
from scripts.data.dataset import Box
from scripts.data.findings import Finding
from scripts.data.formats.voc import format_number
from scripts.data.image_files import EXTENSIONS, inspect_bytes, swaps_sides, without_turn
from scripts.data.manifest import Stored
from scripts.data.rules import (
    READ_BY_TENSORFLOW,
    ROUNDING_PX,
    SAME_THING_IOU,
    box_problem,
    box_text,
    common_spellings,
    folded,
    has_area,
    iou,
    numbered_boxes,
    outside_px,
    outside_share,
)


@dataclass(frozen=True)
class Edit:
    """What is changed at one place: the finding it answers, the place, and the value before and
    after.

    `before` and `after` are what goes into `annotations/fixes.json`: corners as a list, a name, a
    size, a format; None is a box that is dropped. `text` is the same for a person. `shown_line` is
    the line that the finding names.
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
        """The form of `annotations/fixes.json`."""
        named = {"code": self.code, "file": self.file, "line": self.line, "class": self.class_name}
        return {**named, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.code}  {self.text}"


@dataclass
class ImagePlan:
    """All edits of one image and its label file.

    `boxes` are the new boxes by their place in the label file, None for one to drop; `size` and
    `filename` the new values of these tags (None: kept); `image` is what happens to the image
    itself: "", `encode`, `turn`, `untag`.
    """

    stored: Stored
    edits: list[Edit] = field(default_factory=list)
    boxes: dict[int, Box | None] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    filename: str | None = None
    image: str = ""


# Which class names are slips of the pen, and of which name.

MOST_SLIPS = 2
"""Letters that may be wrong, missing or too many."""

LETTERS_A_SLIP = 3
"""Letters that a name needs for each slip in it: `cow` is no misspelt `cat`."""


def renames(images: list[Stored], labels: Sequence[str], accept: Collection[str]) -> dict[str, tuple[str, str]]:
    """Code and right name for each name that is to be corrected; none whose code is in `accept`."""
    counts = Counter(box.class_name for stored in images for box, _ in numbered_boxes(stored) if box.class_name)
    if not labels:
        found = common_spellings(counts) if "W108" not in accept else {}
        return {name: ("W108", common) for name, common in found.items()}
    if "E001" in accept:
        return {}
    meant = {name: _meant(name, labels, counts) for name in counts if name not in labels}
    return {name: ("E001", label) for name, label in meant.items() if label}


def _meant(name: str, labels: Sequence[str], counts: Counter) -> str:
    """The one label that `name` is a slip of, "" when that is not certain.

    Another spelling of a label is certain. A slip keeps the first letter (`bear` is no misspelt
    `pear`), is near to no other label, and is rarer than the right name: a name with more boxes is
    a class, or the setting is wrong.
    """
    same = [label for label in labels if folded(label) == folded(name)]
    if same:
        return same[0] if len(same) == 1 else ""
    slips = {label: edit_distance(folded(name), folded(label)) for label in labels}
    near = [label for label in labels if slips[label] <= MOST_SLIPS]
    if len(near) != 1 or folded(near[0])[:1] != folded(name)[:1] or counts[name] > counts[near[0]]:
        return ""
    return near[0] if len(folded(name)) >= LETTERS_A_SLIP * slips[near[0]] else ""


def edit_distance(one: str, other: str) -> int:
    """Letters to change, add or take away to get from one text to the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (letter != wanted))
    return row[-1]


# Boxes that can be repaired without looking at the image.

MOST_OUTSIDE = 0.10
"""Share of the side by which a box may leave and be clipped. More is a wrong size or a turned
image, and clipping would hide it."""

LEAST_PX = 1.0
"""A box with a shorter side shows nothing: it is dropped, and no repair may leave one."""

# (place in the label file, box as it becomes or None, code, what was done)
BoxEdit = tuple[int, Box | None, str, str]


def box_edits(
    boxes: list[Box], width_px: int, height_px: int, min_box_px: float, accept: Collection[str]
) -> Iterator[BoxEdit]:
    """Edits of the corners of `boxes`, for codes that are not in `accept`."""
    now: list[Box | None] = list(boxes)
    for place, box in enumerate(boxes):
        problem = box_problem(box, width_px, height_px, min_box_px)
        if not problem or problem[0] in accept:
            continue
        repaired = _repaired(problem[0], box, width_px, height_px)
        if repaired:
            now[place], text = repaired
            yield place, now[place], problem[0], text
    if "W115" not in accept:
        yield from _copies(now)


def _repaired(code: str, box: Box, width_px: int, height_px: int) -> tuple[Box | None, str] | None:
    if code == "E008":
        return None, "dropped, its corners are no numbers"
    xmin, ymin, xmax, ymax = corners = box.xyxy_px
    start = box_text(corners)
    if code == "E004" and min(xmax - xmin, ymax - ymin) < LEAST_PX:
        return None, f"dropped {start}"
    if code == "E003":
        swapped = (min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
        if outside_px(swapped, width_px, height_px) <= ROUNDING_PX and _visible(swapped):
            return replace(box, xyxy_px=swapped), f"swapped {start} to {box_text(swapped)}"
    if code == "E005" and outside_share(corners, width_px, height_px) <= MOST_OUTSIDE:
        clipped = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width_px)), min(ymax, float(height_px)))
        if _visible(clipped):
            return replace(box, xyxy_px=clipped), f"clipped {start} to {box_text(clipped)}"
    return None


def _visible(xyxy_px: tuple[float, float, float, float]) -> bool:
    return min(xyxy_px[2] - xyxy_px[0], xyxy_px[3] - xyxy_px[1]) >= LEAST_PX


def _copies(boxes: list[Box | None]) -> Iterator[BoxEdit]:
    """Boxes that repeat an earlier one to the pixel. What differs by more may be two things: a
    person has to look."""
    kept: list[Box] = []
    for place, box in enumerate(boxes):
        if box is None or box.group_of or box.is_crowd or not has_area(box):
            continue
        if any(_is_copy(box, seen) for seen in kept):
            yield place, None, "W115", f"dropped {box_text(box.xyxy_px)}, the same box stands above"
        else:
            kept.append(box)


def _is_copy(box: Box, seen: Box) -> bool:
    if box.class_name != seen.class_name:
        return False
    near = all(abs(one - other) < LEAST_PX for one, other in zip(box.xyxy_px, seen.xyxy_px, strict=True))
    return near and iou(box, seen) > SAME_THING_IOU


# What `--fix` would do, found without writing anything: `check` counts it, `fix` does it.

SCALED = 0.01
"""Sides that differ by one factor, to this precision, tell that the image was resized after it was
labeled."""

_SUFFIXES = {"jpeg": (".jpg", ".jpeg"), "png": (".png",)}


@dataclass(frozen=True)
class Policy:
    """What the settings say about repairs: `source.labels`, `source.exif`, `check.accept`,
    `check.min_box_px`.

    A code in `accept` is left as it is: what a person has accepted is meant.
    """

    labels: Sequence[str]
    exif: str
    accept: Collection[str]
    min_box_px: float


def plan_fixes(root: Path, images: list[Stored], policy: Policy) -> list[ImagePlan]:
    """The plans of all images that have something to repair."""
    names = renames(images, policy.labels, policy.accept)
    plans = [_plan(root, stored, names, policy) for stored in images]
    return [plan for plan in plans if plan.edits]


def answered(findings: list[Finding], plans: list[ImagePlan]) -> list[Finding]:
    """The findings that the plans repair."""
    edits = Counter((edit.code, plan.stored.path.name, edit.shown_line) for plan in plans for edit in plan.edits)
    found = []
    for one in findings:
        key = (one.code, one.image, one.line)
        if edits[key]:
            edits[key] -= 1
            found.append(one)
    return found


def _plan(root: Path, stored: Stored, names: dict[str, tuple[str, str]], policy: Policy) -> ImagePlan:
    plan = ImagePlan(stored)
    if stored.facts.error:
        return plan  # nothing is known about an image that cannot be read
    width_px, height_px = _plan_image(root, plan, policy)
    if stored.label is None:
        return plan
    _plan_size(root, plan, (width_px, height_px), policy)
    _plan_names(root, plan, names)
    boxes = [plan.boxes.get(place, box) for place, box in enumerate(stored.label.boxes)]
    for place, box, code, text in box_edits(boxes, width_px, height_px, policy.min_box_px, policy.accept):
        before = [None if value != value else value for value in boxes[place].xyxy_px]
        after = None if box is None else list(box.xyxy_px)
        _add(root, plan, place, code, f"'{boxes[place].class_name}' {text}", before, after)
        plan.boxes[place] = box
    return plan


def _add(root: Path, plan: ImagePlan, place: int, code: str, text: str, before: object, after: object) -> None:
    stored = plan.stored
    box, shown_line = stored.label.boxes[place], stored.lines[place]
    label = stored.path.with_suffix(".xml").relative_to(root).as_posix()
    plan.edits.append(Edit(code, label, box.line, box.class_name, before, after, text, shown_line))


def _plan_names(root: Path, plan: ImagePlan, names: dict[str, tuple[str, str]]) -> None:
    for place, box in enumerate(plan.stored.label.boxes):
        if box.class_name in names:
            code, name = names[box.class_name]
            _add(root, plan, place, code, f"'{box.class_name}' renamed to '{name}'", box.class_name, name)
            plan.boxes[place] = replace(box, class_name=name)


def _plan_image(root: Path, plan: ImagePlan, policy: Policy) -> tuple[int, int]:
    """Plan what happens to the image itself; its width and height afterwards, in pixels."""
    stored, facts = plan.stored, plan.stored.facts
    size = (facts.width_px, facts.height_px)
    file = stored.path.relative_to(root).as_posix()
    turned = facts.orientation != 1
    if turned and policy.exif == "error":
        return size  # only a person knows on which view the boxes were drawn
    upright = turned and policy.exif == "displayed"
    if facts.source_format.lower() not in READ_BY_TENSORFLOW:
        target = stored_as(stored)
        if "E022" in policy.accept or (target != stored.path and target.exists()):
            return size
        plan.image, plan.filename = "encode", target.name
        text = f"{facts.source_format} written as {target.name}" + ", turned upright" * upright
        plan.edits.append(Edit("E022", file, 0, "", facts.source_format, target.name, text))
    elif turned and "E007" not in policy.accept:
        plan.image = "turn" if upright else "untag"
        text = "turned upright" if upright else "tag set to 1, the pixels as they were"
        text = f"EXIF orientation {facts.orientation}: {text}"
        plan.edits.append(Edit("E007", file, 0, "", facts.orientation, 1, text))
    if not (plan.image and upright and swaps_sides(facts.orientation)):
        return size
    if stored.label and (stored.label.width_px, stored.label.height_px) == size:
        plan.size = size[::-1]
    return size[::-1]


def stored_as(stored: Stored) -> Path:
    """Where an image goes when it is written as a JPEG or PNG."""
    fits = stored.path.suffix.lower() in _SUFFIXES[stored.facts.format]
    return stored.path if fits else stored.path.with_suffix(EXTENSIONS[stored.facts.format])


def _plan_size(root: Path, plan: ImagePlan, real: tuple[int, int], policy: Policy) -> None:
    """Plan to correct the declared size, unless it tells that the boxes were drawn on another view
    of the image."""
    label = plan.stored.label
    declared = plan.size or (label.width_px, label.height_px)
    if declared == real or 0 in declared or "E006" in policy.accept or _other_view(declared, real, label.boxes):
        return
    plan.size = real
    text = f"size {declared[0]}x{declared[1]} corrected to {real[0]}x{real[1]}"
    file = plan.stored.path.with_suffix(".xml").relative_to(root).as_posix()
    plan.edits.append(Edit("E006", file, label.size_line, "", list(declared), list(real), text, label.size_line))


def _other_view(declared: tuple[int, int], real: tuple[int, int], boxes: Sequence[Box]) -> bool:
    """Whether the declared size is that of the resized or turned image, or a box needs it."""
    across, down = declared[0] / real[0], declared[1] / real[1]
    if abs(across - down) <= SCALED * across or declared == real[::-1]:
        return True
    return any(box.xyxy_px[2] > real[0] or box.xyxy_px[3] > real[1] for box in boxes)


# Edits of a Pascal VOC label file that leave everything else in it as it is: other tags, comments,
# line breaks.

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def edited_label(
    data: bytes,
    boxes: dict[int, Box | None],
    size: tuple[int, int] | None = None,
    filename: str | None = None,
) -> bytes:
    """The bytes of a label file with class and corners of some boxes replaced, by their place in
    the file.

    None drops a box. `size` is (width, height) in pixels, `filename` the name of the image; None
    keeps them.
    """
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False, huge_tree=False)
    root = etree.fromstring(data, parser)
    objects = root.findall("object")
    for place, box in boxes.items():
        if box is None:
            objects[place].getparent().remove(objects[place])
            continue
        _set(objects[place], "name", box.class_name)
        for tag, value in zip(_CORNERS, box.xyxy_px, strict=True):
            _set(objects[place].find("bndbox"), tag, format_number(value), keep_equal=value)
    if size:
        for tag, side_px in zip(("width", "height"), size, strict=True):
            _set(root.find("size"), tag, str(side_px))
    if filename:
        _set(root, "filename", filename)
    return _bytes(root, data)


def _set(parent, tag: str, text: str, keep_equal: float | None = None) -> None:
    """Set the text of a child. A number that is already equal keeps its spelling (`12.0`)."""
    child = parent.find(tag) if parent is not None else None
    if child is None:
        return
    try:
        if keep_equal is not None and float(child.text) == keep_equal:
            return
    except (TypeError, ValueError):
        pass  # such as a decimal comma: written anew
    child.text = text


def _bytes(root, data: bytes) -> bytes:
    tree = root.getroottree()
    declared = b"<?xml" in data[:60] or data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = etree.tostring(tree, encoding=tree.docinfo.encoding or "UTF-8", xml_declaration=declared)
    return text + b"\n" if data.endswith(b"\n") and not text.endswith(b"\n") else text


# `annotations/fixes.json`: every edit that `invoke check --fix` ever made, the oldest first.

FIXES = "annotations/fixes.json"


def read_fixes(root: Path) -> list[dict]:
    """The edits so far. DetectorError when the file is there and is none of ours."""
    try:
        journal = json.loads((root / FIXES).read_text("utf-8"))
        if journal["schema"] == 1 and isinstance(journal["fixes"], list):
            return journal["fixes"]
        problem = f"schema {journal['schema']!r} is not 1"
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: {FIXES}: move it away, then `invoke check --fix`")


def add_fixes(root: Path, earlier: list[dict], edits: list[Edit]) -> None:
    """Write the edits after the earlier ones; without edits the file is not touched."""
    if edits:
        write_json(root / FIXES, {"schema": 1, "fixes": [*earlier, *(edit.as_json() for edit in edits)]})


# Writing the edits of an image: each file whole or as it was, in an order that a second run can go
# on from.

def apply(plan: ImagePlan, exif: str) -> list[Edit]:
    """Write the edits of one image; those that were done. `exif` is `source.exif`.

    The label file comes first: an image that was left turned or in another format is then still
    found the next time.
    """
    path = plan.stored.path
    image = _image_bytes(plan, exif)
    if plan.image and image is None:
        # Its tag is where we cannot change it; the finding stays, and so does the size.
        plan.edits = [edit for edit in plan.edits if edit.code not in ("E007", "E022")]
        plan.filename = None
    label_path = path.with_suffix(".xml")
    if plan.stored.label and (plan.boxes or plan.size or plan.filename):
        data = edited_label(label_path.read_bytes(), plan.boxes, plan.size, plan.filename)
        write_bytes(label_path, data)
    if image is not None:
        target = stored_as(plan.stored) if plan.image == "encode" else path
        write_bytes(target, image)
        if target != path:
            path.unlink()
    return plan.edits


def _image_bytes(plan: ImagePlan, exif: str) -> bytes | None:
    """The new bytes of the image, None when it stays."""
    if not plan.image:
        return None
    data = plan.stored.path.read_bytes()
    if plan.image == "untag":
        return without_turn(data)
    return inspect_bytes(data, "displayed" if exif == "displayed" else "stored")[1]

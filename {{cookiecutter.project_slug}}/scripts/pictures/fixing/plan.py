"""What `--fix` would do, found without writing anything: `check` counts it, `fix` does it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.pictures.dataset import Box
from scripts.pictures.decode import EXTENSIONS, swaps_sides
from scripts.pictures.findings import Finding
from scripts.pictures.fixing.boxes import box_edits
from scripts.pictures.fixing.edit import Edit, PicturePlan
from scripts.pictures.fixing.names import renames
from scripts.pictures.rules.files import READ_BY_TENSORFLOW
from scripts.pictures.stored import Stored

SCALED = 0.01
"""Sides that differ by one factor, to this precision, tell that the picture was resized after it was labelled."""

_SUFFIXES = {"jpeg": (".jpg", ".jpeg"), "png": (".png",)}


@dataclass(frozen=True)
class Policy:
    """What the settings say about repairs: `source.labels`, `source.exif`, `check.accept`, `check.min_box_px`.

    A code in `accept` is left as it is: what a person has accepted is meant.
    """

    labels: Sequence[str]
    exif: str
    accept: Collection[str]
    min_box_px: float


def plan_fixes(root: Path, pictures: list[Stored], policy: Policy) -> list[PicturePlan]:
    """The plans of all pictures that have something to repair."""
    names = renames(pictures, policy.labels, policy.accept)
    plans = [_plan(root, stored, names, policy) for stored in pictures]
    return [plan for plan in plans if plan.edits]


def answered(findings: list[Finding], plans: list[PicturePlan]) -> list[Finding]:
    """The findings that the plans repair."""
    edits = Counter((edit.code, plan.stored.path.name, edit.shown_line) for plan in plans for edit in plan.edits)
    found = []
    for one in findings:
        key = (one.code, one.picture, one.line)
        if edits[key]:
            edits[key] -= 1
            found.append(one)
    return found


def _plan(root: Path, stored: Stored, names: dict[str, tuple[str, str]], policy: Policy) -> PicturePlan:
    plan = PicturePlan(stored)
    if stored.facts.error:
        return plan  # nothing is known about a picture that cannot be read
    width_px, height_px = _plan_picture(root, plan, policy)
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


def _add(root: Path, plan: PicturePlan, place: int, code: str, text: str, before: object, after: object) -> None:
    stored = plan.stored
    box, shown_line = stored.label.boxes[place], stored.lines[place]
    label = stored.path.with_suffix(".xml").relative_to(root).as_posix()
    plan.edits.append(Edit(code, label, box.line, box.class_name, before, after, text, shown_line))


def _plan_names(root: Path, plan: PicturePlan, names: dict[str, tuple[str, str]]) -> None:
    for place, box in enumerate(plan.stored.label.boxes):
        if box.class_name in names:
            code, name = names[box.class_name]
            _add(root, plan, place, code, f"'{box.class_name}' renamed to '{name}'", box.class_name, name)
            plan.boxes[place] = replace(box, class_name=name)


def _plan_picture(root: Path, plan: PicturePlan, policy: Policy) -> tuple[int, int]:
    """Plan what happens to the picture itself; its width and height afterwards, in pixels."""
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
        plan.picture, plan.filename = "encode", target.name
        text = f"{facts.source_format} written as {target.name}" + ", turned upright" * upright
        plan.edits.append(Edit("E022", file, 0, "", facts.source_format, target.name, text))
    elif turned and "E007" not in policy.accept:
        plan.picture = "turn" if upright else "untag"
        text = "turned upright" if upright else "tag set to 1, the pixels as they were"
        text = f"EXIF orientation {facts.orientation}: {text}"
        plan.edits.append(Edit("E007", file, 0, "", facts.orientation, 1, text))
    if not (plan.picture and upright and swaps_sides(facts.orientation)):
        return size
    if stored.label and (stored.label.width_px, stored.label.height_px) == size:
        plan.size = size[::-1]
    return size[::-1]


def stored_as(stored: Stored) -> Path:
    """Where a picture goes when it is written as a JPEG or PNG."""
    fits = stored.path.suffix.lower() in _SUFFIXES[stored.facts.format]
    return stored.path if fits else stored.path.with_suffix(EXTENSIONS[stored.facts.format])


def _plan_size(root: Path, plan: PicturePlan, real: tuple[int, int], policy: Policy) -> None:
    """Plan to correct the declared size, unless it tells that the boxes were drawn on another view of the picture."""
    label = plan.stored.label
    declared = plan.size or (label.width_px, label.height_px)
    if declared == real or 0 in declared or "E006" in policy.accept or _other_view(declared, real, label.boxes):
        return
    plan.size = real
    text = f"size {declared[0]}x{declared[1]} corrected to {real[0]}x{real[1]}"
    file = plan.stored.path.with_suffix(".xml").relative_to(root).as_posix()
    plan.edits.append(Edit("E006", file, label.size_line, "", list(declared), list(real), text, label.size_line))


def _other_view(declared: tuple[int, int], real: tuple[int, int], boxes: Sequence[Box]) -> bool:
    """Whether the declared size is that of the resized or turned picture, or a box needs it."""
    across, down = declared[0] / real[0], declared[1] / real[1]
    if abs(across - down) <= SCALED * across or declared == real[::-1]:
        return True
    return any(box.xyxy_px[2] > real[0] or box.xyxy_px[3] > real[1] for box in boxes)

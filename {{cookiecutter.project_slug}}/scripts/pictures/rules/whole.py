"""Rules about the set as a whole: things to know, one finding each, that nobody can correct in one file."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.pictures.findings import Finding, finding
from scripts.pictures.rules.boxes import area_px, has_area, numbered_boxes
from scripts.pictures.rules.classes import common_spellings
from scripts.pictures.stored import Stored
from scripts.pipeline.words import counted

FEWER = 10
"""A class with this many times fewer boxes than the largest is learned visibly worse; within it, the difference drowns
in how hard the classes are."""

TINY_PX = 8
"""Side of one cell of the finest map that a model looks at. What is smaller shares its cell with all around it."""

MANY_TINY = 0.05
"""Share of boxes. Below it tiny things are exceptions; above it they are part of the task."""

MANY_SET_APART = 0.25
"""Share of boxes that are drawn but not learned or not scored. The labels of Open Images and Pascal VOC stay below."""

MOSTLY_FILLED = 0.65
"""Share of a picture, averaged over train, that its boxes cover. Photographs of single things from the web have about
0.5, and a detector learns from them; far above that there is little background to learn from."""

ENOUGH = 20
"""Boxes or pictures, at least: a share of fewer says nothing about the set."""

ATTRIBUTION = "images/source/openimages/ATTRIBUTION.csv"


def balance_findings(pictures: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Classes (of `labels`, if there are any) with far fewer training boxes than the largest."""
    named = Counter(box.class_name for one in pictures if one.split == "train" for box, _ in numbered_boxes(one))
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


def tiny_findings(pictures: list[Stored], input_px: int) -> Iterator[Finding]:
    """Boxes that are tiny once the picture is stretched to the `input_px` x `input_px` that the model sees."""
    tiny = boxes = 0
    for one in pictures:
        picture_px = one.facts.width_px * one.facts.height_px
        for box, _ in numbered_boxes(one) if picture_px else ():
            boxes += 1
            tiny += has_area(box) and area_px(box.xyxy_px) / picture_px * input_px**2 < TINY_PX**2
    if boxes >= ENOUGH and tiny >= MANY_TINY * boxes:
        text = f"{counted(tiny, 'box', 'boxes')} of {boxes:,} ({100 * tiny / boxes:.0f} %)"
        verb = "is" if tiny == 1 else "are"
        yield finding("W102", "images", f"{text} {verb} under {TINY_PX}x{TINY_PX} px at an input of {input_px} px")


def flag_findings(pictures: list[Stored]) -> Iterator[Finding]:
    """Boxes that are marked as something that training or scoring leaves out."""
    marked, boxes, any_mark = Counter(), 0, 0
    for one in pictures:
        for box, _ in numbered_boxes(one):
            names = [name for name in ("group_of", "is_crowd", "difficult") if getattr(box, name)]
            marked.update(names)
            boxes, any_mark = boxes + 1, any_mark + bool(names)
    if boxes >= ENOUGH and any_mark >= MANY_SET_APART * boxes:
        parts = ", ".join(f"{name} {count:,}" for name, count in marked.items())
        share = 100 * any_mark / boxes
        yield finding("W103", "images", f"{any_mark:,} of {boxes:,} boxes ({share:.0f} %) are marked: {parts}")


def background_findings(pictures: list[Stored]) -> Iterator[Finding]:
    """No picture without boxes, and those with boxes show hardly anything else."""
    covered = [_covered(one) for one in pictures if one.split == "train" and one.label and one.facts.width_px]
    if len(covered) >= ENOUGH and min(covered) > 0 and sum(covered) / len(covered) > MOSTLY_FILLED:
        share = 100 * sum(covered) / len(covered)
        text = f"none of {len(covered):,} pictures is without boxes, and boxes cover {share:.0f} % of them on average"
        yield finding("W104", "images/train", text)


def _covered(stored: Stored) -> float:
    """Share of a picture that its boxes cover, overlaps counted twice, at most 1."""
    areas_px = sum(area_px(box.xyxy_px) for box, _ in numbered_boxes(stored) if has_area(box))
    return min(1.0, areas_px / (stored.facts.width_px * stored.facts.height_px))


def licence_findings(root: Path, pictures: list[Stored]) -> Iterator[Finding]:
    """Pictures of Open Images whose author or licence is not in `ATTRIBUTION.csv`; for `source.kind = "openimages"`."""
    named = _attributed(root / ATTRIBUTION)
    folder = ATTRIBUTION.rpartition("/")[0] + "/"
    ours = [one for one in pictures if one.entry and one.entry["source"].startswith(folder)]
    missing = [one for one in ours if Path(one.entry["source"]).stem not in named]
    if missing:
        text = f"{len(missing):,} of {counted(len(ours), 'picture')} without author or licence, such as "
        yield finding("W105", ATTRIBUTION, text + missing[0].path.name)


def _attributed(path: Path) -> set[str]:
    """ImageIDs of the rows that name an author and a licence."""
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{key.lower(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    return {row.get("imageid", "") for row in rows if row.get("author") and (row.get("license") or row.get("licence"))}

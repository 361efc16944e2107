"""Rules about the files as such: can a picture be read, is there a label file that fits it."""

from collections.abc import Iterator
from pathlib import Path

from scripts.pictures.findings import Finding, finding
from scripts.pictures.stored import Stored

READ_BY_TENSORFLOW = ("jpeg", "mpo", "png")
"""Formats by Pillow's name, in lower case, that training decodes. It would also decode GIF and BMP, which other tools
of the chain do not expect in `images/`."""


def picture_findings(stored: Stored) -> Iterator[Finding]:
    """What is wrong with a picture file and its label file as such."""
    facts, name = stored.facts, stored.path.name
    if facts.error:
        yield finding("E010", stored.shown, f"'{name}': {facts.error}", picture=name)
    elif facts.source_format.lower() not in READ_BY_TENSORFLOW:
        text = f"'{name}' is {facts.source_format}, which training does not read"
        yield finding("E022", stored.shown, text, picture=name)
    elif not facts.whole:
        text = f"'{name}' has no sound end, or a wrong checksum: TensorFlow refuses it"
        yield finding("E010", stored.shown, text, picture=name)
    elif facts.orientation != 1:
        yield finding("E007", stored.shown, f"EXIF orientation {facts.orientation}", picture=name)
    if stored.label_error:
        text = f"'{stored.path.stem}.xml': {stored.label_error}"
        yield finding("E019", stored.label_shown, text, stored.label_error_line, picture=name)
    elif stored.label is None:
        yield finding("E012", stored.shown, f"no .xml file is named '{stored.path.stem}'", picture=name)
    elif not facts.error:
        declared = (stored.label.width_px, stored.label.height_px)
        real = (facts.width_px, facts.height_px)
        if declared != real and 0 not in declared:
            text = f"size {declared[0]}x{declared[1]}, picture {real[0]}x{real[1]}"
            yield finding("E006", stored.label_shown, text, stored.label.size_line, picture=name)


def orphan_findings(root: Path, pictures: list[Stored], labels: list[Path]) -> Iterator[Finding]:
    """Label files in `images/` without a picture beside them."""
    there = {stored.path.with_suffix(".xml") for stored in pictures}
    for label in labels:
        if label not in there:
            yield finding("E009", label.relative_to(root).as_posix(), f"no picture is named '{label.stem}'")

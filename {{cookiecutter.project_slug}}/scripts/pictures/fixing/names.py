"""Which class names are slips of the pen, and of which name."""

from collections import Counter
from collections.abc import Collection, Sequence

from scripts.pictures.rules.boxes import numbered_boxes
from scripts.pictures.rules.classes import common_spellings, folded
from scripts.pictures.stored import Stored

MOST_SLIPS = 2
"""Letters that may be wrong, missing or too many."""

LETTERS_A_SLIP = 3
"""Letters that a name needs for each slip in it: `cow` is no misspelt `cat`."""


def renames(pictures: list[Stored], labels: Sequence[str], accept: Collection[str]) -> dict[str, tuple[str, str]]:
    """Code and right name for each name that is to be corrected; none whose code is in `accept`."""
    counts = Counter(box.class_name for stored in pictures for box, _ in numbered_boxes(stored) if box.class_name)
    if not labels:
        found = common_spellings(counts) if "W108" not in accept else {}
        return {name: ("W108", common) for name, common in found.items()}
    if "E001" in accept:
        return {}
    meant = {name: _meant(name, labels, counts) for name in counts if name not in labels}
    return {name: ("E001", label) for name, label in meant.items() if label}


def _meant(name: str, labels: Sequence[str], counts: Counter) -> str:
    """The one label that `name` is a slip of, "" when that is not certain.

    Another spelling of a label is certain. A slip keeps the first letter (`bear` is no misspelt `pear`), is near to no
    other label, and is rarer than the right name: a name with more boxes is a class, or the setting is wrong.
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

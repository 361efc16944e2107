"""Rules about class names: unknown ones, slips of the pen, two spellings of one class."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator

from scripts.pictures.findings import Finding, finding
from scripts.pictures.rules.boxes import named, numbered_boxes
from scripts.pictures.source import same_name
from scripts.pictures.stored import Stored


def name_findings(pictures: list[Stored], labels: list[str]) -> Iterator[Finding]:
    """Boxes of classes that are not in `labels`; without labels, names that differ only by case or spaces."""
    places = [(box.class_name, stored, line) for stored in pictures for box, line in numbered_boxes(stored)]
    counts = Counter(name for name, _, _ in places)
    if labels:
        near = {name: _nearest(name, labels) for name in counts if name and name not in labels}
        for name, stored, line in places:
            if name in near:
                text = f"class '{name}' is not in source.labels" + (f", nearest: '{near[name]}'" if near[name] else "")
                yield finding("E001", stored.label_shown, named(stored, text), line, name, stored.path.name)
        return
    usual = common_spellings(counts)
    for name, stored, line in places:
        if name in usual:
            text = f"class '{name}' beside '{usual[name]}' ({counts[usual[name]]} boxes)"
            yield finding("W108", stored.label_shown, named(stored, text), line, name, stored.path.name)


def folded(name: str) -> str:
    """Equal for names that differ only by case, spaces, hyphens or underscores."""
    return "".join(letter for letter in same_name(name) if letter not in "-_" and not letter.isspace())


def common_spellings(counts: Counter) -> dict[str, str]:
    """The most common spelling for each name that is another spelling of it; `counts` are boxes by name."""
    spellings = defaultdict(list)
    for name in counts:
        spellings[folded(name)].append(name)
    usual = {}
    for names in spellings.values():
        common = max(names, key=lambda name: counts[name])
        usual.update({name: common for name in names if name != common})
    return usual


def _nearest(name: str, labels: list[str]) -> str:
    by_folded = {same_name(label).strip(): label for label in labels}
    near = difflib.get_close_matches(same_name(name).strip(), by_folded, n=1)
    return by_folded[near[0]] if near else ""

"""Classes of Open Images: their ids (MIDs) by any of their names, and their tree."""

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.core.text import DetectorError

# MID: name in version 4, name from version 5 on. The id is what stayed.
RENAMED = {
    "/m/01h44": ("Bat", "Bat (Animal)"),
    "/m/01d380": ("Drill", "Drill (Tool)"),
    "/m/033cnk": ("Egg", "Egg (Food)"),
    "/m/0449p": ("Jaguar", "Jaguar (Animal)"),
    "/m/04gth": ("Lavender", "Lavender (Plant)"),
    "/m/05bm6": ("Nail", "Nail (Construction)"),
    "/m/013y1f": ("Organ", "Organ (Musical Instrument)"),
    "/m/054fyh": ("Pitcher", "Pitcher (Container)"),
    "/m/02bm9n": ("Ratchet", "Ratchet (Device)"),
    "/m/0dv77": ("Squash", "Squash (Plant)"),
    "/m/02rgn06": ("Volleyball", "Volleyball (Ball)"),
    "/m/0284d": ("Dairy", "Dairy Product"),
    "/m/0cjs7": ("Asparagus", "Garden Asparagus"),
    "/m/0ftb8": ("Sunflower", "Common sunflower"),
    "/m/054xkw": ("Lifejacket", "Personal flotation device"),
    "/m/0319l": ("Horn", "French horn"),
}
# A plural in form only: a glass is not a pair of glasses.
_NO_PLURAL = {"glasses", "sunglasses"}
_PLURALS = (("ies", "y"), ("(?<=ss|sh|ch)es", ""), ("(?<=[xzo])es", ""), ("(?<=[^s])s", ""))


def read_class_names(text: str) -> dict[str, str]:
    """Return MID -> name of a list of classes, with a header (version 7) or without.

    Raises:
        ValueError: The text is no such list.
    """
    rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"))) if len(row) >= 2]
    names = {row[0].strip(): row[1].strip() for row in rows if row[0].startswith("/")}
    if not names:
        raise ValueError("no line starts with an id such as /m/014j1m")
    return names


def resolve(labels: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Find the classes that labels name.

    Upper case, underscores, hyphens, plural and the names of other versions do not matter.

    Args:
        labels: names as the user spells them.
        names: MID -> name of all classes.

    Returns:
        MID -> label, in the order of `labels`.

    Raises:
        DetectorError: with all unknown labels and the nearest class of each, or with two labels
            that mean one class.
    """
    exact, singular = _lookups(names)
    found, unknown = {}, []
    for label in labels:
        mid = exact.get(_plain(label)) or singular.get(_singular(label))
        if mid is None:
            close = nearest(label, names)
            unknown.append(f"'{label}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
        elif mid in found:
            raise DetectorError(f"'{found[mid]}' and '{label}' are one class of Open Images, "
                                f"{names[mid]} ({mid}): source.labels: keep one of them")
        else:
            found[mid] = label
    if unknown:
        raise DetectorError(f"no class of Open Images is named {', '.join(unknown)}: "
                            "source.labels: `invoke download --list WORD` shows the names")
    return found


def nearest(asked: str, names: Mapping[str, str], count: int = 1) -> list[str]:
    """Return the names that look most like `asked`, as this version spells them; may be empty."""
    plain: dict[str, str] = {}
    for name, mid in _all_names(names):
        plain.setdefault(_plain(name), names[mid])
    close = difflib.get_close_matches(_plain(asked), plain, count, 0.6)
    if not close:  # a part of the name, perhaps with a slip in it
        words = sorted({word for name in plain for word in name.split()})
        like = {near for word in _plain(asked).split()
                for near in difflib.get_close_matches(word, words, 2, 0.75)}
        close = [name for name in plain if like & set(name.split())]
    return list(dict.fromkeys(plain[name] for name in close))[:count]


def matching(word: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return MID -> name of the classes with `word` in a name of any version, sorted by name."""
    wanted = {_plain(word), _singular(word)}
    mids = {mid for name, mid in _all_names(names) if any(part in _plain(name) for part in wanted)}
    return {mid: names[mid] for mid in sorted(mids, key=lambda mid: names[mid].casefold())}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _singular(name: str) -> str:
    """Return the plain name without the plural of its last word: `bell pepper`."""
    name = _plain(name)
    if name.split(" ")[-1] in _NO_PLURAL:
        return name
    for ending, instead in _PLURALS:
        shorter = re.sub(f"{ending}$", instead, name)
        if shorter != name:
            return shorter
    return name


def _all_names(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return name and MID of every class of this version under all of its names, its own first."""
    others = [(name, mid) for mid, pair in RENAMED.items() if mid in names for name in pair]
    return [(name, mid) for mid, name in names.items()] + others


def _lookups(names: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return plain name -> MID and singular -> MID. The first class of a name keeps it."""
    exact, singular = {}, {}
    for name, mid in _all_names(names):
        exact.setdefault(_plain(name), mid)
        singular.setdefault(_singular(name), mid)
    return exact, singular


# The tree of classes: Open Images labels a limousine as Limousine and not as Car as well.

def owners(asked: Sequence[str], tree: Mapping[str, Any]) -> dict[str, str]:
    """Return MID of a class -> the asked MID under which its boxes are kept.

    That is its own, or that of the nearest asked ancestor: with Car and Vehicle asked, a limousine
    is a Car. Of two ancestors at the same distance it is the one asked first.
    """
    children: dict[str, list[str]] = {}
    for parent, child in _links(tree):
        children.setdefault(parent, []).append(child)
    owner, level = {mid: mid for mid in asked}, list(asked)
    while level:
        below = []
        for mid in level:
            for child in children.get(mid, ()):
                if child not in owner:
                    owner[child] = owner[mid]
                    below.append(child)
        level = below
    return owner


def _links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield pairs of parent and child.

    `Part` is left out: a human face is a part of a person, not a kind of one.
    """
    for child in node.get("Subcategory", ()):
        yield node["LabelName"], child["LabelName"]
        yield from _links(child)

"""Names of classes to their ids (MIDs), however they are written, and the nearest name when there is none."""

import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence

from scripts.pipeline.errors import DetectorError

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


def read_class_names(text: str) -> dict[str, str]:
    """MID -> name of a list of classes, with a header (version 7) or without. ValueError when it is no such list."""
    rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"))) if len(row) >= 2]
    names = {row[0].strip(): row[1].strip() for row in rows if row[0].startswith("/")}
    if not names:
        raise ValueError("no line starts with an id such as /m/014j1m")
    return names


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _singular(name: str) -> str:
    """The plain name without the plural of its last word: `bell peppers` is `bell pepper`."""
    name = _plain(name)
    if name.split(" ")[-1] in _NO_PLURAL:
        return name
    for ending, instead in (("ies", "y"), ("(?<=ss|sh|ch)es", ""), ("(?<=[xzo])es", ""), ("(?<=[^s])s", "")):
        shorter = re.sub(f"{ending}$", instead, name)
        if shorter != name:
            return shorter
    return name


def _all_names(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and MID of every class that this version has, old and new names as well; its own names first."""
    others = [(name, mid) for mid, pair in RENAMED.items() if mid in names for name in pair]
    return [(name, mid) for mid, name in names.items()] + others


def _lookups(names: Mapping[str, str]) -> list[dict[str, str]]:
    """From exact to lenient: plain name -> MID, then singular -> MID. The first class of a name keeps it."""
    tables: list[dict[str, str]] = [{}, {}]
    for name, mid in _all_names(names):
        tables[0].setdefault(_plain(name), mid)
        tables[1].setdefault(_singular(name), mid)
    return tables


def nearest(asked: str, names: Mapping[str, str], count: int = 1) -> list[str]:
    """The names that look most like `asked`, as this version spells them; may be empty."""
    plain: dict[str, str] = {}
    for name, mid in _all_names(names):
        plain.setdefault(_plain(name), names[mid])
    close = difflib.get_close_matches(_plain(asked), plain, count, 0.6)
    if not close:  # a part of the name, perhaps with a slip in it
        words = sorted({word for name in plain for word in name.split()})
        like = {near for word in _plain(asked).split() for near in difflib.get_close_matches(word, words, 2, 0.75)}
        close = [name for name in plain if like & set(name.split())]
    return list(dict.fromkeys(plain[name] for name in close))[:count]


def resolve(labels: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """MID -> label as the user spells it, in the order of `labels`.

    Upper case, underscores, hyphens, plural and the names of other versions do not matter. Raises DetectorError that
    names all unknown labels with the nearest class, or two labels that mean one class.
    """
    tables, found, unknown = _lookups(names), {}, []
    for label in labels:
        mid = tables[0].get(_plain(label)) or tables[1].get(_singular(label))
        if mid is None:
            close = nearest(label, names)
            unknown.append(f"'{label}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
        elif mid in found:
            what = f"'{found[mid]}' and '{label}' are one class of Open Images, {names[mid]} ({mid})"
            raise DetectorError(f"{what}: source.labels: keep one of them")
        else:
            found[mid] = label
    if unknown:
        what = "no class of Open Images is named " + ", ".join(unknown)
        raise DetectorError(f"{what}: source.labels: `invoke download --list WORD` shows the names")
    return found


def matching(word: str, names: Mapping[str, str]) -> dict[str, str]:
    """MID -> name of the classes whose name, in any version, has `word` in it, sorted by name; "": all."""
    wanted = {_plain(word), _singular(word)}
    mids = {mid for name, mid in _all_names(names) if any(each in _plain(name) for each in wanted)}
    return {mid: names[mid] for mid in sorted(mids, key=lambda mid: names[mid].casefold())}

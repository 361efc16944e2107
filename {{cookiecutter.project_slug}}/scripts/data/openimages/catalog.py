"""Where Open Images keeps what, by version, and where we keep it."""

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.core.files import write_bytes
from scripts.core.text import DetectorError
from scripts.core.transfer import AbsentError, Patience, TransferError, read_bytes
from scripts.data.openimages.metadata import Slice

SPLITS = ("train", "validation", "test")
FOLDER = "images/source/openimages"
CLASSES_FILE = "class-descriptions-boxable.csv"
BOXES_FILE = "boxes.csv"
ATTRIBUTION_FILE = "ATTRIBUTION.csv"
# Folders with a dot are skipped by whoever reads a source: what is in them is not labeled data.
METADATA = ".metadata"
UNUSED = ".unused"

HIERARCHY = "2018_04/bbox_labels_600_hierarchy.json"
_V4_BOXES = "2018_04/{split}/{split}-annotations-bbox.csv"
_V5_BOXES = "v5/{split}-annotations-bbox.csv"
_V6_TRAIN = "v6/oidv6-train-annotations-bbox.csv"
_V5_CLASSES = "v5/class-descriptions-boxable.csv"
# Classes, boxes of train, boxes of validation and test. Later versions took over what they did not
# change.
_FILES = {
    "v4": ("2018_04/class-descriptions-boxable.csv", _V4_BOXES, _V4_BOXES),
    "v5": (_V5_CLASSES, _V4_BOXES, _V5_BOXES),
    "v6": (_V5_CLASSES, _V6_TRAIN, _V5_BOXES),
    "v7": ("v7/oidv7-class-descriptions-boxable.csv", _V6_TRAIN, _V5_BOXES),
}


def classes_path(version: str) -> str:
    """Path of the list of classes below `metadata_url`; `version` is v4, v5, v6 or v7."""
    return _FILES[version][0]


def boxes_path(version: str, split: str) -> str:
    """Path of the boxes of a split below `metadata_url`."""
    return _FILES[version][1 if split == "train" else 2].format(split=split)


def images_path(split: str) -> str:
    """Path of authors, licenses and addresses of a split below `metadata_url`; the same for all
    versions."""
    # The list of all training images, boxes or not, is four times as long.
    boxable = "-boxable" if split == "train" else ""
    return f"2018_04/{split}/{split}-images{boxable}-with-rotation.csv"


def metadata_folder(root: Path, version: str, metadata_url: str) -> Path:
    """Folder of the filtered metadata. Another version or another server has another folder: slices
    never mix."""
    digest = hashlib.sha256(metadata_url.rstrip("/").encode()).hexdigest()[:8]
    return root / FOLDER / METADATA / f"{version}-{digest}"


def image_path(root: Path, split: str, image_id: str) -> Path:
    """Where an image is kept once it is whole."""
    return root / FOLDER / split / f"{image_id}.jpg"


def join_url(base: str, path: str) -> str:
    """`base` with or without a slash at its end, and a path below it."""
    return f"{base.rstrip('/')}/{path}"


# Names of classes to their ids (MIDs), however they are written, and the nearest name when there is
# none.

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
    """MID -> name of a list of classes, with a header (version 7) or without. ValueError when it is
    no such list."""
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
    """Name and MID of every class that this version has, old and new names as well; its own names
    first."""
    others = [(name, mid) for mid, pair in RENAMED.items() if mid in names for name in pair]
    return [(name, mid) for mid, name in names.items()] + others


def _lookups(names: Mapping[str, str]) -> list[dict[str, str]]:
    """From exact to lenient: plain name -> MID, then singular -> MID. The first class of a name
    keeps it."""
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

    Upper case, underscores, hyphens, plural and the names of other versions do not matter. Raises
    DetectorError that names all unknown labels with the nearest class, or two labels that mean one
    class.
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
    """MID -> name of the classes whose name, in any version, has `word` in it, sorted by name; "":
    all."""
    wanted = {_plain(word), _singular(word)}
    mids = {mid for name, mid in _all_names(names) if any(each in _plain(name) for each in wanted)}
    return {mid: names[mid] for mid in sorted(mids, key=lambda mid: names[mid].casefold())}


# The tree of classes: Open Images labels a limousine as Limousine and not as Car as well.

def _links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of parent and child. `Part` is left out: a human face is a part of a person, not a kind
    of one."""
    for child in node.get("Subcategory", ()):
        yield node["LabelName"], child["LabelName"]
        yield from _links(child)


def owners(asked: Sequence[str], tree: Mapping[str, Any]) -> dict[str, str]:
    """MID of a class -> the asked MID under which its boxes are kept: its own, or that of the
    nearest asked ancestor.

    With Car and Vehicle asked, a limousine is a Car. Two ancestors at the same distance: the one
    asked first.
    """
    children: dict[str, list[str]] = {}
    for parent, child in _links(tree):
        children.setdefault(parent, []).append(child)
    owner = {mid: mid for mid in asked}
    level = list(asked)
    while level:
        below = []
        for mid in level:
            for child in children.get(mid, ()):
                if child not in owner:
                    owner[child] = owner[mid]
                    below.append(child)
        level = below
    return owner


# What Open Images has: names of classes, their tree, and the filtered boxes and authors of each
# split.

@dataclass
class Catalog:
    """The metadata of one version on one server; all of it is kept in `folder` and read from there
    the next time."""

    folder: Path
    version: str
    metadata_url: str
    patience: Patience = field(default_factory=Patience)

    def names(self) -> dict[str, str]:
        """MID -> name of each class. DetectorError when the list cannot be had or read."""
        path = classes_path(self.version)
        data = self._small_file("classes.csv", path)
        try:
            return read_class_names(data.decode("utf-8"))
        except ValueError as error:
            raise self._unreadable("classes.csv", path, error) from error

    def owners(self, mids: list[str], descendants: bool) -> dict[str, str]:
        """MID of each class that is wanted -> the asked MID that its boxes go to; see
        `hierarchy.owners`."""
        if not descendants:
            return {mid: mid for mid in mids}
        data = self._small_file("hierarchy.json", HIERARCHY)
        try:
            tree: Mapping[str, Any] = json.loads(data)
            return owners(mids, tree)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unreadable("hierarchy.json", HIERARCHY, error) from error

    def boxes(self, split: str) -> Slice:
        """Boxes of a split, by class; each pass counts the boxes of every class."""
        url = join_url(self.metadata_url, boxes_path(self.version, split))
        return Slice(self.folder, f"{split}-boxes", url, "LabelName", self.names(), patience=self.patience)

    def images(self, split: str) -> Slice:
        """Authors, licenses and addresses of a split, by image."""
        url = join_url(self.metadata_url, images_path(split))
        return Slice(self.folder, f"{split}-images", url, "ImageID", once=True, patience=self.patience)

    def _small_file(self, name: str, path: str) -> bytes:
        kept, url = self.folder / name, join_url(self.metadata_url, path)
        if kept.exists():
            return kept.read_bytes()
        try:
            data = read_bytes(url, self.patience)
        except AbsentError as error:
            advice = "correct openimages.metadata_url or openimages.version"
            raise DetectorError(f"{error}: {url}: {advice}") from error
        except TransferError as error:
            raise DetectorError(f"{error}: {url}: look at the connection, then run the same command again") from error
        write_bytes(kept, data)
        return data

    def _unreadable(self, name: str, path: str, error: Exception) -> DetectorError:
        (self.folder / name).unlink(missing_ok=True)
        url = join_url(self.metadata_url, path)
        return DetectorError(f"not the layout of Open Images ({error}): {url}: correct openimages.metadata_url or "
                             "openimages.version")


def open_catalog(root: Path, settings, patience: Patience | None = None) -> Catalog:
    """The catalog that the table [openimages] names."""
    folder = metadata_folder(root, settings.version, settings.metadata_url)
    return Catalog(folder, settings.version, settings.metadata_url, patience or Patience())


# Which images are wanted: the filters are asked of each box, the choice is made by a seed and grows
# with the limit.

FILTERS = {"occluded": "IsOccluded", "truncated": "IsTruncated", "group_of": "IsGroupOf", "depiction": "IsDepiction",
           "inside": "IsInside"}
COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *FILTERS.values())
_NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_DEFAULTS = {"Source": "", "Confidence": "1"}
_UNKNOWN = -1
_CHUNK_ROWS = 100_000


@dataclass
class Candidates:
    """What a split has to offer for one class: images with a box that passes, in no order, and
    counts of boxes."""

    images: set[str] = field(default_factory=set)
    boxes: int = 0
    failing_boxes: int = 0


def read_boxes(path: Path, owner: Mapping[str, str], columns: Collection[str] = COLUMNS) -> Iterator:
    """Chunks of a slice as pandas tables of text with `columns`, whatever their order in the file.

    Only classes of `owner`, under the MID that it gives. ValueError when a needed column is
    missing.
    """
    import pandas

    header = pandas.read_csv(path, nrows=0).columns
    absent = [name for name in _NEEDED if name not in header]
    if absent:
        raise ValueError(f"the header has no column {absent[0]}")
    there = [name for name in columns if name in header]
    with pandas.read_csv(path, dtype=str, keep_default_na=False, usecols=there, chunksize=_CHUNK_ROWS) as chunks:
        for chunk in chunks:
            for name in columns:
                if name not in chunk:
                    chunk[name] = _DEFAULTS.get(name, str(_UNKNOWN))
            chunk = chunk.loc[chunk["LabelName"].isin(owner), list(columns)]
            yield chunk.assign(LabelName=chunk["LabelName"].map(owner))


def passes(table, settings):
    """For each box whether it passes all filters of [openimages], as a pandas series of booleans.

    `only` wants 1, `exclude` wants 0; -1 (nobody looked) passes an active filter when `unknown` is
    "keep".
    """
    import pandas

    good = pandas.Series(True, index=table.index)
    for name, column in FILTERS.items():
        mode = getattr(settings, name)
        if mode == "any":
            continue
        value = pandas.to_numeric(table[column], errors="coerce").fillna(_UNKNOWN)
        unknown = ~value.isin([0, 1])
        good &= (value == (mode == "only")) | (unknown & (settings.unknown == "keep"))
    return good


def find_candidates(path: Path, owner: Mapping[str, str], settings) -> dict[str, Candidates]:
    """MID -> candidates of one split, from its slice; every asked class has an entry."""
    found = {mid: Candidates() for mid in owner.values()}
    asked = [column for name, column in FILTERS.items() if getattr(settings, name) != "any"]
    for chunk in read_boxes(path, owner, ("ImageID", "LabelName", *asked)):
        good = passes(chunk, settings)
        for mid, image_ids in chunk["ImageID"][good].groupby(chunk["LabelName"]):
            found[mid].boxes += len(image_ids)
            found[mid].images.update(image_ids)
        for mid, count in chunk["LabelName"][~good].value_counts().items():
            found[mid].failing_boxes += int(count)
    return found


def seeded_order(image_ids: Collection[str], seed: int) -> list[str]:
    """The same order for the same seed, on every machine; another image in the list moves no other.
    """
    return sorted(image_ids, key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())


def choose(
    candidates: Mapping[str, Candidates], limit: int, seed: int, absent: Collection[str]
) -> dict[str, list[str]]:
    """MID -> images chosen for this class: the first `limit` (0: all) in the seeded order that are
    not `absent`.

    Images chosen for one class may show another one too, which can so come to more than `limit`.
    """
    chosen = {}
    for mid, found in candidates.items():
        there = [image_id for image_id in seeded_order(found.images, seed) if image_id not in absent]
        chosen[mid] = there[:limit] if limit else there
    return chosen

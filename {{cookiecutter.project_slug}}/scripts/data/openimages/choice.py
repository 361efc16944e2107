"""Which boxes pass the filters of [openimages], and which images are chosen because of them.

The choice is made by a seed and grows with the limit: a larger limit keeps what a smaller one
chose.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.core.text import DetectorError
from scripts.data.openimages.catalog import Catalog
from scripts.data.openimages.class_names import resolve
from scripts.data.openimages.slices import not_open_images

FILTERS = {"occluded": "IsOccluded", "truncated": "IsTruncated", "group_of": "IsGroupOf",
           "depiction": "IsDepiction", "inside": "IsInside"}
COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax",
           *FILTERS.values())
_NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_DEFAULTS = {"Source": "", "Confidence": "1"}
_UNKNOWN = -1
_CHUNK_ROWS = 100_000


@dataclass
class Candidates:
    """What a split offers of one class: images with a box that passes, and counts of boxes."""

    images: set[str] = field(default_factory=set)
    boxes: int = 0
    failing_boxes: int = 0


@dataclass
class Offer:
    """What the metadata offers.

    `labels` is MID -> name, `owner` as of `class_names.owners`, `slices` the boxes of each split,
    `candidates` split -> MID -> what can be chosen.
    """

    labels: dict[str, str]
    owner: dict[str, str]
    slices: dict[str, Path] = field(default_factory=dict)
    candidates: dict[str, dict[str, Candidates]] = field(default_factory=dict)

    def choose(self, limit: int, seed: int,
               missing: Collection[str] = ()) -> dict[str, dict[str, list[str]]]:
        """Return split -> MID -> chosen images.

        Those are the first `limit` (0: all) in the seeded order that are not `missing` (SPLIT/ID).
        An image chosen for one class may show another too, which can so come to more than `limit`.
        """
        chosen: dict[str, dict[str, list[str]]] = {}
        for split, by_class in self.candidates.items():
            chosen[split] = {}
            for mid, found in by_class.items():
                there = [image_id for image_id in seeded_order(found.images, seed)
                         if f"{split}/{image_id}" not in missing]
                chosen[split][mid] = there[:limit] if limit else there
        return chosen


def find_offer(catalog: Catalog, labels: Sequence[str], settings) -> Offer:
    """Resolve `labels` and filter the boxes of all splits.

    Raises:
        DetectorError: for unknown names, before any box is read, and for unreadable metadata.
    """
    if not labels:
        raise DetectorError("source.labels is empty: detector.toml: name the classes to download, "
                            'such as labels = ["Apple", "Orange"]; `invoke download --list WORD` '
                            "shows their names")
    if not settings.splits:
        raise DetectorError("openimages.splits is empty: detector.toml: name splits, such as "
                            '["train", "validation"]')
    # Names are resolved before any table is read: a misspelled one costs no download.
    names = resolve(labels, catalog.names())
    offer = Offer(names, catalog.owners(list(names), settings.descendants))
    for split in settings.splits:
        boxes = catalog.boxes(split)
        boxes.ensure(offer.owner)
        try:
            offer.candidates[split] = find_candidates(boxes.path, offer.owner, settings)
        except ValueError as error:
            raise not_open_images(error, boxes.url) from error
        offer.slices[split] = boxes.path
    return offer


def read_boxes(path: Path, owner: Mapping[str, str],
               columns: Collection[str] = COLUMNS) -> Iterator:
    """Yield the boxes of a slice as pandas tables of text with `columns`, in chunks.

    Only classes of `owner` are read, under the MID that it gives.

    Raises:
        ValueError: A needed column is missing.
    """
    import pandas

    header = pandas.read_csv(path, nrows=0).columns
    absent = [name for name in _NEEDED if name not in header]
    if absent:
        raise ValueError(f"the header has no column {absent[0]}")
    # Older versions lack the columns of the filters: their value is then unknown.
    there = [name for name in columns if name in header]
    with pandas.read_csv(path, dtype=str, keep_default_na=False, usecols=there,
                         chunksize=_CHUNK_ROWS) as chunks:
        for chunk in chunks:
            for name in columns:
                if name not in chunk:
                    chunk[name] = _DEFAULTS.get(name, str(_UNKNOWN))
            chunk = chunk.loc[chunk["LabelName"].isin(owner), list(columns)]
            yield chunk.assign(LabelName=chunk["LabelName"].map(owner))


def passes(table, settings):
    """Return for each box whether it passes all filters of [openimages], as a pandas series.

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
        # -1 in the table: nobody looked at this box for this property.
        good &= (value == (mode == "only")) | (unknown & (settings.unknown == "keep"))
    return good


def find_candidates(path: Path, owner: Mapping[str, str], settings) -> dict[str, Candidates]:
    """Return MID -> candidates of one split, from its slice; every asked class has an entry."""
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
    """Return the same order for the same seed on every machine.

    Another image in the list moves no other.
    """
    # By a hash of seed and id: a shuffle would move all images when one is added.
    return sorted(image_ids,
                  key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())

"""Which pictures are wanted: the filters are asked of each box, the choice is made by a seed and grows with the limit.

A picture is chosen when at least one of its boxes passes all filters. Its other boxes of the wanted classes are kept:
dropping them would teach the model that what they show is background. They carry IsDifficult = 1, which means trained
on and not scored (groups stay groups: neither trained on nor scored).
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILTERS = {"occluded": "IsOccluded", "truncated": "IsTruncated", "group_of": "IsGroupOf", "depiction": "IsDepiction",
           "inside": "IsInside"}
COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", *FILTERS.values())
_NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_DEFAULTS = {"Source": "", "Confidence": "1"}
_UNKNOWN = -1
_CHUNK_ROWS = 100_000


@dataclass
class Candidates:
    """What a split has to offer for one class: pictures with a box that passes, in no order, and counts of boxes."""

    pictures: set[str] = field(default_factory=set)
    boxes: int = 0
    failing_boxes: int = 0


def read_boxes(path: Path, owner: Mapping[str, str], columns: Collection[str] = COLUMNS) -> Iterator:
    """Chunks of a slice as pandas tables of text with `columns`, whatever their order in the file.

    Only classes of `owner`, under the MID that it gives. ValueError when a needed column is missing.
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

    `only` wants 1, `exclude` wants 0; -1 (nobody looked) passes an active filter when `unknown` is "keep".
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
            found[mid].pictures.update(image_ids)
        for mid, count in chunk["LabelName"][~good].value_counts().items():
            found[mid].failing_boxes += int(count)
    return found


def seeded_order(image_ids: Collection[str], seed: int) -> list[str]:
    """The same order for the same seed, on every machine; another picture in the list moves no other."""
    return sorted(image_ids, key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())


def choose(
    candidates: Mapping[str, Candidates], limit: int, seed: int, absent: Collection[str]
) -> dict[str, list[str]]:
    """MID -> pictures chosen for this class: the first `limit` (0: all) in the seeded order that are not `absent`.

    Pictures chosen for one class may show another one too, which can so come to more than `limit`.
    """
    chosen = {}
    for mid, found in candidates.items():
        there = [image_id for image_id in seeded_order(found.pictures, seed) if image_id not in absent]
        chosen[mid] = there[:limit] if limit else there
    return chosen

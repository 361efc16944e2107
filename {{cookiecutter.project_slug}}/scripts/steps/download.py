"""The step `download`: from names of classes to images and boxes in images/source/openimages."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.core import lock
from scripts.core.text import DetectorError, counted
from scripts.core.transfer import Patience
from scripts.data.openimages.catalog import (
    FOLDER,
    Candidates,
    Catalog,
    choose,
    find_candidates,
    image_path,
    matching,
    nearest,
    open_catalog,
    resolve,
    seeded_order,
)
from scripts.data.openimages.fetch import (
    MISSING_FILE,
    Fetched,
    Memory,
    arrange,
    fetch_images,
    stored_ids,
    write_attribution,
    write_boxes,
    write_class_names,
)

_SPARE = 100
"""Images a class and split, beyond the limit, whose authors are noted as well: for those that take
a place later."""


@dataclass(frozen=True)
class Downloaded:
    """Counts of a finished download; `images` by split."""

    images: Mapping[str, int]
    boxes: int
    classes: int
    fetched: int
    marked: int
    missing: int
    unattributed: int
    set_aside: int

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {count:,}" for split, count in self.images.items())
        parts = [f"{counted(sum(self.images.values()), 'image')} ({splits}), {counted(self.boxes, 'box', 'boxes')} "
                 f"of {counted(self.classes, 'class', 'classes')}", f"{self.fetched:,} fetched"]
        if self.marked:
            parts.append(f"{counted(self.marked, 'box that a filter refuses is', 'boxes that a filter refuses are')} "
                         "kept and marked difficult")
        if self.missing:
            parts.append(f"{self.missing:,} not on the server ({FOLDER}/{MISSING_FILE})")
        if self.unattributed:
            parts.append(f"{self.unattributed:,} without author or license")
        if self.set_aside:
            parts.append(f"{self.set_aside:,} no longer chosen and set aside")
        return "; ".join(parts)


@dataclass
class Offer:
    """What the metadata offers: `labels` MID -> name, `owner` as `hierarchy.owners`, slices and
    candidates by split."""

    labels: dict[str, str]
    owner: dict[str, str]
    slices: dict[str, Path]
    candidates: dict[str, dict[str, Candidates]]


def find_offer(catalog: Catalog, labels: Sequence[str], settings) -> Offer:
    """Resolve `labels` and filter the boxes of all splits. Unknown names are refused before any box
    is read."""
    if not labels:
        raise DetectorError('source.labels is empty: detector.toml: name the classes to download, such as labels = '
                            '["Apple", "Orange"]; `invoke download --list WORD` shows their names')
    if not settings.splits:
        raise DetectorError('openimages.splits is empty: detector.toml: name splits, such as ["train", "validation"]')
    names = resolve(labels, catalog.names())
    owner = catalog.owners(list(names), settings.descendants)
    offer = Offer(names, owner, {}, {})
    for split in settings.splits:
        boxes = catalog.boxes(split)
        boxes.ensure(owner)
        try:
            offer.candidates[split] = find_candidates(boxes.path, owner, settings)
        except ValueError as error:
            raise DetectorError(f"not the layout of Open Images ({error}): {boxes.url}: correct "
                                "openimages.metadata_url or openimages.version") from error
        offer.slices[split] = boxes.path
    return offer


def choose_all(offer: Offer, settings, missing: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Split -> MID -> chosen images; `missing` are names SPLIT/ID."""
    absent = {split: {name.partition("/")[2] for name in missing if name.startswith(f"{split}/")}
              for split in offer.candidates}
    return {split: choose(found, settings.limit, settings.seed, absent[split])
            for split, found in offer.candidates.items()}


def _union(chosen: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, set[str]]:
    return {split: set().union(*by_class.values()) for split, by_class in chosen.items()}


def _fetch_chosen(root: Path, offer: Offer, settings, patience: Patience) -> tuple[Fetched, Memory, int]:
    """Fetch what is chosen and not there, until nothing that the server lacks could be replaced any
    more."""
    memory, total, aside = Memory(root, settings.images_url), Fetched(), 0
    while True:
        wanted = _union(choose_all(offer, settings, memory.missing))
        aside += arrange(root, wanted)[0]
        items = []
        for split, image_ids in wanted.items():
            there = stored_ids(root, split)
            fresh = [each for each in seeded_order(image_ids - there, settings.seed)
                     if f"{split}/{each}" not in total.failed]
            items += [(f"{split}/{each}", f"{settings.images_url.rstrip('/')}/{split}/{each}.jpg",
                       image_path(root, split, each)) for each in fresh]
        if not items:
            memory.save(total.spoilt)
            return total, memory, aside
        fetched = fetch_images(items, patience)
        failed = memory.learn(fetched)
        total.done += fetched.done
        total.failed |= failed
        total.spoilt |= {name: sha for name, sha in fetched.spoilt.items() if name in failed}
        memory.save(total.spoilt)


def download(root: Path, labels: Sequence[str], settings, patience: Patience | None = None) -> Downloaded:
    """Fetch the images that [openimages] asks for, and write boxes, names and authors beside them.

    Raises DetectorError for unknown names, unreadable metadata, and images that exist and could not
    be fetched; all that was fetched stays and is not fetched again.
    """
    patience = patience or Patience()
    try:
        catalog = open_catalog(root, settings, patience)
        offer = find_offer(catalog, labels, settings)
        fetched, memory, aside = _fetch_chosen(root, offer, settings, patience)
        stored = {split: stored_ids(root, split) for split in offer.slices}
        write_class_names(root, offer.labels)
        boxes, marked = write_boxes(root, offer.slices, offer.owner, stored, settings)
        _refuse_failures(fetched)
        chosen = choose_all(offer, settings, memory.missing)
        _say_shortfalls(offer, chosen, settings.limit)
        unattributed = write_attribution(root, catalog, stored, _spare(offer, settings))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what came is kept; `invoke download` goes on from there") from None
    missing = sum(name.partition("/")[0] in stored for name in memory.missing)
    return Downloaded({split: len(ids) for split, ids in stored.items()}, boxes.total(), len(offer.labels),
                      fetched.done, marked, missing, unattributed, aside)


def _refuse_failures(fetched: Fetched) -> None:
    if not fetched.failed:
        return
    name, reason = next(iter(sorted(fetched.failed.items())))
    first = f"{name}.jpg: {reason}" if len(fetched.failed) == 1 else f"the first is {name}.jpg: {reason}"
    raise DetectorError(f"{counted(len(fetched.failed), 'image')} could not be fetched, {fetched.done:,} could "
                        f"({first}): {FOLDER}: run the same command again, it fetches only what is missing")


def _say_shortfalls(offer: Offer, chosen: Mapping[str, Mapping[str, Sequence[str]]], limit: int) -> None:
    """Print a line for each split that has fewer images of a class than the limit allows, or none
    at all."""
    what = f"fewer images than openimages.limit = {limit:,} exist" if limit else "no image exists"
    for split, by_class in chosen.items():
        few = [f"{offer.labels[mid]} {len(ids):,}" for mid, ids in by_class.items() if len(ids) < (limit or 1)]
        if few:
            print(f"download: {split}: {what}: {', '.join(few)}", flush=True)


def _spare(offer: Offer, settings) -> dict[str, set[str]]:
    more = settings.limit and 2 * settings.limit + _SPARE
    return {split: set().union(*choose(found, more, settings.seed, ()).values())
            for split, found in offer.candidates.items()}


# `invoke download --list` and `--stats-only`: what Open Images has, without an image being fetched.

# Both read metadata into the files that a download in another terminal may be writing.
_LOCK = ".steps/lock"


def _table(rows: Sequence[Sequence[object]], texts: int) -> str:
    """Rows as columns: the first `texts` to the left, numbers to the right with commas."""
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{text:<{width}}" if at < texts else f"{text:>{width}}"
                       for at, (text, width) in enumerate(zip(row, widths, strict=True))) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def list_classes(root: Path, word: str, labels: Sequence[str], settings, patience: Patience | None = None) -> str:
    """A table of the classes with `word` in their name ("": all) and their boxes in each split,
    before any filter.

    The numbers come from reading all boxes once; the boxes of `labels` are kept on the way, so that
    `download` need not read them again. DetectorError when no name fits.
    """
    lock.acquire(root / _LOCK)
    catalog = open_catalog(root, settings, patience)
    names = catalog.names()
    found = matching(word, names)
    if not found:
        close = nearest(word, names, 3)
        advice = "did you mean " + " or ".join(close) + "?" if close else "`invoke download --list` shows all names"
        raise DetectorError(f"no class of Open Images has '{word}' in its name: {settings.version}: {advice}")
    try:
        wanted = set(catalog.owners(list(resolve(labels, names)), settings.descendants)) if labels else set()
    except DetectorError:
        wanted = set()  # the list is what helps to correct them
    counts = {}
    for split in settings.splits:
        part = catalog.boxes(split)
        if part.counts is None:
            part.ensure(wanted)
        counts[split] = part.counts or {}
    rows = [(name, *(counts[split].get(mid, 0) for split in settings.splits)) for mid, name in found.items()]
    return _table([("boxes of", *settings.splits), *rows], 1) + f"\n{counted(len(rows), 'class', 'classes')}"


def show_stats(root: Path, labels: Sequence[str], settings, patience: Patience | None = None) -> str:
    """A table of images and boxes that pass the filters, by class and split, and how many would be
    fetched."""
    lock.acquire(root / _LOCK)
    offer = find_offer(open_catalog(root, settings, patience), labels, settings)
    chosen = choose_all(offer, settings, Memory(root, settings.images_url).missing)
    rows: list[tuple] = [("class", "split", "images", "boxes", "refused", "chosen")]
    for mid, label in offer.labels.items():
        for split, found in offer.candidates.items():
            each = found[mid]
            rows.append((label, split, len(each.images), each.boxes, each.failing_boxes, len(chosen[split][mid])))
    total = sum(len(set().union(*by_class.values())) for by_class in chosen.values())
    return _table(rows, 2) + (f"\n{counted(total, 'image')} would be fetched; refused: boxes that a filter refuses, "
                              "kept and marked difficult in chosen images")

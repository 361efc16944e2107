"""The step `download`: from names of classes to pictures and boxes in images/source/openimages."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.openimages.attribution import write_attribution
from scripts.pictures.openimages.catalogue import Catalogue, open_catalogue
from scripts.pictures.openimages.choose import Candidates, choose, find_candidates, seeded_order
from scripts.pictures.openimages.classes import resolve
from scripts.pictures.openimages.fetch import Fetched, fetch_pictures
from scripts.pictures.openimages.layout import FOLDER, picture_path
from scripts.pictures.openimages.memory import MISSING_FILE, Memory
from scripts.pictures.openimages.results import arrange, stored_ids, write_boxes, write_class_names
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.transfer import Patience
from scripts.pipeline.words import counted

_SPARE = 100
"""Pictures a class and split, beyond the limit, whose authors are noted as well: for those that take a place later."""


@dataclass(frozen=True)
class Downloaded:
    """Counts of a finished download; `pictures` by split."""

    pictures: Mapping[str, int]
    boxes: int
    classes: int
    fetched: int
    marked: int
    missing: int
    unattributed: int
    set_aside: int

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {count:,}" for split, count in self.pictures.items())
        parts = [f"{counted(sum(self.pictures.values()), 'picture')} ({splits}), {counted(self.boxes, 'box', 'boxes')} "
                 f"of {counted(self.classes, 'class', 'classes')}", f"{self.fetched:,} fetched"]
        if self.marked:
            parts.append(f"{counted(self.marked, 'box that a filter refuses is', 'boxes that a filter refuses are')} "
                         "kept and marked difficult")
        if self.missing:
            parts.append(f"{self.missing:,} not on the server ({FOLDER}/{MISSING_FILE})")
        if self.unattributed:
            parts.append(f"{self.unattributed:,} without author or licence")
        if self.set_aside:
            parts.append(f"{self.set_aside:,} no longer chosen and set aside")
        return "; ".join(parts)


@dataclass
class Offer:
    """What the metadata offers: `labels` MID -> name, `owner` as `hierarchy.owners`, slices and candidates by split."""

    labels: dict[str, str]
    owner: dict[str, str]
    slices: dict[str, Path]
    candidates: dict[str, dict[str, Candidates]]


def find_offer(catalogue: Catalogue, labels: Sequence[str], settings) -> Offer:
    """Resolve `labels` and filter the boxes of all splits. Unknown names are refused before any box is read."""
    if not labels:
        raise DetectorError('source.labels is empty: detector.toml: name the classes to download, such as labels = '
                            '["Apple", "Orange"]; `invoke download --list WORD` shows their names')
    if not settings.splits:
        raise DetectorError('openimages.splits is empty: detector.toml: name splits, such as ["train", "validation"]')
    names = resolve(labels, catalogue.names())
    owner = catalogue.owners(list(names), settings.descendants)
    offer = Offer(names, owner, {}, {})
    for split in settings.splits:
        boxes = catalogue.boxes(split)
        boxes.ensure(owner)
        try:
            offer.candidates[split] = find_candidates(boxes.path, owner, settings)
        except ValueError as error:
            raise DetectorError(f"not the layout of Open Images ({error}): {boxes.url}: correct "
                                "openimages.metadata_url or openimages.version") from error
        offer.slices[split] = boxes.path
    return offer


def choose_all(offer: Offer, settings, missing: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Split -> MID -> chosen pictures; `missing` are names SPLIT/ID."""
    absent = {split: {name.partition("/")[2] for name in missing if name.startswith(f"{split}/")}
              for split in offer.candidates}
    return {split: choose(found, settings.limit, settings.seed, absent[split])
            for split, found in offer.candidates.items()}


def _union(chosen: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, set[str]]:
    return {split: set().union(*by_class.values()) for split, by_class in chosen.items()}


def _fetch_chosen(root: Path, offer: Offer, settings, patience: Patience) -> tuple[Fetched, Memory, int]:
    """Fetch what is chosen and not there, until nothing that the server lacks could be replaced any more."""
    memory, total, aside = Memory(root, settings.pictures_url), Fetched(), 0
    while True:
        wanted = _union(choose_all(offer, settings, memory.missing))
        aside += arrange(root, wanted)[0]
        items = []
        for split, image_ids in wanted.items():
            there = stored_ids(root, split)
            fresh = [each for each in seeded_order(image_ids - there, settings.seed)
                     if f"{split}/{each}" not in total.failed]
            items += [(f"{split}/{each}", f"{settings.pictures_url.rstrip('/')}/{split}/{each}.jpg",
                       picture_path(root, split, each)) for each in fresh]
        if not items:
            memory.save(total.spoilt)
            return total, memory, aside
        fetched = fetch_pictures(items, patience)
        failed = memory.learn(fetched)
        total.done += fetched.done
        total.failed |= failed
        total.spoilt |= {name: sha for name, sha in fetched.spoilt.items() if name in failed}
        memory.save(total.spoilt)


def download(root: Path, labels: Sequence[str], settings, patience: Patience | None = None) -> Downloaded:
    """Fetch the pictures that [openimages] asks for, and write boxes, names and authors beside them.

    Raises DetectorError for unknown names, unreadable metadata, and pictures that exist and could not be fetched;
    all that was fetched stays and is not fetched again.
    """
    patience = patience or Patience()
    try:
        catalogue = open_catalogue(root, settings, patience)
        offer = find_offer(catalogue, labels, settings)
        fetched, memory, aside = _fetch_chosen(root, offer, settings, patience)
        stored = {split: stored_ids(root, split) for split in offer.slices}
        write_class_names(root, offer.labels)
        boxes, marked = write_boxes(root, offer.slices, offer.owner, stored, settings)
        _refuse_failures(fetched)
        chosen = choose_all(offer, settings, memory.missing)
        _say_shortfalls(offer, chosen, settings.limit)
        unattributed = write_attribution(root, catalogue, stored, _spare(offer, settings))
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
    raise DetectorError(f"{counted(len(fetched.failed), 'picture')} could not be fetched, {fetched.done:,} could "
                        f"({first}): {FOLDER}: run the same command again, it fetches only what is missing")


def _say_shortfalls(offer: Offer, chosen: Mapping[str, Mapping[str, Sequence[str]]], limit: int) -> None:
    """Print a line for each split that has fewer pictures of a class than the limit allows, or none at all."""
    what = f"fewer pictures than openimages.limit = {limit:,} exist" if limit else "no picture exists"
    for split, by_class in chosen.items():
        few = [f"{offer.labels[mid]} {len(ids):,}" for mid, ids in by_class.items() if len(ids) < (limit or 1)]
        if few:
            print(f"download: {split}: {what}: {', '.join(few)}", flush=True)


def _spare(offer: Offer, settings) -> dict[str, set[str]]:
    more = settings.limit and 2 * settings.limit + _SPARE
    return {split: set().union(*choose(found, more, settings.seed, ()).values())
            for split, found in offer.candidates.items()}

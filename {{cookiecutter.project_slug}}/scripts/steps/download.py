"""The step `download`: from names of classes to images and boxes in images/source/openimages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.core import folder_lock
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, aligned, counted
from scripts.core.transfer import Patience
from scripts.data.openimages.catalog import open_catalog
from scripts.data.openimages.choice import Offer, find_offer, seeded_order
from scripts.data.openimages.class_names import matching, nearest, resolve
from scripts.data.openimages.download_folder import (
    MISSING_FILE,
    Memory,
    arrange,
    image_path,
    stored_ids,
    write_attribution,
    write_boxes,
    write_class_names,
)
from scripts.data.openimages.fetch import Fetched, fetch_images

_SPARE = 100
"""Images of a class and split, beyond the limit, whose authors are noted too: for those that take a
place later."""


def download(root: Path, labels: Sequence[str], settings, patience: Patience | None = None) -> str:
    """Fetch the images that [openimages] asks for; write boxes, names and authors beside them.

    Raises:
        DetectorError: for unknown names, unreadable metadata, and images that exist and could not
            be fetched. All that was fetched stays and is not fetched again.
    """
    layout, patience = Layout(root), patience or Patience()
    folder = layout.openimages
    try:
        # What the metadata offers.
        catalog = open_catalog(folder, settings, patience)
        offer = find_offer(catalog, labels, settings)

        # Images.
        memory = Memory(folder, settings.images_url)
        fetched, set_aside = _fetch_chosen(folder, offer, settings, memory, patience)
        stored = {split: stored_ids(folder, split) for split in offer.slices}

        # Tables beside them, also when some images failed.
        write_class_names(folder, offer.labels)
        boxes, marked = write_boxes(folder, offer.slices, offer.owner, stored, settings)
        _require_all_fetched(fetched, layout.shown(folder))
        _print_shortfalls(offer, settings, memory)
        more = settings.limit and 2 * settings.limit + _SPARE
        spare = _images_by_split(offer.choose(more, settings.seed))
        unattributed = write_attribution(folder, catalog, stored, spare)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what came is kept; `invoke download` goes on from there") from None

    splits = ", ".join(f"{split} {len(ids):,}" for split, ids in stored.items())
    missing = sum(name.partition("/")[0] in stored for name in memory.missing)
    texts = [f"{counted(sum(map(len, stored.values())), 'image')} ({splits}), "
             f"{counted(boxes.total(), 'box', 'boxes')} of "
             f"{counted(len(offer.labels), 'class', 'classes')}",
             f"{fetched.done:,} fetched"]
    if marked:
        texts.append(counted(marked, "box that a filter refuses is",
                             "boxes that a filter refuses are") + " kept and marked difficult")
    if missing:
        texts.append(f"{missing:,} not on the server ({layout.shown(folder / MISSING_FILE)})")
    if unattributed:
        texts.append(f"{unattributed:,} without author or license")
    if set_aside:
        texts.append(f"{set_aside:,} no longer chosen and set aside")
    return "; ".join(texts)


def _fetch_chosen(folder: Path, offer: Offer, settings, memory: Memory,
                  patience: Patience) -> tuple[Fetched, int]:
    """Fetch what is chosen and not there; return how it ended, and how many images were set aside.

    Another image takes the place of one that the server lacks, so there may be several rounds.
    """
    total, set_aside, base = Fetched(), 0, settings.images_url.rstrip("/")
    while True:
        chosen = _images_by_split(offer.choose(settings.limit, settings.seed, memory.missing))
        set_aside += arrange(folder, chosen)
        tasks = []
        for split, image_ids in chosen.items():
            absent = image_ids - stored_ids(folder, split)
            tasks += [(f"{split}/{image_id}", f"{base}/{split}/{image_id}.jpg",
                       image_path(folder, split, image_id))
                      for image_id in seeded_order(absent, settings.seed)
                      if f"{split}/{image_id}" not in total.failed]
        if not tasks:
            memory.save(total.spoilt)
            return total, set_aside
        fetched = fetch_images(tasks, patience)
        failed = memory.learn(fetched)
        total.done += fetched.done
        total.failed |= failed
        total.spoilt |= {name: sha for name, sha in fetched.spoilt.items() if name in failed}
        memory.save(total.spoilt)


def _images_by_split(chosen: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, set[str]]:
    return {split: set().union(*by_class.values()) for split, by_class in chosen.items()}


def _require_all_fetched(fetched: Fetched, where: str) -> None:
    if not fetched.failed:
        return
    name, reason = min(fetched.failed.items())
    first = f"{name}.jpg: {reason}"
    if len(fetched.failed) > 1:
        first = f"the first is {first}"
    raise DetectorError(f"{counted(len(fetched.failed), 'image')} could not be fetched, "
                        f"{fetched.done:,} could ({first}): {where}: run the same command again, "
                        "it fetches only what is missing")


def _print_shortfalls(offer: Offer, settings, memory: Memory) -> None:
    """Print a line for each split with fewer images of a class than the limit, or none at all."""
    limit = settings.limit
    problem = "no image exists"
    if limit:
        problem = f"fewer images than openimages.limit = {limit:,} exist"
    chosen = offer.choose(limit, settings.seed, memory.missing)
    for split, by_class in chosen.items():
        few = [f"{offer.labels[mid]} {len(ids):,}" for mid, ids in by_class.items()
               if len(ids) < (limit or 1)]
        if few:
            print(f"download: {split}: {problem}: {', '.join(few)}", flush=True)


# `invoke download --list` and `--stats-only`: what Open Images has, without fetching an image.

def list_classes(root: Path, word: str, labels: Sequence[str], settings,
                 patience: Patience | None = None) -> str:
    """Return a table of the classes with `word` in their name and their boxes in each split.

    The numbers, before any filter, come from reading all boxes once. The boxes of `labels` are kept
    on the way, so that `download` need not read them again.

    Raises:
        DetectorError: No name has the word in it.
    """
    folder_lock.acquire(root / ".steps/lock")  # a download may be writing the same metadata
    catalog = open_catalog(Layout(root).openimages, settings, patience)
    names = catalog.names()
    found = matching(word, names)
    if not found:
        close = nearest(word, names, 3)
        advice = (f"did you mean {' or '.join(close)}?" if close
                  else "`invoke download --list` shows all names")
        raise DetectorError(f"no class of Open Images has '{word}' in its name: "
                            f"{settings.version}: {advice}")
    try:
        mids = list(resolve(labels, names)) if labels else []
        wanted = set(catalog.owners(mids, settings.descendants)) if mids else set()
    except DetectorError:
        wanted = set()  # the list is what helps to correct them

    counts = {}
    for split in settings.splits:
        boxes = catalog.boxes(split)
        if boxes.counts is None:
            boxes.ensure(wanted)
        counts[split] = boxes.counts or {}
    rows = [(name, *(f"{counts[split].get(mid, 0):,}" for split in settings.splits))
            for mid, name in found.items()]
    table = aligned([("boxes of", *settings.splits), *rows])
    return f"{table}\n{counted(len(rows), 'class', 'classes')}"


def show_stats(root: Path, labels: Sequence[str], settings,
               patience: Patience | None = None) -> str:
    """Return a table of images and boxes that pass the filters, by class and split.

    It also says how many would be fetched.
    """
    folder_lock.acquire(root / ".steps/lock")
    folder = Layout(root).openimages
    offer = find_offer(open_catalog(folder, settings, patience), labels, settings)
    missing = Memory(folder, settings.images_url).missing
    chosen = offer.choose(settings.limit, settings.seed, missing)
    rows = [("class", "split", "images", "boxes", "refused", "chosen")]
    for mid, label in offer.labels.items():
        for split, by_class in offer.candidates.items():
            found = by_class[mid]
            numbers = (len(found.images), found.boxes, found.failing_boxes, len(chosen[split][mid]))
            rows.append((label, split, *(f"{number:,}" for number in numbers)))
    total = sum(map(len, _images_by_split(chosen).values()))
    return (f"{aligned(rows, texts=2)}\n{counted(total, 'image')} would be fetched; refused: boxes "
            "that a filter refuses, kept and marked difficult in chosen images")

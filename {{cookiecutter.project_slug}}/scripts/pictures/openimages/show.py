"""`invoke download --list` and `--stats-only`: what Open Images has, without a picture being fetched."""

from collections.abc import Sequence
from pathlib import Path

from scripts.pictures.openimages.catalogue import open_catalogue
from scripts.pictures.openimages.classes import matching, nearest, resolve
from scripts.pictures.openimages.download import choose_all, find_offer
from scripts.pictures.openimages.memory import Memory
from scripts.pipeline import lock
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.transfer import Patience
from scripts.pipeline.words import counted

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
    """A table of the classes with `word` in their name ("": all) and their boxes in each split, before any filter.

    The numbers come from reading all boxes once; the boxes of `labels` are kept on the way, so that `download` need
    not read them again. DetectorError when no name fits.
    """
    lock.acquire(root / _LOCK)
    catalogue = open_catalogue(root, settings, patience)
    names = catalogue.names()
    found = matching(word, names)
    if not found:
        close = nearest(word, names, 3)
        advice = "did you mean " + " or ".join(close) + "?" if close else "`invoke download --list` shows all names"
        raise DetectorError(f"no class of Open Images has '{word}' in its name: {settings.version}: {advice}")
    try:
        wanted = set(catalogue.owners(list(resolve(labels, names)), settings.descendants)) if labels else set()
    except DetectorError:
        wanted = set()  # the list is what helps to correct them
    counts = {}
    for split in settings.splits:
        part = catalogue.boxes(split)
        if part.counts is None:
            part.ensure(wanted)
        counts[split] = part.counts or {}
    rows = [(name, *(counts[split].get(mid, 0) for split in settings.splits)) for mid, name in found.items()]
    return _table([("boxes of", *settings.splits), *rows], 1) + f"\n{counted(len(rows), 'class', 'classes')}"


def show_stats(root: Path, labels: Sequence[str], settings, patience: Patience | None = None) -> str:
    """A table of pictures and boxes that pass the filters, by class and split, and how many would be fetched."""
    lock.acquire(root / _LOCK)
    offer = find_offer(open_catalogue(root, settings, patience), labels, settings)
    chosen = choose_all(offer, settings, Memory(root, settings.pictures_url).missing)
    rows: list[tuple] = [("class", "split", "pictures", "boxes", "refused", "chosen")]
    for mid, label in offer.labels.items():
        for split, found in offer.candidates.items():
            each = found[mid]
            rows.append((label, split, len(each.pictures), each.boxes, each.failing_boxes, len(chosen[split][mid])))
    total = sum(len(set().union(*by_class.values())) for by_class in chosen.values())
    return _table(rows, 2) + (f"\n{counted(total, 'picture')} would be fetched; refused: boxes that a filter refuses, "
                              "kept and marked difficult in chosen pictures")

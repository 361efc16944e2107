"""What organize wrote into `images/`, so that it can leave alone what the user has changed, moved or deleted there.

`annotations/organize.json` keeps one entry for each picture: where it came from, what was written, and the lines
of its boxes in the source's label file.
"""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from itertools import takewhile
from pathlib import Path

from scripts.pictures.formats.voc import voc_xml
from scripts.pictures.reading import Item
from scripts.pictures.source import PICTURE_SUFFIXES
from scripts.pictures.split import SPLITS
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import replacing, sha256_file, write_bytes

LEDGER = "annotations/organize.json"


def read_ledger(root: Path) -> dict:
    """The content of `organize.json`; an empty one when the file is not there. DetectorError when it is broken."""
    try:
        ledger = json.loads((root / LEDGER).read_text("utf-8"))
        if ledger.get("schema") == 1:
            return ledger
        problem = f"schema {ledger.get('schema')!r} is not 1"
    except FileNotFoundError:
        return {"schema": 1, "source": {}, "counts": {}, "pictures": [], "findings": []}
    except (ValueError, AttributeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: {LEDGER}: delete it, then `invoke organize`")


def stored_pictures(root: Path) -> dict[str, Path]:
    """Picture files in `images/{train,validation,test}` by split and file name, in order."""
    found = {}
    for split in SPLITS:
        folder = root / "images" / split
        paths = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
        for path in paths:
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
                found[f"{split}/{path.name}"] = path
    return found


class ImagesFolder:
    """Writes items into `images/` by the rules of ownership.

    `counts` says what happened to how many pictures; `removed` are the entries of drawn pictures that made way.
    """

    def __init__(self, root: Path, entries: list[dict]):
        self.root = root
        self.counts = Counter()
        self.removed: list[dict] = []
        self.by_source = {entry["source"]: entry for entry in entries}
        self.unmatched = dict(self.by_source)
        # A picture that the user moved to another split is found by its name.
        self.present = {path.stem: path for path in stored_pictures(root).values()}
        listed = {entry["name"] for entry in entries}
        # Pictures without an entry: the user's own, or ours after the ledger was lost.
        self.unlisted = {sha256_file(path): path for name, path in self.present.items() if name not in listed}

    def adopt_moved_sources(self, items: list[Item]) -> None:
        """A source file that was renamed or moved keeps its entry: same bytes, and the old path is gone."""
        shown, gone = {item.shown for item in items}, defaultdict(list)
        for source, entry in self.by_source.items():
            if source not in shown:
                gone[entry["sha256"]].append(entry)
        for item in items:
            found = gone[item.facts.sha256] if item.shown not in self.by_source else []
            if found:
                # Copies of one picture are told apart by the folders that did not change.
                entry = max(found, key=lambda entry: _shared_end(entry["source"], item.shown))
                found.remove(entry)
                del self.by_source[entry["source"]], self.unmatched[entry["source"]]
                self.by_source[item.shown] = self.unmatched[item.shown] = {**entry, "source": item.shown}
                self.counts["moved"] += 1

    def split_of(self, item: Item) -> str:
        """The split where this picture lies now, "" for one that is not in `images/` yet."""
        entry = self.by_source.get(item.shown)
        if not entry:
            path = self.unlisted.get(item.facts.staged_sha256 or item.facts.sha256)
            return path.parent.name if path else ""
        path = self.present.get(entry["name"])
        return path.parent.name if path else entry["split"]

    def put(self, item: Item) -> dict:
        """Write one item, or leave it alone, and return its new entry."""
        old = self.unmatched.pop(item.shown, None)
        entry = {
            "name": item.name,
            "split": item.picture.split,
            "source": item.shown,
            "sha256": item.facts.sha256,
            "format": item.facts.format,
            "width": item.facts.width_px,
            "height": item.facts.height_px,
            "whole": item.facts.whole,
            "label": item.label_shown,
            "lines": [box.line for box in item.picture.boxes],
        }
        if old and old["name"] not in self.present:
            self.counts["deleted"] += 1
            return {**old, **entry, "deleted": True}
        folder = self.root / "images" / item.picture.split
        picture_path = folder / item.file_name
        if old and self._drop_other_extension(old, picture_path):
            return {**old, "edited": True}
        results = [self._put_picture(item, picture_path, entry, old), self._put_label(item, picture_path, entry, old)]
        self.counts[next(word for word in ("edited", "new", "updated", "same") if word in results)] += 1
        return entry

    def _drop_other_extension(self, old: dict, picture_path: Path) -> bool:
        """Whether the picture exists under another extension that the user has changed; an unchanged one is removed."""
        present = self.present[old["name"]]
        if present.name == picture_path.name:
            return False
        if sha256_file(present) != old.get("picture_sha256"):
            self.counts["edited"] += 1
            return True
        present.unlink()
        old.pop("picture_sha256")
        return False

    def _put_picture(self, item: Item, path: Path, entry: dict, old: dict | None) -> str:
        wanted = item.facts.staged_sha256 or item.facts.sha256
        written = old.get("picture_sha256") if old else None
        present = sha256_file(path) if path.exists() else None
        result = _decide(present, wanted, written)
        entry["picture_sha256"] = written if result == "edited" else wanted
        if old and result == "edited":  # these describe the bytes of that digest, also when the source has others now
            entry |= {key: old.get(key, False) for key in ("format", "width", "height", "whole")}
        if result in ("new", "updated"):
            with replacing(path) as temporary:
                shutil.copyfile(item.facts.staged or item.picture.path, temporary)
        return result

    def _put_label(self, item: Item, picture_path: Path, entry: dict, old: dict | None) -> str:
        path = picture_path.with_name(item.name + ".xml")
        data = voc_xml(
            item.picture.split, picture_path.name, item.facts.width_px, item.facts.height_px, item.picture.boxes
        )
        wanted = hashlib.sha256(data).hexdigest()
        written = old.get("xml_sha256") if old else None
        present = sha256_file(path) if path.exists() else None
        result = "edited" if old and present is None else _decide(present, wanted, written)
        entry["xml_sha256"] = written if result == "edited" else wanted
        if result in ("new", "updated"):
            write_bytes(path, data)
        return result

    def remove_drawn(self, items: list[Item]) -> None:
        """Remove unedited pictures that `items` lack: for those that we drew, which can be drawn again."""
        for source in self.by_source.keys() - {item.shown for item in items}:
            entry = self.by_source[source]
            path = self.present.get(entry["name"])
            if path and not as_written(path, entry):
                continue
            if path:
                path.unlink()
                path.with_suffix(".xml").unlink()
                self.counts["removed"] += 1
            self.removed.append(entry)
            # Its name is free for another picture.
            del self.by_source[source], self.unmatched[source]

    def keep_the_rest(self) -> list[dict]:
        """Entries of pictures that the source no longer has: they stay."""
        kept = []
        for entry in self.unmatched.values():
            path = self.present.get(entry["name"])
            if path is None:
                continue
            self.counts["gone"] += 1
            kept.append({**entry, "gone": True})
        return kept


def as_written(picture: Path, entry: dict) -> bool:
    """Whether a picture of `images/` and its label file are still what organize wrote, by the entry of the ledger."""
    label = picture.with_suffix(".xml")
    return (
        label.exists()
        and sha256_file(label) == entry.get("xml_sha256")
        and sha256_file(picture) == entry.get("picture_sha256")
    )


def _shared_end(one: str, other: str) -> int:
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _decide(present: str | None, wanted: str, written: str | None) -> str:
    """What to do with one file, from the SHA-256 of what is there, what the source says and what we wrote last."""
    if present is None:
        return "new"
    if present == wanted:
        return "same"
    return "updated" if present == written else "edited"

"""Writing into `images/`, which belongs to the user after the first organize.

An image that is new in the source is added, one that changed there is updated. Nothing that the
user edited is rewritten, moved or deleted. One rule holds for a changed source, whatever its kind:
images that came from the earlier one and that nobody edited move out of the way, edited ones stop
organize.
"""

import hashlib
import os
import shutil
from collections import Counter, defaultdict
from itertools import takewhile
from pathlib import Path

from scripts.core.files import replacing, sha256_file, write_bytes
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS
from scripts.data.formats.voc import voc_xml
from scripts.data.manifest import is_as_written, stored_images
from scripts.data.reading import Item

_LISTED = 3  # edited images that a message names; of more it names the folders


class ImagesFolder:
    """The folder `images/` during one run of organize.

    `counts` says what happened to how many images.
    """

    def __init__(self, images: Path, entries: list[dict]):
        """`entries` are the images of the manifest; without any image there, all starts anew."""
        self.images, self.counts = images, Counter()
        # An image that the user moved to another split is found by its name.
        self.present = {path.stem: path for path in stored_images(images).values()}
        self.by_source = {entry["source"]: entry for entry in entries if self.present}
        self.unmatched = dict(self.by_source)
        listed = {entry["name"] for entry in self.by_source.values()}
        # Images without an entry: the user's own, or organize's after the manifest was lost.
        self.unlisted = {sha256_file(path): path for name, path in self.present.items()
                         if name not in listed}

    # Another source than last time.

    def adopt_moved_sources(self, items: list[Item]) -> None:
        """Keep the entry of a source file that was renamed or moved: same bytes, old path gone."""
        shown, gone = {item.shown for item in items}, defaultdict(list)
        for source, entry in self.by_source.items():
            if source not in shown:
                gone[entry["sha256"]].append(entry)
        for item in items:
            found = gone[item.facts.sha256] if item.shown not in self.by_source else []
            if found:
                # Copies of one image are told apart by the folders that did not change.
                entry = max(found, key=lambda entry: _shared_end(entry["source"], item.shown))
                found.remove(entry)
                self._forget(entry)
                adopted = {**entry, "source": item.shown}
                self.by_source[item.shown] = self.unmatched[item.shown] = adopted
                self.counts["moved"] += 1

    def images_of_earlier_source(self, items: list[Item], before: dict) -> list[dict]:
        """Return the entries of images that `items`, those of another source, lack.

        Args:
            items: the images of the present source.
            before: what the manifest says of the earlier source.

        Raises:
            DetectorError: someone edited such an image.
        """
        shown = {item.shown for item in items}
        earlier = [entry for source, entry in self.by_source.items() if source not in shown]
        edited = [path for entry in earlier if (path := self.present.get(entry["name"]))
                  and not is_as_written(path, entry)]
        if edited:
            raise self._edited(edited, before)
        return earlier

    def _edited(self, edited: list[Path], before: dict) -> DetectorError:
        names = [f"images/{path.parent.name}/{path.stem}" for path in edited]
        listed = ", ".join(names[:_LISTED]) + ", ..." * (len(names) > _LISTED)
        command = "rm " + " ".join(f"'{name}'.*" if " " in name else f"{name}.*" for name in names)
        if len(names) > _LISTED:
            folders = [split for split in SPLITS if (self.images / split).is_dir()]
            command = "rm -r " + " ".join(f"images/{split}" for split in folders)
        lost = " (copy what you edited or added there first)" if len(names) > _LISTED else ""
        path = f', path = "{before["path"]}"' if before["kind"] == "folder" else ""
        return DetectorError(
            f"{counted(len(edited), 'image')} edited here came from the earlier source "
            f"'{before['path']}': {listed}: to give up the edits type `{command}`{lost} and run "
            f'the same command again; to keep them set kind = "{before["kind"]}"{path} under '
            "[source] in detector.toml")

    def move_aside(self, entries: list[dict], aside: Path) -> None:
        """Move the images of `entries` with their labels to the folder `aside`; names get free."""
        for entry in entries:
            self._forget(entry)
            name = entry["name"]
            image = self.present.pop(name, None)
            # Also a label alone: a run that was ended between the two left it.
            folder = image.parent if image else self.images / entry["split"]
            for file in filter(None, (image, folder / f"{name}.xml")):
                if file.exists():
                    (aside / folder.name).mkdir(parents=True, exist_ok=True)
                    os.replace(file, aside / folder.name / file.name)
            self.counts["aside"] += image is not None

    def _forget(self, entry: dict) -> None:
        del self.by_source[entry["source"]], self.unmatched[entry["source"]]

    def check_lost_manifest(self, items: list[Item], known: set[str]) -> None:
        """Stop before images of two sources are mixed because the manifest was lost.

        Args:
            items: the images of the source.
            known: SHA-256 of images that organize may have put into `images/`.

        Raises:
            DetectorError: organize put images there, and none of `items`.
        """
        earlier = [path for sha256, path in self.unlisted.items() if sha256 in known]
        if earlier and not any(item.facts.sha256 in known for item in items):
            folders = " ".join(sorted({f"images/{path.parent.name}" for path in earlier}))
            raise DetectorError(
                f"{counted(len(earlier), 'image')} of an earlier source would be mixed with those "
                "of the present one, and organize.json, which knew whether you edited them, is "
                f"gone: images/: type `rm -r {folders}` (copy what you edited or added there "
                "first) and run the same command again")

    # One image.

    def names(self) -> dict[str, str]:
        """Return the names that images got in an earlier run, by the file of the source."""
        return {source: entry["name"] for source, entry in self.by_source.items()}

    def split_of(self, item: Item) -> str:
        """Return the split where this image lies now, "" for one that is not there yet."""
        entry = self.by_source.get(item.shown)
        if not entry:
            path = self.unlisted.get(item.facts.staged_sha256 or item.facts.sha256)
            return path.parent.name if path else ""
        path = self.present.get(entry["name"])
        return path.parent.name if path else entry["split"]

    def put(self, item: Item) -> dict:
        """Write an image and its label file, or leave them alone, and return the new entry."""
        old = self.unmatched.pop(item.shown, None)
        entry = {
            "name": item.name, "split": item.image.split, "source": item.shown,
            "sha256": item.facts.sha256, "format": item.facts.format,
            "width": item.facts.width_px, "height": item.facts.height_px,
            "complete": item.facts.complete, "label": item.label_shown,
            "lines": [box.line for box in item.image.boxes],
        }
        if old and old["name"] not in self.present:
            self.counts["deleted"] += 1
            return {**old, **entry, "deleted": True}
        path = self.images / item.image.split / item.file_name
        if old and self._is_edited_under_other_ending(old, path):
            self.counts["edited"] += 1
            return {**old, "edited": True}
        results = [self._put_image(item, path, entry, old), self._put_label(item, path, entry, old)]
        order = ("edited", "new", "updated", "same")
        self.counts[next(word for word in order if word in results)] += 1
        return entry

    def _is_edited_under_other_ending(self, old: dict, path: Path) -> bool:
        """Return whether the user changed the image under another ending than that of `path`.

        An unchanged one there is removed: `path` takes its place.
        """
        present = self.present[old["name"]]
        if present.name == path.name:
            return False
        if sha256_file(present) != old.get("image_sha256"):
            return True
        present.unlink()
        old.pop("image_sha256")
        return False

    def _put_image(self, item: Item, path: Path, entry: dict, old: dict | None) -> str:
        wanted = item.facts.staged_sha256 or item.facts.sha256
        written = old.get("image_sha256") if old else None
        result = _decide(sha256_file(path) if path.exists() else None, wanted, written)
        entry["image_sha256"] = written if result == "edited" else wanted
        if old and result == "edited":
            # These describe the bytes of that digest, also when the source has others now.
            keys = ("format", "width", "height", "complete")
            entry |= {key: old.get(key, False) for key in keys}
        if result in ("new", "updated"):
            with replacing(path) as temporary:
                shutil.copyfile(item.facts.staged or item.image.path, temporary)
        return result

    def _put_label(self, item: Item, image_path: Path, entry: dict, old: dict | None) -> str:
        path = image_path.with_name(item.name + ".xml")
        data = voc_xml(item.image.split, image_path.name, item.facts.width_px,
                       item.facts.height_px, item.image.boxes)
        wanted = hashlib.sha256(data).hexdigest()
        written = old.get("xml_sha256") if old else None
        present = sha256_file(path) if path.exists() else None
        result = "edited" if old and present is None else _decide(present, wanted, written)
        entry["xml_sha256"] = written if result == "edited" else wanted
        if result in ("new", "updated"):
            write_bytes(path, data)
        return result

    def keep_the_rest(self) -> list[dict]:
        """Return the entries of images that the source no longer has: they stay."""
        kept = [{**entry, "gone": True} for entry in self.unmatched.values()
                if entry["name"] in self.present]
        self.counts["gone"] += len(kept)
        return kept


def _shared_end(one: str, other: str) -> int:
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _decide(present: str | None, wanted: str, written: str | None) -> str:
    """Return what to do with a file.

    Arguments are the SHA-256 of what is there, what the source says and what organize wrote last.
    """
    if present is None:
        return "new"
    if present == wanted:
        return "same"
    return "updated" if present == written else "edited"

"""What organize wrote into `images/`, so that it can leave alone what the user has changed, moved
or deleted there.

`annotations/organize.json` keeps one entry for each image: where it came from, what was written,
and the lines of its boxes in the source's label file.
"""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from scripts.core.files import replacing, sha256_file, write_bytes
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, LabelError, Labels
from scripts.data.demo.scene import drawn_sha256
from scripts.data.formats.voc import read_voc, read_written, voc_xml
from scripts.data.image_files import ImageFacts, inspect_image, is_whole
from scripts.data.reading import Item
from scripts.data.source import IMAGE_SUFFIXES

MANIFEST = "annotations/organize.json"


def read_manifest(root: Path) -> dict:
    """The content of `organize.json`; an empty one when the file is not there. DetectorError when
    it is broken."""
    try:
        manifest = json.loads((root / MANIFEST).read_text("utf-8"))
        if manifest.get("schema") == 1:
            return manifest
        problem = f"schema {manifest.get('schema')!r} is not 1"
    except FileNotFoundError:
        return {"schema": 1, "source": {}, "counts": {}, "images": [], "findings": []}
    except (ValueError, AttributeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: {MANIFEST}: delete it, then `invoke organize`")


def stored_images(root: Path) -> dict[str, Path]:
    """Image files in `images/{train,validation,test}` by split and file name, in order."""
    found = {}
    for split in SPLITS:
        folder = root / "images" / split
        paths = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
        for path in paths:
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                found[f"{split}/{path.name}"] = path
    return found


class ImagesFolder:
    """Writes items into `images/` by the rules of ownership.

    `counts` says what happened to how many images; `removed` are the entries of drawn images that
    made way.
    """

    def __init__(self, root: Path, entries: list[dict]):
        self.root = root
        self.counts = Counter()
        self.removed: list[dict] = []
        self.by_source = {entry["source"]: entry for entry in entries}
        self.unmatched = dict(self.by_source)
        # An image that the user moved to another split is found by its name.
        self.present = {path.stem: path for path in stored_images(root).values()}
        listed = {entry["name"] for entry in entries}
        # Images without an entry: the user's own, or ours after the manifest was lost.
        self.unlisted = {sha256_file(path): path for name, path in self.present.items() if name not in listed}

    def adopt_moved_sources(self, items: list[Item]) -> None:
        """A source file that was renamed or moved keeps its entry: same bytes, and the old path is
        gone."""
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
                del self.by_source[entry["source"]], self.unmatched[entry["source"]]
                self.by_source[item.shown] = self.unmatched[item.shown] = {**entry, "source": item.shown}
                self.counts["moved"] += 1

    def split_of(self, item: Item) -> str:
        """The split where this image lies now, "" for one that is not in `images/` yet."""
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
            "split": item.image.split,
            "source": item.shown,
            "sha256": item.facts.sha256,
            "format": item.facts.format,
            "width": item.facts.width_px,
            "height": item.facts.height_px,
            "whole": item.facts.whole,
            "label": item.label_shown,
            "lines": [box.line for box in item.image.boxes],
        }
        if old and old["name"] not in self.present:
            self.counts["deleted"] += 1
            return {**old, **entry, "deleted": True}
        folder = self.root / "images" / item.image.split
        image_path = folder / item.file_name
        if old and self._drop_other_extension(old, image_path):
            return {**old, "edited": True}
        results = [self._put_image(item, image_path, entry, old), self._put_label(item, image_path, entry, old)]
        self.counts[next(word for word in ("edited", "new", "updated", "same") if word in results)] += 1
        return entry

    def _drop_other_extension(self, old: dict, image_path: Path) -> bool:
        """Whether the image exists under another extension that the user has changed; an unchanged
        one is removed."""
        present = self.present[old["name"]]
        if present.name == image_path.name:
            return False
        if sha256_file(present) != old.get("image_sha256"):
            self.counts["edited"] += 1
            return True
        present.unlink()
        old.pop("image_sha256")
        return False

    def _put_image(self, item: Item, path: Path, entry: dict, old: dict | None) -> str:
        wanted = item.facts.staged_sha256 or item.facts.sha256
        written = old.get("image_sha256") if old else None
        present = sha256_file(path) if path.exists() else None
        result = _decide(present, wanted, written)
        entry["image_sha256"] = written if result == "edited" else wanted
        if old and result == "edited":  # these describe the bytes of that digest, also when the source has others now
            entry |= {key: old.get(key, False) for key in ("format", "width", "height", "whole")}
        if result in ("new", "updated"):
            with replacing(path) as temporary:
                shutil.copyfile(item.facts.staged or item.image.path, temporary)
        return result

    def _put_label(self, item: Item, image_path: Path, entry: dict, old: dict | None) -> str:
        path = image_path.with_name(item.name + ".xml")
        data = voc_xml(
            item.image.split, image_path.name, item.facts.width_px, item.facts.height_px, item.image.boxes
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
        """Remove unedited images that `items` lack: for those that we drew, which can be drawn
        again."""
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
            # Its name is free for another image.
            del self.by_source[source], self.unmatched[source]

    def keep_the_rest(self) -> list[dict]:
        """Entries of images that the source no longer has: they stay."""
        kept = []
        for entry in self.unmatched.values():
            path = self.present.get(entry["name"])
            if path is None:
                continue
            self.counts["gone"] += 1
            kept.append({**entry, "gone": True})
        return kept


def as_written(image: Path, entry: dict) -> bool:
    """Whether an image of `images/` and its label file are still what organize wrote, by the entry
    of the manifest."""
    label = image.with_suffix(".xml")
    return (
        label.exists()
        and sha256_file(label) == entry.get("xml_sha256")
        and sha256_file(image) == entry.get("image_sha256")
    )


def _shared_end(one: str, other: str) -> int:
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _decide(present: str | None, wanted: str, written: str | None) -> str:
    """What to do with one file, from the SHA-256 of what is there, what the source says and what we
    wrote last."""
    if present is None:
        return "new"
    if present == wanted:
        return "same"
    return "updated" if present == written else "edited"


# What lies in `images/{train,validation,test}` now: each image read once, with its label file.

@dataclass(frozen=True)
class Stored:
    """One image of `images/`. `label` is None when there is no readable label file; `label_error`
    says why.

    `entry` is organize's entry for it (None: the user's own); `edited` tells that image or label
    file differ from what organize wrote. `shown` and `label_shown` are the files and `lines` the
    lines to point a person to: those of the source as long as the label file is as it was written.
    """

    split: str
    path: Path
    facts: ImageFacts
    label: Labels | None
    label_error: str
    label_error_line: int
    entry: dict | None
    edited: bool
    shown: str
    label_shown: str
    lines: tuple[int, ...]


def _known_facts(path: Path, entry: dict | None) -> ImageFacts | None:
    """Facts of an image that organize has decoded and reported on; None when its bytes are others.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            digest = hashlib.sha256(file.readall()).hexdigest()
    except OSError as error:
        return ImageFacts(error=f"cannot be opened: {error.strerror}")
    if not entry or digest != entry.get("image_sha256"):
        return None
    size = {"width_px": entry["width"], "height_px": entry["height"]}
    whole = entry.get("whole", True)
    return ImageFacts(digest, source_format=entry["format"], format=entry["format"], whole=whole, **size)


def read_label(path: Path, entry: dict | None) -> tuple[Labels, bool]:
    """The label file of an image of `images/`, and whether it is as organize wrote it by the entry
    of the manifest.

    Such a file needs no parser, which takes most of the time otherwise. LabelError as `read_voc`,
    FileNotFoundError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LabelError(f"cannot be opened: {error.strerror}") from None
    as_written = bool(entry) and hashlib.sha256(data).hexdigest() == entry.get("xml_sha256")
    return (read_written(data) if as_written else None) or read_voc(path), as_written


def shown_lines(root: Path, path: Path, label: Labels, entry: dict | None) -> tuple[str, tuple[int, ...]]:
    """The file to point a person to for the label file `path`, and the line of each of its boxes
    there.

    Those of the source when `entry` of the manifest is given, which says that the label file is as
    organize wrote it.
    """
    if entry:
        return entry["label"] or entry["source"], tuple(entry["lines"])
    return path.relative_to(root).as_posix(), tuple(box.line for box in label.boxes)


def _inspect(path: Path) -> ImageFacts:
    facts = inspect_image((str(path), "stored", ""))
    # Facts are those of the bytes that organize would write; here nobody writes any.
    return facts if facts.error else replace(facts, whole=is_whole(path.read_bytes(), facts.format))


def _stored(root: Path, shown: str, path: Path, facts: ImageFacts, entry: dict | None) -> Stored:
    label_path = path.with_suffix(".xml")
    label, as_written, label_error, error_line = None, False, "", 0
    try:
        label, as_written = read_label(label_path, entry)
    except FileNotFoundError:
        pass
    except LabelError as error:
        label_error, error_line = str(error), error.line
    written = entry if as_written else None
    label_shown, lines = shown_lines(root, label_path, label or Labels(()), written)
    return Stored(
        split=path.parent.name,
        path=path,
        facts=facts,
        label=label,
        label_error=label_error,
        label_error_line=error_line,
        entry=entry,
        edited=bool(entry) and not (as_written and facts.sha256 == entry.get("image_sha256")),
        shown=written["source"] if written else shown,
        label_shown=label_shown,
        lines=lines,
    )


def read_stored(root: Path, name: str) -> list[Stored]:
    """All images of `images/`, by split and file name; `name` stands before the progress bar.

    Only bytes that organize has not seen are decoded, in all cores when they are many. The rest is
    less work than handing it to another process.
    """
    entries = {entry["name"]: entry for entry in read_manifest(root)["images"]}
    images = {f"images/{key}": (path, entries.get(path.stem)) for key, path in stored_images(root).items()}
    known = {shown: _known_facts(path, entry) for shown, (path, entry) in images.items()}
    others = [shown for shown, facts in known.items() if facts is None]
    known.update(zip(others, map_items(_inspect, [images[shown][0] for shown in others], name), strict=True))
    return [_stored(root, shown, path, known[shown], entry) for shown, (path, entry) in images.items()]


def stored_labels(root: Path) -> list[Path]:
    """All label files of `images/`, in order."""
    return [path for split in SPLITS for path in sorted((root / "images" / split).glob("*.xml"))]


# Another source in detector.toml than the one that the images in `images/` came from.

DEMO_FOLDER = "images/source/demo"
OPENIMAGES_FOLDER = "images/source/openimages"
_SHOWN = 3
_ALL_DRAWN = "images/*/fruit_[0-9]*"


def source_of(source) -> dict[str, str]:
    """What `organize.json` keeps of the table [source]: its kind and, of images that are not drawn,
    their path."""
    paths = {"demo": "", "openimages": OPENIMAGES_FOLDER}
    return {"kind": source.kind, "path": paths.get(source.kind, source.path)}


class SourceChange:
    """Compares the source of `manifest` (what `organize.json` says) with that of detector.toml."""

    def __init__(self, root: Path, manifest: dict, source):
        self.root, self.before, self.now = root, manifest["source"], source_of(source)
        self.images = stored_images(root)
        by_name = {path.stem: path for path in self.images.values()}
        # Entries whose image is still in images/, with that file.
        self.here = [(entry, by_name[entry["name"]]) for entry in manifest["images"] if entry["name"] in by_name]

    @property
    def leaves_demo(self) -> bool:
        """Whether the images in `images/` were drawn and the source is now another one."""
        return self.before.get("kind") == "demo" and self.now["kind"] != "demo"

    def refuse_drawing(self) -> None:
        """DetectorError when images of another source are in `images/` and the source is now the
        demo."""
        if self.before.get("kind") in ("folder", "openimages") and self.now["kind"] == "demo" and self.here:
            raise self._other_source('source.kind is now "demo"')

    def refuse_edited_drawings(self) -> None:
        """DetectorError when drawn images would make way and someone has edited some of them, or
        may have."""
        if self.now["kind"] == "demo":
            return
        if not self.before:
            self._refuse_drawings_of_lost_manifest()
        edited = [path for entry, path in self.here if not as_written(path, entry)] if self.leaves_demo else []
        if not edited:
            return
        names = [path.relative_to(self.root).with_suffix("").as_posix() for path in edited]
        files = " ".join(f"{name}.*" for name in names) if len(names) <= _SHOWN else _ALL_DRAWN
        more = ", ..." if len(names) > _SHOWN else ""
        raise DetectorError(
            f"{counted(len(edited), 'drawn image')} edited here would be removed with the demo source: "
            f"{', '.join(names[:_SHOWN])}{more}: to give up the edits type `rm {files}` and run the same command "
            'again; to keep them set source.kind = "demo" in detector.toml'
        )

    def _refuse_drawings_of_lost_manifest(self) -> None:
        drawn = drawn_sha256(self.root / DEMO_FOLDER)
        found = [path for path in self.images.values() if sha256_file(path) in drawn] if drawn else []
        if found:
            raise DetectorError(
                f"{counted(len(found), 'drawn image')} would be mixed with yours, and organize.json, which knew "
                f"whether you edited them, is gone: images/: type `rm {_ALL_DRAWN}` and run the same command again"
            )

    def refuse_other_images(self, sha256s: set[str]) -> None:
        """DetectorError when `images/` holds images of another folder, downloaded ones included.

        `sha256s` are those of the images of the present source: where they include all that came
        from the old path, the folder was only moved.
        """
        theirs = self.before.get("kind") in ("folder", "openimages") and self.here
        if not theirs or _same_folder(self.root, self.before, self.now):
            return
        known = {entry["sha256"] for entry, _ in self.here if not entry.get("gone")}
        missing = known - sha256s
        if missing or not known:
            where = f"source.path is now '{self.now['path']}'" if self.now["kind"] == "folder" else "now Open Images"
            raise self._other_source(f"{where}, which lacks {len(missing):,} of them")

    def _other_source(self, now: str) -> DetectorError:
        listed = {path for _, path in self.here}
        mine = [path for path in self.images.values() if path not in listed]
        mine += [path for entry, path in self.here if not as_written(path, entry)]
        lost = f" (this loses {counted(len(mine), 'image')} edited or added here: copy first)" if mine else ""
        folders = " ".join(f"images/{split}" for split in SPLITS if (self.root / "images" / split).is_dir())
        back = [f'source.kind = "{self.before["kind"]}"'] * (self.now["kind"] != self.before["kind"])
        back += [f'source.path = "{self.before["path"]}"'] * (self.before["kind"] == "folder")
        return DetectorError(
            f"{counted(len(self.here), 'image')} in images/ came from '{self.before['path']}', {now}: images/: "
            f"to replace them type `rm -r {folders}`{lost} and run the same command again; to go on with them "
            f"set {', '.join(back)} in detector.toml"
        )


def _same_folder(root: Path, before: dict, now: dict) -> bool:
    one, other = before["path"], now["path"]
    return one == other or (root / Path(one).expanduser()).resolve() == (root / Path(other).expanduser()).resolve()

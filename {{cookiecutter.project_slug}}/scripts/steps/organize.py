"""From a source of labeled images to `images/{train,validation,test}`: the step `organize`."""

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.core.files import write_json
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS
from scripts.data.demo.scene import check_demo_labels, draw_demo
from scripts.data.findings import Finding
from scripts.data.manifest import (
    DEMO_FOLDER,
    MANIFEST,
    OPENIMAGES_FOLDER,
    ImagesFolder,
    SourceChange,
    read_manifest,
    source_of,
    stored_images,
)
from scripts.data.reading import Item, SourceReader, drop_duplicates, give_names
from scripts.data.source import SourceFiles, scan_source
from scripts.data.split import assign_splits, read_split, remember, wanted_splits, write_split


@dataclass(frozen=True)
class OrganizeCounts:
    """What lies in `images/` now (images by split, boxes), what happened to it, and the readers'
    findings.

    `formats` counts the labeled images of the source by the format that their labels were taken
    for.
    """

    splits: dict[str, int]
    boxes: int
    changes: dict[str, int]
    formats: dict[str, int]
    errors: int = 0
    warnings: int = 0
    repaired: int = 0

    def __str__(self) -> str:
        parts = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        texts = [f"{counted(sum(self.splits.values()), 'image')} ({parts})", counted(self.boxes, "box", "boxes")]
        numbers = [f"{name} ({count:,})" if len(self.formats) > 1 else name for name, count in self.formats.items()]
        texts.append("labels read as " + " and ".join(numbers))
        words = {
            "new": "new",
            "moved": "found under another path",
            "updated": "updated from the source",
            "edited": "edited here, kept",
            "deleted": "deleted here, left out",
            "gone": "no longer in the source, kept",
            "renamed": "renamed",
            "duplicates": "identical, kept once",
            "skipped": "without a label file, left out",
            "reencoded": "re-encoded",
        }
        texts += [f"{self.changes[key]:,} {text}" for key, text in words.items() if self.changes.get(key)]
        if self.changes.get("removed"):
            texts.append(counted(self.changes["removed"], "drawn image") + " removed")
        found = [counted(self.errors, "error")] * bool(self.errors)
        found += [counted(self.warnings, "warning")] * bool(self.warnings)
        found += [f"{self.repaired:,} repaired"] * bool(self.repaired)
        return ", ".join(texts) + (f"; for check: {', '.join(found)}" if found else "")


def _open_source(root: Path, source, demo) -> SourceFiles:
    if source.kind == "demo":
        check_demo_labels(source.labels)
        draw_demo(root / DEMO_FOLDER, demo.images, demo.size_px, demo.seed)
        return scan_source(root / DEMO_FOLDER, DEMO_FOLDER)
    if source.kind == "openimages":
        if not (root / OPENIMAGES_FOLDER).is_dir():
            raise DetectorError(f"nothing was downloaded: {OPENIMAGES_FOLDER}: run `invoke download`")
        return scan_source(root / OPENIMAGES_FOLDER, OPENIMAGES_FOLDER)
    if not source.path.strip():
        raise DetectorError(
            'source.path is empty: detector.toml: set it to the folder with your images, path = "../images"'
        )
    folder = root / Path(source.path).expanduser()
    ours, real = (root / "images").resolve(), folder.resolve()
    if real == ours or real in ours.parents or real in [ours / split for split in SPLITS]:
        raise DetectorError(
            f"source.path '{source.path}' holds images/ itself, where organize writes: detector.toml: "
            "set it to a folder beside it, or to one below images/source/"
        )
    return scan_source(folder, Path(source.path).as_posix())


def _reading_of(source):
    """The table [source] as it applies to reading: boxes of Open Images fit the stored pixels, EXIF
    or not."""
    return replace(source, format="csv", exif="stored") if source.kind == "openimages" else source


def _link_findings(findings: list[Finding], items: list[Item]) -> list[Finding]:
    """Name the file in `images/` that each finding is about, so that `check` can drop it once that
    file was edited."""
    labels = Counter(item.label_shown for item in items)
    names = {item.shown: item.file_name for item in items}
    # A file that labels many images says nothing about which of them was edited.
    names |= {item.label_shown: item.file_name for item in items if labels[item.label_shown] == 1 and item.label_shown}
    linked = [replace(found, image=names.get(found.image or found.file, "")) for found in findings]
    return sorted(linked, key=lambda found: (found.code, found.file, found.line, found.message))


def organize(root: Path, source, demo, split) -> OrganizeCounts:
    """Bring the images of a source into `images/` and write `annotations/organize.json` and
    `split.csv`.

    `source`, `demo` and `split` are the tables of detector.toml. Defects become findings for
    `check`; DetectorError only when there is no usable source, or `images/` holds another one.
    """
    manifest = read_manifest(root)
    change = SourceChange(root, manifest, source)
    change.refuse_drawing()
    files = _open_source(root, source, demo)
    change.refuse_edited_drawings()
    known = read_split(root / "annotations" / "split.csv")
    images = ImagesFolder(root, manifest["images"] if stored_images(root) else [])
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=_made(root / "images")) as staging:
        reader = SourceReader(files, _reading_of(source), Path(staging))
        read = reader.read()
        if not read:
            raise _nothing_usable(files, reader.findings)
        change.refuse_other_images({item.facts.sha256 for item in read})
        items, duplicates = drop_duplicates(wanted_splits(read, source, split, files.shown))
        images.adopt_moved_sources(items)
        if source.kind == "demo" or change.leaves_demo:
            images.remove_drawn(items)
        items, moved = assign_splits(items, images, known, split)
        items, renamed = give_names(items, {shown: entry["name"] for shown, entry in images.by_source.items()})
        entries = [images.put(item) for item in items]
    entries += images.keep_the_rest()
    remember(known, entries, images.removed if change.leaves_demo else [])
    findings = _link_findings(reader.findings + duplicates + moved, items)
    extra = {
        "renamed": renamed,
        "duplicates": len(duplicates),
        "skipped": reader.skipped,
        "reencoded": sum(bool(item.facts.staged) for item in items),
    }
    counts = _count(entries, findings, {**images.counts, **extra}, dict(sorted(reader.labels.formats.items())))
    _write(root, source, known, entries, findings, counts)
    return counts


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _nothing_usable(files: SourceFiles, findings: list[Finding]) -> DetectorError:
    first = findings[0]
    return DetectorError(
        f"none of {len(files.images):,} images can be used, the first because '{first.message}': "
        f"{first.file}: {first.fix}"
    )


def _count(
    entries: list[dict], findings: list[Finding], changes: dict[str, int], formats: dict[str, int]
) -> OrganizeCounts:
    there = [entry for entry in entries if not entry.get("deleted")]
    splits = Counter(entry["split"] for entry in there)
    severities = Counter(found.severity for found in findings)
    return OrganizeCounts(
        {name: splits[name] for name in SPLITS},
        sum(len(entry["lines"]) for entry in there),
        changes,
        formats,
        severities["error"],
        severities["warning"],
        severities["repaired"],
    )


def _write(
    root: Path, source, known: dict, entries: list[dict], findings: list[Finding], counts: OrganizeCounts
) -> None:
    write_split(root / "annotations" / "split.csv", known)
    write_json(
        root / MANIFEST,
        {
            "schema": 1,
            "source": source_of(source),
            "formats": counts.formats,
            "counts": {"images": sum(counts.splits.values()), "boxes": counts.boxes, **counts.splits},
            "images": sorted(entries, key=lambda entry: (entry["split"], entry["name"])),
            "findings": [{**found.as_json(), "image": found.image} for found in findings],
        },
    )

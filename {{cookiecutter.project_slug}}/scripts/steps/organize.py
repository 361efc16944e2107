"""The step `organize`: bring labeled images into `images/{train,validation,test}`."""

import tempfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from scripts.core.files import sha256_file, write_json
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS
from scripts.data.demo.scene import check_demo_labels, draw_demo
from scripts.data.findings import Finding
from scripts.data.images_folder import ImagesFolder
from scripts.data.manifest import read_manifest
from scripts.data.reading import Item, SourceReader, drop_duplicates
from scripts.data.source import SourceFiles, distinct_names, scan_source
from scripts.data.split import (
    assign_splits,
    forget,
    read_split,
    remember,
    wanted_splits,
    write_split,
)

CHANGES = {
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


def organize(root: Path, source, demo, split) -> str:
    """Copy the images of the source into `images/`, write the manifest and `split.csv`.

    Defects of images and labels become findings for `check`.
    `source`, `demo` and `split` are the tables of detector.toml. Returns the summary: what lies in
    `images/` now and what happened to it.

    Raises:
        DetectorError: there is no usable source, or images of an earlier one were edited.
    """
    layout = Layout(root)
    manifest, known = read_manifest(layout.manifest), read_split(layout.split)
    files = _find_files(layout, source, demo)
    layout.images.mkdir(parents=True, exist_ok=True)
    # Images that TensorFlow cannot decode are re-encoded into this folder.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=layout.images) as staging:
        # Read images and labels, match them, keep identical images once.
        reader = SourceReader(files, _reading_settings(source), Path(staging))
        items = reader.read()
        if not items:
            raise _nothing_usable(files, reader.findings)
        items, duplicates = drop_duplicates(wanted_splits(items, source, split, files.shown))

        # Images of an earlier source that nobody edited move out of the way.
        folder = ImagesFolder(layout.images, manifest["images"])
        folder.adopt_moved_sources(items)
        note = _source_note(layout, source, demo)
        aside = _make_way(layout, folder, items, manifest["source"], note, known)

        # Split, with near-duplicates on one side, and put the images into their folders.
        items, across = assign_splits(items, folder.split_of, known, split)
        names = distinct_names([item.shown for item in items], folder.names())
        items = [replace(item, name=names[item.shown]) for item in items]
        entries = [folder.put(item) for item in items] + folder.keep_the_rest()

    remember(known, entries)
    write_split(layout.split, known)
    findings = _link_findings(reader.findings + duplicates + across, items)
    formats = dict(sorted(reader.labels.formats.items()))
    counts = _write_manifest(layout, note, entries, formats, findings)
    changes = folder.counts + Counter(
        renamed=sum(name != Path(shown).stem for shown, name in names.items()),
        duplicates=len(duplicates), skipped=reader.skipped,
        reencoded=sum(bool(item.facts.staged) for item in items))
    return _summary(counts, formats, changes, aside, findings)


# The source.


def _find_files(layout: Layout, source, demo) -> SourceFiles:
    """List the files of the source; the images of the demo are drawn if they are not there."""
    if source.kind == "demo":
        check_demo_labels(source.labels)
        draw_demo(layout.demo, demo.images, demo.size_px, demo.seed)
        return scan_source(layout.demo, layout.shown(layout.demo))
    if source.kind == "openimages":
        shown = layout.shown(layout.openimages)
        if not layout.openimages.is_dir():
            raise DetectorError(f"nothing was downloaded: {shown}: run `invoke download`")
        return scan_source(layout.openimages, shown)
    if not source.path.strip():
        raise DetectorError("source.path is empty: detector.toml: set it to the folder with your "
                            'images, path = "../images"')
    folder = layout.root / Path(source.path).expanduser()
    images, real = layout.images.resolve(), folder.resolve()
    if real == images or real in images.parents or real in [images / name for name in SPLITS]:
        raise DetectorError(
            f"source.path '{source.path}' holds images/ itself, where organize writes: "
            "detector.toml: set it to a folder beside it, or to one below images/source/")
    return scan_source(folder, Path(source.path).as_posix())


def _reading_settings(source):
    """Return the table [source] as reading needs it."""
    if source.kind != "openimages":
        return source
    # Boxes of Open Images fit the stored pixels, whatever EXIF says.
    return replace(source, format="csv", exif="stored")


def _nothing_usable(files: SourceFiles, findings: list[Finding]) -> DetectorError:
    first = findings[0]
    return DetectorError(
        f"none of {len(files.images):,} images can be used, the first because '{first.message}': "
        f"{first.file}: {first.fix}")


# A changed source.


def _source_note(layout: Layout, source, demo) -> dict:
    """Return what the manifest keeps of the source, by which a changed one is recognized."""
    if source.kind == "demo":
        return {"kind": "demo", "path": layout.shown(layout.demo), **asdict(demo)}
    path = layout.shown(layout.openimages) if source.kind == "openimages" else source.path
    return {"kind": source.kind, "path": path}


def _is_other_source(layout: Layout, before: dict, now: dict) -> bool:
    if before["kind"] == now["kind"] == "demo":
        return before != now
    paths = [layout.root / Path(note["path"]).expanduser() for note in (before, now)]
    return paths[0].resolve() != paths[1].resolve()


def _make_way(layout: Layout, folder: ImagesFolder, items: list[Item], before: dict, now: dict,
              known: dict) -> str:
    """Move images of an earlier source out of the way.

    Returns:
        The folder that they moved to, "" if there are none. `known` no longer has their splits.
    """
    if not before and folder.unlisted:
        # What organize put there: split.csv knows it, and drawn or downloaded images are kept.
        kept = (path for path in (layout.images / "source").rglob("*") if path.is_file())
        folder.check_lost_manifest(items, {*known, *map(sha256_file, kept)})
    if not before or not _is_other_source(layout, before, now):
        return ""
    earlier = folder.images_of_earlier_source(items, before)
    aside = layout.unused_previous_images()
    folder.move_aside(earlier, aside)
    # Written at once: after an interruption, new images under these names are not taken for them.
    forget(known, earlier)
    write_split(layout.split, known)
    _write_manifest(layout, now, list(folder.by_source.values()), {}, [])
    return layout.shown(aside)


# Outputs.


def _link_findings(findings: list[Finding], items: list[Item]) -> list[Finding]:
    """Name the file in `images/` that each finding is about.

    `check` drops a finding once that file was edited.
    """
    labels = Counter(item.label_shown for item in items)
    names = {item.shown: item.file_name for item in items}
    # A file that labels many images says nothing about which of them was edited.
    names |= {item.label_shown: item.file_name for item in items
              if labels[item.label_shown] == 1 and item.label_shown}
    linked = [replace(found, image=names.get(found.image or found.file, "")) for found in findings]
    return sorted(linked, key=lambda found: (found.code, found.file, found.line, found.message))


def _write_manifest(layout: Layout, source: dict, entries: list[dict], formats: dict[str, int],
                    findings: list[Finding]) -> dict[str, int]:
    """Write `organize.json`; return its counts of images, boxes and images by split."""
    there = [entry for entry in entries if not entry.get("deleted")]
    splits = Counter(entry["split"] for entry in there)
    counts = {"images": len(there), "boxes": sum(len(entry["lines"]) for entry in there),
              **{name: splits[name] for name in SPLITS}}
    write_json(layout.manifest, {
        "schema": 1,
        "source": source,
        "formats": formats,
        "counts": counts,
        "images": sorted(entries, key=lambda entry: (entry["split"], entry["name"])),
        "findings": [{**found.as_json(), "image": found.image} for found in findings],
    })
    return counts


def _summary(counts: dict[str, int], formats: dict[str, int], changes: Counter, aside: str,
             findings: list[Finding]) -> str:
    """Return the one line; `formats` counts labeled images by the format that was read."""
    splits = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS)
    read = [f"{name} ({count:,})" if len(formats) > 1 else name for name, count in formats.items()]
    texts = [f"{counted(counts['images'], 'image')} ({splits})",
             counted(counts["boxes"], "box", "boxes"), "labels read as " + " and ".join(read)]
    texts += [f"{changes[key]:,} {text}" for key, text in CHANGES.items() if changes[key]]
    if changes["aside"]:
        images = counted(changes["aside"], "image")
        texts.append(f"{images} of the earlier source moved to {aside}")
    severities = Counter(found.severity for found in findings)
    found = [counted(severities[name], name) for name in ("error", "warning") if severities[name]]
    found += [f"{severities['repaired']:,} repaired"] * bool(severities["repaired"])
    return ", ".join(texts) + (f"; for check: {', '.join(found)}" if found else "")

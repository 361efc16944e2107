"""What a download leaves in its folder, `images/source/openimages`.

Images by split, `boxes.csv`, the names of the classes, `ATTRIBUTION.csv`, and `missing.log` with
the images that cannot be had. Images are named SPLIT/ID, as in their paths.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from scripts.core.files import TEMPORARY_PREFIX, write_json, write_text
from scripts.core.text import DetectorError
from scripts.core.transfer import AbsentError
from scripts.data.dataset import SPLITS
from scripts.data.openimages.catalog import METADATA, Catalog
from scripts.data.openimages.choice import COLUMNS, passes, read_boxes
from scripts.data.openimages.fetch import Fetched

CLASSES_FILE = "class-descriptions-boxable.csv"
BOXES_FILE = "boxes.csv"
ATTRIBUTION_FILE = "ATTRIBUTION.csv"
MISSING_FILE = "missing.log"
_UNUSED = ".unused"
_MARK = "IsDifficult"
"""Column behind the official ones: 1 for a box that did not pass the filters."""
_SPOILT = "broken on the server"
_ATTRIBUTION = ("ImageID", "Split", "Author", "AuthorProfileURL", "Title", "License",
                "OriginalLandingURL")


# Images.

def image_path(folder: Path, split: str, image_id: str) -> Path:
    """Return where an image is kept."""
    return folder / split / f"{image_id}.jpg"


def stored_ids(folder: Path, split: str) -> set[str]:
    """Return the ids of the images of a split that are there."""
    names = os.listdir(folder / split) if (folder / split).is_dir() else []
    return {name[:-4] for name in names
            if name.endswith(".jpg") and not name.startswith(TEMPORARY_PREFIX)}


def arrange(folder: Path, chosen: Mapping[str, Collection[str]]) -> int:
    """Make the folders hold chosen images only (split -> ids); return how many moved out.

    Nothing that was fetched is deleted: others move to `.unused`, from where they come back when
    they are chosen again.
    """
    moved_out = 0
    for split in SPLITS:
        there, wanted = stored_ids(folder, split), set(chosen.get(split, ()))
        for path in (folder / split).glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
        for image_id in there - wanted:
            unused = image_path(folder / _UNUSED, split, image_id)
            _move(image_path(folder, split, image_id), unused)
            moved_out += 1
        for image_id in wanted - there:
            unused = image_path(folder / _UNUSED, split, image_id)
            if unused.exists():
                _move(unused, image_path(folder, split, image_id))
    return moved_out


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


# What earlier runs learned about images that cannot be had.

class Memory:
    """Names and reasons of missing images, in `missing.log` and `.metadata/failed.json`."""

    def __init__(self, folder: Path, images_url: str):
        self._path, self._failed_path = folder / MISSING_FILE, folder / METADATA / "failed.json"
        self._first_line = f"# not to be had from {images_url}"
        self.missing = self._read_missing()
        try:
            self._spoilt = dict(json.loads(self._failed_path.read_bytes())["spoilt"])
        except (OSError, ValueError, KeyError, TypeError):
            self._spoilt = {}

    def _read_missing(self) -> dict[str, str]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        if lines and lines[0].startswith("# ") and lines[0] != self._first_line:
            return {}  # another server may have them
        pairs = [line.strip().partition(" ") for line in lines
                 if line.strip() and not line.startswith("#")]
        return {name: reason.strip() for name, _, reason in pairs}

    def learn(self, fetched: Fetched) -> dict[str, str]:
        """Take over how a round ended; return name -> reason of the images that count as failed.

        Bytes that are no JPEG fail the first time. The same ones in a second run are what the
        server has: the image is then missing like any other, or one file would stop the project for
        good.
        """
        hopeless = {name for name, sha256 in fetched.spoilt.items()
                    if self._spoilt.get(name) == sha256}
        self.missing |= fetched.absent
        self.missing |= {name: f"{_SPOILT}: {fetched.failed[name]}" for name in hopeless}
        return {name: why for name, why in fetched.failed.items() if name not in hopeless}

    def save(self, spoilt: dict[str, str]) -> None:
        """Write both files; those without content are removed."""
        if self.missing:
            lines = [f"{name} {reason}" for name, reason in sorted(self.missing.items())]
            write_text(self._path, "\n".join([self._first_line, *lines, ""]))
        else:
            self._path.unlink(missing_ok=True)
        if spoilt:
            write_json(self._failed_path, {"spoilt": spoilt})
        else:
            self._failed_path.unlink(missing_ok=True)


# Tables beside the images.

def write_class_names(folder: Path, labels: Mapping[str, str]) -> None:
    """Write MID and name of each wanted class; the name is the one in source.labels.

    Later steps compare with it.
    """
    _write_rows(folder / CLASSES_FILE, [("LabelName", "DisplayName"), *labels.items()])


def write_boxes(folder: Path, slices: Mapping[str, Path], owner: Mapping[str, str],
                stored: Mapping[str, Collection[str]], settings) -> tuple[Counter, int]:
    """Write the boxes of the stored images (split -> ids), sorted.

    Returns:
        Boxes by MID, and how many of all boxes are marked as difficult.
    """
    lines, counts, marked = [], Counter(), 0
    for split, path in slices.items():
        wanted = set(stored[split])
        for chunk in read_boxes(path, owner):
            chunk = chunk[chunk["ImageID"].isin(wanted)]
            mark = (~passes(chunk, settings)).astype(int)
            counts.update(chunk["LabelName"])
            marked += int(mark.sum())
            text = chunk.assign(**{_MARK: mark}).to_csv(header=False, index=False,
                                                        lineterminator="\n")
            lines += text.splitlines()
    header = ",".join((*COLUMNS, _MARK))
    write_text(folder / BOXES_FILE, "\n".join([header, *sorted(lines), ""]))
    return counts, marked


def write_attribution(folder: Path, catalog: Catalog, stored: Mapping[str, Collection[str]],
                      spare: Mapping[str, Collection[str]]) -> int:
    """Write who made each stored image (split -> ids), under which license, and where it says so.

    `spare` are images that may be wanted next: the list of 600 MB is read once for them as well.
    A server without the list gives lines with empty fields.

    Returns:
        How many images have no author or no license.
    """
    rows, unknown = [], 0
    for split, image_ids in stored.items():
        known = _authors(catalog, split, image_ids, spare.get(split, ())) if image_ids else {}
        for image_id in image_ids:
            row = known.get(image_id, {})
            unknown += not (row.get("Author") and row.get("License"))
            rows.append((image_id, split, *(row.get(name) or "" for name in _ATTRIBUTION[2:])))
    _write_rows(folder / ATTRIBUTION_FILE, [_ATTRIBUTION, *sorted(rows)])
    return unknown


def _authors(catalog: Catalog, split: str, image_ids: Collection[str],
             spare: Collection[str]) -> dict[str, dict]:
    part = catalog.images(split)
    # Images without a row were looked for in vain once; that is remembered too.
    if not part.has(image_ids):
        try:
            part.ensure({*image_ids, *spare})
        except DetectorError as error:
            if isinstance(error.__cause__, AbsentError):
                return {}
            raise
    wanted = set(image_ids)
    with part.path.open(encoding="utf-8", errors="replace", newline="") as file:
        return {row["ImageID"]: row for row in csv.DictReader(file) if row["ImageID"] in wanted}


def _write_rows(path: Path, rows: Collection[tuple]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    write_text(path, out.getvalue())

"""The metadata of Open Images: where its server keeps what, by version, and a copy of it here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.core.files import write_bytes
from scripts.core.text import DetectorError
from scripts.core.transfer import AbsentError, Patience, TransferError, read_bytes
from scripts.data.openimages.class_names import owners, read_class_names
from scripts.data.openimages.slices import WRONG_SETTING, Slice, not_open_images

# Folders with a dot are skipped when a source is read: what is in them is not labeled data.
METADATA = ".metadata"

HIERARCHY = "2018_04/bbox_labels_600_hierarchy.json"
_V4_BOXES = "2018_04/{split}/{split}-annotations-bbox.csv"
_V5_BOXES = "v5/{split}-annotations-bbox.csv"
_V6_TRAIN = "v6/oidv6-train-annotations-bbox.csv"
_V5_CLASSES = "v5/class-descriptions-boxable.csv"
# Classes, boxes of train, boxes of validation and test. Later versions took over what they did not
# change. Source: https://storage.googleapis.com/openimages/web/download_v7.html
_FILES = {
    "v4": ("2018_04/class-descriptions-boxable.csv", _V4_BOXES, _V4_BOXES),
    "v5": (_V5_CLASSES, _V4_BOXES, _V5_BOXES),
    "v6": (_V5_CLASSES, _V6_TRAIN, _V5_BOXES),
    "v7": ("v7/oidv7-class-descriptions-boxable.csv", _V6_TRAIN, _V5_BOXES),
}


@dataclass
class Catalog:
    """The metadata of one version on one server; it is kept in `folder` and read there again."""

    folder: Path
    version: str
    metadata_url: str
    patience: Patience = field(default_factory=Patience)

    def names(self) -> dict[str, str]:
        """Return MID -> name of each class. DetectorError when there is no list of them."""
        path = _FILES[self.version][0]
        data = self._small_file("classes.csv", path)
        try:
            return read_class_names(data.decode("utf-8"))
        except ValueError as error:
            raise self._unreadable("classes.csv", path, error) from error

    def owners(self, mids: list[str], descendants: bool) -> dict[str, str]:
        """Return MID of each wanted class -> the asked MID; see `class_names.owners`."""
        if not descendants:
            return {mid: mid for mid in mids}
        data = self._small_file("hierarchy.json", HIERARCHY)
        try:
            tree: Mapping[str, Any] = json.loads(data)
            return owners(mids, tree)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unreadable("hierarchy.json", HIERARCHY, error) from error

    def boxes(self, split: str) -> Slice:
        """Return the boxes of a split, by class; each pass counts the boxes of every class."""
        url = self._url(_FILES[self.version][1 if split == "train" else 2].format(split=split))
        return Slice(self.folder, f"{split}-boxes", url, "LabelName", self.names(),
                     patience=self.patience)

    def images(self, split: str) -> Slice:
        """Return authors, licenses and addresses of a split, by image; of no certain version."""
        # The list of all training images, boxes or not, is four times as long.
        boxable = "-boxable" if split == "train" else ""
        url = self._url(f"2018_04/{split}/{split}-images{boxable}-with-rotation.csv")
        return Slice(self.folder, f"{split}-images", url, "ImageID", once=True,
                     patience=self.patience)

    def _url(self, path: str) -> str:
        return f"{self.metadata_url.rstrip('/')}/{path}"

    def _small_file(self, name: str, path: str) -> bytes:
        """Return a file that is kept whole, from `folder` or else from the server."""
        kept, url = self.folder / name, self._url(path)
        if kept.exists():
            return kept.read_bytes()
        try:
            data = read_bytes(url, self.patience)
        except AbsentError as error:
            raise DetectorError(f"{error}: {url}: {WRONG_SETTING}") from error
        except TransferError as error:
            raise DetectorError(f"{error}: {url}: look at the connection, then run the same "
                                "command again") from error
        write_bytes(kept, data)
        return data

    def _unreadable(self, name: str, path: str, error: Exception) -> DetectorError:
        (self.folder / name).unlink(missing_ok=True)
        return not_open_images(error, self._url(path))


def open_catalog(folder: Path, settings, patience: Patience | None = None) -> Catalog:
    """Return the catalog that the table [openimages] names, kept below `folder`."""
    # Another version or another server has another folder: slices never mix.
    digest = hashlib.sha256(settings.metadata_url.rstrip("/").encode()).hexdigest()[:8]
    return Catalog(folder / METADATA / f"{settings.version}-{digest}", settings.version,
                   settings.metadata_url, patience or Patience())

"""What Open Images has: names of classes, their tree, and the filtered boxes and authors of each split."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.pictures.openimages import layout
from scripts.pictures.openimages.classes import read_class_names
from scripts.pictures.openimages.hierarchy import owners
from scripts.pictures.openimages.metadata import Slice
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_bytes
from scripts.pipeline.transfer import AbsentError, Patience, TransferError, read_bytes


@dataclass
class Catalogue:
    """The metadata of one version on one server; all of it is kept in `folder` and read from there the next time."""

    folder: Path
    version: str
    metadata_url: str
    patience: Patience = field(default_factory=Patience)

    def names(self) -> dict[str, str]:
        """MID -> name of each class. DetectorError when the list cannot be had or read."""
        path = layout.classes_path(self.version)
        data = self._small_file("classes.csv", path)
        try:
            return read_class_names(data.decode("utf-8"))
        except ValueError as error:
            raise self._unreadable("classes.csv", path, error) from error

    def owners(self, mids: list[str], descendants: bool) -> dict[str, str]:
        """MID of each class that is wanted -> the asked MID that its boxes go to; see `hierarchy.owners`."""
        if not descendants:
            return {mid: mid for mid in mids}
        data = self._small_file("hierarchy.json", layout.HIERARCHY)
        try:
            tree: Mapping[str, Any] = json.loads(data)
            return owners(mids, tree)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unreadable("hierarchy.json", layout.HIERARCHY, error) from error

    def boxes(self, split: str) -> Slice:
        """Boxes of a split, by class; each pass counts the boxes of every class."""
        url = layout.join_url(self.metadata_url, layout.boxes_path(self.version, split))
        return Slice(self.folder, f"{split}-boxes", url, "LabelName", self.names(), patience=self.patience)

    def images(self, split: str) -> Slice:
        """Authors, licences and addresses of a split, by picture."""
        url = layout.join_url(self.metadata_url, layout.images_path(split))
        return Slice(self.folder, f"{split}-images", url, "ImageID", once=True, patience=self.patience)

    def _small_file(self, name: str, path: str) -> bytes:
        kept, url = self.folder / name, layout.join_url(self.metadata_url, path)
        if kept.exists():
            return kept.read_bytes()
        try:
            data = read_bytes(url, self.patience)
        except AbsentError as error:
            advice = "correct openimages.metadata_url or openimages.version"
            raise DetectorError(f"{error}: {url}: {advice}") from error
        except TransferError as error:
            raise DetectorError(f"{error}: {url}: look at the connection, then run the same command again") from error
        write_bytes(kept, data)
        return data

    def _unreadable(self, name: str, path: str, error: Exception) -> DetectorError:
        (self.folder / name).unlink(missing_ok=True)
        url = layout.join_url(self.metadata_url, path)
        return DetectorError(f"not the layout of Open Images ({error}): {url}: correct openimages.metadata_url or "
                             "openimages.version")


def open_catalogue(root: Path, settings, patience: Patience | None = None) -> Catalogue:
    """The catalogue that the table [openimages] names."""
    folder = layout.metadata_folder(root, settings.version, settings.metadata_url)
    return Catalogue(folder, settings.version, settings.metadata_url, patience or Patience())

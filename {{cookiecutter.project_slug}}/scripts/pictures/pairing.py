"""Which label entry belongs to which picture: by name, the nearest folder first, never by position."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scripts.pictures.dataset import LabelFile, Labels
from scripts.pictures.findings import Finding, finding
from scripts.pictures.source import PICTURE_SUFFIXES, SourceFiles, same_name

ONE_PICTURE_A_FILE = {"voc", "yolo", "oidv4"}
"""Formats whose label files are paired by their own name, not by what they say."""
_LABEL_STUDIO_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")


@dataclass(frozen=True)
class Entry:
    """What one label file says of one picture (None: the file cannot be read).

    `place` is where that picture lies, relative to the source, if it is named exactly so.
    """

    file: LabelFile
    labels: Labels | None
    place: PurePosixPath


@dataclass
class Pairing:
    """The entries of each picture that has any, the pictures that have to be left out, and what was found."""

    entries: dict[Path, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    left_out: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def _stated(text: str) -> PurePosixPath:
    """A path as some tool on some machine wrote it, without drive, host and steps upwards."""
    plain = re.sub(r"^([a-zA-Z]:|[a-z][a-z0-9]+://[^/]*)", "", text.strip().replace("\\", "/"))
    return PurePosixPath(*[part for part in plain.split("/") if part not in ("", ".", "..")])


def entries_of(file: LabelFile, folder: Path) -> Iterator[Entry]:
    """The entries of a label file below `folder`."""
    path = PurePosixPath(file.path.relative_to(folder).as_posix())
    parent = path.parent
    if file.format == "oidv4" and parent.name.casefold() in ("label", "labels"):
        parent = parent.parent
    if file.format in ONE_PICTURE_A_FILE:
        for labels in file.entries or (None,):
            yield Entry(file, labels, parent / path.stem)
        return
    for labels in file.entries:
        yield Entry(file, labels, parent / _stated(labels.picture))


def _closeness(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders two places share, from the top and from the end: `labels/train` and `images/train` one."""
    if one == other:
        return 2 * len(one.parts) + 1
    return _shared(one.parts, other.parts) + _shared(one.parts[::-1], other.parts[::-1])


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same


def _without_suffix(name: str) -> str:
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    return stem if suffix.lower() in PICTURE_SUFFIXES else name


class _Candidates:
    """Pictures of the source by name and by name without extension."""

    def __init__(self, files: SourceFiles):
        self.by_name, self.by_stem = defaultdict(list), defaultdict(list)
        for path in files.pictures:
            self.by_name[same_name(path.name)].append(path)
            self.by_stem[same_name(path.stem)].append(path)

    def of(self, entry: Entry) -> tuple[list[Path], str]:
        """Pictures that the entry may mean, and what it was that fitted if not the very name."""
        name = entry.place.name
        exact = self.by_name.get(same_name(name)) if entry.file.format not in ONE_PICTURE_A_FILE else None
        found = exact or self.by_stem.get(same_name(_without_suffix(name)))
        if found:
            changed = not exact and entry.file.format not in ONE_PICTURE_A_FILE and _without_suffix(name) != name
            return found, f"'{name}' has another extension there" if changed else ""
        for other, why in _other_names(entry, name):
            found = self.by_name.get(same_name(other)) or self.by_stem.get(same_name(_without_suffix(other)))
            if found:
                return found, why
        return [], ""


def _other_names(entry: Entry, name: str) -> Iterator[tuple[str, str]]:
    if entry.file.format == "voc" and entry.labels and entry.labels.picture:
        stated = _stated(entry.labels.picture).name
        yield stated, f"'{name}.xml' is about '{stated}' by its <filename>"
    plain = unquote(name)
    yield plain, f"'{name}' is '{plain}' with escaped characters"
    bare = _LABEL_STUDIO_PREFIX.sub("", plain, count=1)
    yield bare, f"'{name}' is '{bare}' with a prefix of Label Studio"


class Pairer:
    """Finds the picture of each entry.

    Pairing is by name: in the same folder first, then in the nearest folder anywhere. A label file that two pictures
    fit is an error finding, and both pictures are left out: a wrong guess would be worse than a question.
    """

    def __init__(self, files: SourceFiles):
        self.files, self.candidates = files, _Candidates(files)
        self.places = {path: PurePosixPath(path.relative_to(files.folder).as_posix()) for path in files.pictures}
        self.result = Pairing()

    def pair(self, entries: Iterable[Entry]) -> Pairing:
        """All entries with their pictures."""
        found = [(entry, *self.candidates.of(entry)) for entry in entries]
        owned = {
            path
            for entry, paths, _ in found
            for path in paths
            if self.places[path].parent == entry.place.parent and path.stem == _without_suffix(entry.place.name)
        }
        for entry, paths, why in found:
            self._take(entry, self._nearest(entry, paths, owned), why)
        return self.result

    def _nearest(self, entry: Entry, paths: list[Path], owned: set[Path]) -> list[Path]:
        beside = [path for path in paths if self.places[path].parent == entry.place.parent]
        if beside:
            exact = [path for path in beside if path.stem == _without_suffix(entry.place.name)]
            return exact or beside
        # A picture with labels of its own beside it is no candidate for those of another folder.
        paths = [path for path in paths if path not in owned] or paths
        near = {path: _closeness(self.places[path].parent, entry.place.parent) for path in paths}
        return [path for path in paths if near[path] == max(near.values())]

    def _take(self, entry: Entry, paths: list[Path], why: str) -> None:
        shown, line = self.files.show(entry.file.path), entry.labels.line if entry.labels else 0
        if not paths:
            text = f"no picture is named '{entry.place.name}'"
            self.result.findings.append(finding("E009", shown, text, line))
        elif len(paths) > 1:
            names = ", ".join(self.files.show(path) for path in paths[:3])
            text = f"'{entry.place.name}' fits {len(paths)} files: {names}"
            self.result.findings.append(finding("E020", shown, text, line))
            self.result.left_out.update(paths)
        else:
            self.result.entries[paths[0]].append(entry)
            if why:
                self.result.findings.append(finding("R214", shown, why, line, picture=self.files.show(paths[0])))

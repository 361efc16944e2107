"""Which label entry belongs to which image: by name, the nearest folder first, never by position.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import Box, LabelError, LabelFile, Labels, NotALabelError
from scripts.data.findings import Finding, finding
from scripts.data.formats import coco, labelstudio, oidv4, voc, yolo
from scripts.data.formats import csv_table as table
from scripts.data.formats.yolo import name_classes
from scripts.data.openimages.download_folder import ATTRIBUTION_FILE
from scripts.data.source import IMAGE_SUFFIXES, SourceFiles, same_name, split_in_name, split_of

ONE_IMAGE_A_FILE = {"voc", "yolo", "oidv4"}
"""Formats whose label files are paired by their own name, not by what they say."""
_LABEL_STUDIO_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")


@dataclass(frozen=True)
class Entry:
    """What one label file says of one image (None: the file cannot be read).

    `place` is where that image lies, relative to the source, if it is named exactly so.
    """

    file: LabelFile
    labels: Labels | None
    place: PurePosixPath


@dataclass
class Pairing:
    """The entries of each image that has any, the images that have to be left out, and what was
    found."""

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
    if file.format in ONE_IMAGE_A_FILE:
        for labels in file.entries or (None,):
            yield Entry(file, labels, parent / path.stem)
        return
    for labels in file.entries:
        yield Entry(file, labels, parent / _stated(labels.image))


def _closeness(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders two places share, from the top and from the end: `labels/train` and
    `images/train` one."""
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
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


class _Candidates:
    """Images of the source by name and by name without extension."""

    def __init__(self, files: SourceFiles):
        self.by_name, self.by_stem = defaultdict(list), defaultdict(list)
        for path in files.images:
            self.by_name[same_name(path.name)].append(path)
            self.by_stem[same_name(path.stem)].append(path)

    def of(self, entry: Entry) -> tuple[list[Path], str]:
        """Images that the entry may mean, and what it was that fitted if not the very name."""
        name = entry.place.name
        exact = self.by_name.get(same_name(name)) if entry.file.format not in ONE_IMAGE_A_FILE else None
        found = exact or self.by_stem.get(same_name(_without_suffix(name)))
        if found:
            changed = not exact and entry.file.format not in ONE_IMAGE_A_FILE and _without_suffix(name) != name
            return found, f"'{name}' has another extension there" if changed else ""
        for other, why in _other_names(entry, name):
            found = self.by_name.get(same_name(other)) or self.by_stem.get(same_name(_without_suffix(other)))
            if found:
                return found, why
        return [], ""


def _other_names(entry: Entry, name: str) -> Iterator[tuple[str, str]]:
    if entry.file.format == "voc" and entry.labels and entry.labels.image:
        stated = _stated(entry.labels.image).name
        yield stated, f"'{name}.xml' is about '{stated}' by its <filename>"
    plain = unquote(name)
    yield plain, f"'{name}' is '{plain}' with escaped characters"
    bare = _LABEL_STUDIO_PREFIX.sub("", plain, count=1)
    yield bare, f"'{name}' is '{bare}' with a prefix of Label Studio"


class Pairer:
    """Finds the image of each entry.

    Pairing is by name: in the same folder first, then in the nearest folder anywhere. A label file
    that two images fit is an error finding, and both images are left out: a wrong guess would be
    worse than a question.
    """

    def __init__(self, files: SourceFiles):
        self.files, self.candidates = files, _Candidates(files)
        self.places = {path: PurePosixPath(path.relative_to(files.folder).as_posix()) for path in files.images}
        self.result = Pairing()

    def pair(self, entries: Iterable[Entry]) -> Pairing:
        """All entries with their images."""
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
        # An image with labels of its own beside it is no candidate for those of another folder.
        paths = [path for path in paths if path not in owned] or paths
        near = {path: _closeness(self.places[path].parent, entry.place.parent) for path in paths}
        return [path for path in paths if near[path] == max(near.values())]

    def _take(self, entry: Entry, paths: list[Path], why: str) -> None:
        shown, line = self.files.show(entry.file.path), entry.labels.line if entry.labels else 0
        if not paths:
            text = f"no image is named '{entry.place.name}'"
            self.result.findings.append(finding("E009", shown, text, line))
        elif len(paths) > 1:
            names = ", ".join(self.files.show(path) for path in paths[:3])
            text = f"'{entry.place.name}' fits {len(paths)} files: {names}"
            self.result.findings.append(finding("E020", shown, text, line))
            self.result.left_out.update(paths)
        else:
            self.result.entries[paths[0]].append(entry)
            if why:
                self.result.findings.append(finding("R214", shown, why, line, image=self.files.show(paths[0])))


# The labels of a source: every label file read, its format recognized, each image with the one
# entry it has.

# Label files are small: below this many, starting worker processes takes longer than reading them.
_SMALLEST_POOL = 5000


@dataclass
class SourceLabels:
    """The entry of each labeled image, its split by the label files, images to leave out, and
    findings.

    `formats` counts the labeled images of each format that was found.
    """

    entries: dict[Path, Entry] = field(default_factory=dict)
    splits: dict[Path, str] = field(default_factory=dict)
    left_out: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    formats: Counter = field(default_factory=Counter)


def plain_boxes(boxes: tuple[Box, ...]) -> list[str]:
    """Boxes in a form that is equal for equal boxes wherever they stand."""
    return sorted(repr(replace(box, line=0)) for box in boxes)


def read_labels(files: SourceFiles, wanted: str) -> SourceLabels:
    """Read all label files of a source; `wanted` is `source.format`.

    DetectorError when no file labels any image, or when `wanted` is "auto" and two formats label
    the same images.
    """
    suffixes = {suffix for name, (suffix, _) in READERS.items() if wanted in ("auto", name)}
    tasks = [(str(path), wanted) for path in files.others if path.suffix.lower() in suffixes]
    label_files = list(map_items(read_label_file, tasks, "organize", smallest_pool=_SMALLEST_POOL))
    label_files, notes = name_classes(label_files, list(files.others), files.folder)
    found = SourceLabels()
    found.findings += [finding(note.code, files.show(path), note.message, note.line) for path, note in notes]
    pairing = Pairer(files).pair(entry for file in label_files for entry in entries_of(file, files.folder))
    if not pairing.entries and not pairing.left_out:
        raise _no_labels(files, label_files, suffixes, wanted)
    _refuse_two_formats(files, pairing)
    _note_files(files, label_files, found)
    found.findings += pairing.findings
    found.left_out |= pairing.left_out
    for path, entries in pairing.entries.items():
        _choose(files, path, entries, found)
    return found


def _no_labels(files: SourceFiles, label_files: list[LabelFile], suffixes: set[str], wanted: str) -> DetectorError:
    images = counted(len(files.images), "image")
    if not label_files:
        return DetectorError(
            f"no label file ({', '.join(sorted(suffixes))}) for {images}: {files.shown}: put the labels into the "
            "same folder, or set source.path in detector.toml to the folder that holds both"
        )
    first = next((file for file in label_files if file.format), label_files[0])
    reason = first.error or "no image has the name that it states"
    line = f":{first.error_line}" if first.error_line else ""
    advice = f"set source.path in detector.toml to the folder that holds both, as one of {', '.join(READERS)}"
    if wanted != "auto":
        advice = f'set source.format = "auto" in detector.toml, if the labels are not of the format {wanted}'
    return DetectorError(
        f"none of {counted(len(label_files), 'label file')} fits any of {images}, the first because '{reason}': "
        f"{files.show(first.path)}{line}: {advice}"
    )


def _refuse_two_formats(files: SourceFiles, pairing: Pairing) -> None:
    shared: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, entries in pairing.entries.items():
        shared[tuple(sorted({entry.file.format for entry in entries}))].append(path)
    for formats, images in shared.items():
        if len(formats) < 2:
            continue
        named = []
        for name in formats:
            paths = sorted({e.file.path for p in images for e in pairing.entries[p] if e.file.format == name})
            more = f" and {len(paths) - 1:,} more" if paths[1:] else ""
            named.append(f"{name} ({files.show(paths[0])}{more})")
        choices = " or ".join(f'"{name}"' for name in formats)
        raise DetectorError(
            f"{len(formats)} formats label the same {counted(len(images), 'image')}, {', '.join(named)}: "
            f"{files.shown}: set source.format = {choices} in detector.toml"
        )


def _note_files(files: SourceFiles, label_files: list[LabelFile], found: SourceLabels) -> None:
    stems = {same_name(path.stem) for path in files.images}
    for file in label_files:
        shown = files.show(file.path)
        found.findings += [finding(note.code, shown, note.message, note.line) for note in file.notes]
        # A text beside no image is a README or a list of classes, which nobody takes for labels.
        meant = file.path.suffix.lower() != ".txt" or same_name(file.path.stem) in stems
        if not file.format and meant and not _is_companion(file.path):
            found.findings.append(finding("W111", shown, f"'{file.path.name}': {file.error}", file.error_line))
        elif file.format and file.error and file.format not in ONE_IMAGE_A_FILE:
            found.findings.append(finding("E019", shown, f"'{file.path.name}': {file.error}", file.error_line))


def _is_companion(path: Path) -> bool:
    """Whether a table stands beside the boxes of Open Images: the names of its classes, the authors
    of its images."""
    return path.name == ATTRIBUTION_FILE or "class-descriptions" in path.name


def _choose(files: SourceFiles, path: Path, entries: list[Entry], found: SourceLabels) -> None:
    """The one entry of an image; several are one if they say the same, else nobody can tell which
    is right."""
    shown = files.show(path)
    broken = [entry.file for entry in entries if entry.labels is None]
    if broken:
        text = f"'{broken[0].path.name}': {broken[0].error}"
        found.findings.append(finding("E019", files.show(broken[0].path), text, broken[0].error_line))
    first, *others = entries
    same = not broken and all(plain_boxes(e.labels.boxes) == plain_boxes(first.labels.boxes) for e in others)
    if not same and not broken:
        names = ", ".join(files.show(entry.file.path) for entry in entries[:3])
        found.findings.append(finding("E020", shown, f"'{path.name}' fits {len(entries)} label entries: {names}"))
    if not same:
        found.left_out.add(path)
        return
    for other in others:
        text = f"'{path.name}' stands in {files.show(first.file.path)} with the same boxes"
        found.findings.append(finding("R209", files.show(other.file.path), text, other.labels.line, image=shown))
    found.entries[path] = first
    found.formats[first.file.format] += 1
    found.splits[path] = split_of(path, files.folder) or _split_of_entries(files, shown, entries, found)


def _split_of_entries(files: SourceFiles, shown: str, entries: list[Entry], found: SourceLabels) -> str:
    said = {}
    for entry in entries:
        path = entry.file.path
        split = entry.labels.split or split_of(path, files.folder) or split_in_name(path)
        if split:
            said.setdefault(split, entry)
    if len(said) > 1:
        (_, first), (other, second) = list(said.items())[:2]
        text = f"the image stands in {files.show(first.file.path)} too, which is {next(iter(said))} and not {other}"
        found.findings.append(finding("E011", files.show(second.file.path), text, second.labels.line, image=shown))
    return next(iter(said), "")


# The label formats that are read: which modules may read a file, and the file as the first of them
# reads it.

# A reader takes a path and returns a LabelFile; NotALabelError when the file is of another format.
READERS: dict[str, tuple[str, Callable[[Path], LabelFile]]] = {
    "voc": (".xml", voc.read),
    "coco": (".json", coco.read),
    "labelstudio": (".json", labelstudio.read),
    "csv": (".csv", table.read),
    # Before yolo: an empty file in a folder `Label` is one of OIDv4_ToolKit.
    "oidv4": (".txt", oidv4.read),
    "yolo": (".txt", yolo.read),
}


def read_label_file(task: tuple[str, str]) -> LabelFile:
    """The content of a label file, for a process pool: `task` is (path, `source.format`).

    Of no known format: a LabelFile with the format "" whose `error` says why.
    """
    path, wanted = Path(task[0]), task[1]
    reasons, line = [], 0
    for name, (suffix, read) in READERS.items():
        if wanted not in ("auto", name) or path.suffix.lower() != suffix:
            continue
        try:
            return read(path)
        except NotALabelError as error:
            reasons.append(str(error))
            line = line or error.line
        except LabelError as error:
            return LabelFile(path, name, error=str(error), error_line=error.line)
        except OSError as error:
            return LabelFile(path, name, error=f"cannot be opened: {error.strerror}")
    return LabelFile(path, "", error="; ".join(reasons), error_line=line)

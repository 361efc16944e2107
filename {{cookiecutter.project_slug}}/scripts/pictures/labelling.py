"""The labels of a source: every label file read, its format recognised, each picture with the one entry it has."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.pictures.dataset import Box, LabelFile
from scripts.pictures.findings import Finding, finding
from scripts.pictures.formats.registry import READERS, read_label_file
from scripts.pictures.formats.yolo_names import name_classes
from scripts.pictures.openimages.layout import ATTRIBUTION_FILE
from scripts.pictures.pairing import ONE_PICTURE_A_FILE, Entry, Pairer, Pairing, entries_of
from scripts.pictures.pool import map_items
from scripts.pictures.source import SourceFiles, same_name, split_in_name, split_of
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.words import counted

# Label files are small: below this many, starting worker processes takes longer than reading them.
_SMALLEST_POOL = 5000


@dataclass
class SourceLabels:
    """The entry of each labelled picture, its split by the label files, pictures to leave out, and findings.

    `formats` counts the labelled pictures of each format that was found.
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

    DetectorError when no file labels any picture, or when `wanted` is "auto" and two formats label the same pictures.
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
    pictures = counted(len(files.pictures), "picture")
    if not label_files:
        return DetectorError(
            f"no label file ({', '.join(sorted(suffixes))}) for {pictures}: {files.shown}: put the labels into the "
            "same folder, or set source.path in detector.toml to the folder that holds both"
        )
    first = next((file for file in label_files if file.format), label_files[0])
    reason = first.error or "no picture has the name that it states"
    line = f":{first.error_line}" if first.error_line else ""
    advice = f"set source.path in detector.toml to the folder that holds both, as one of {', '.join(READERS)}"
    if wanted != "auto":
        advice = f'set source.format = "auto" in detector.toml, if the labels are not of the format {wanted}'
    return DetectorError(
        f"none of {counted(len(label_files), 'label file')} fits any of {pictures}, the first because '{reason}': "
        f"{files.show(first.path)}{line}: {advice}"
    )


def _refuse_two_formats(files: SourceFiles, pairing: Pairing) -> None:
    shared: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, entries in pairing.entries.items():
        shared[tuple(sorted({entry.file.format for entry in entries}))].append(path)
    for formats, pictures in shared.items():
        if len(formats) < 2:
            continue
        named = []
        for name in formats:
            paths = sorted({e.file.path for p in pictures for e in pairing.entries[p] if e.file.format == name})
            more = f" and {len(paths) - 1:,} more" if paths[1:] else ""
            named.append(f"{name} ({files.show(paths[0])}{more})")
        choices = " or ".join(f'"{name}"' for name in formats)
        raise DetectorError(
            f"{len(formats)} formats label the same {counted(len(pictures), 'picture')}, {', '.join(named)}: "
            f"{files.shown}: set source.format = {choices} in detector.toml"
        )


def _note_files(files: SourceFiles, label_files: list[LabelFile], found: SourceLabels) -> None:
    stems = {same_name(path.stem) for path in files.pictures}
    for file in label_files:
        shown = files.show(file.path)
        found.findings += [finding(note.code, shown, note.message, note.line) for note in file.notes]
        # A text beside no picture is a README or a list of classes, which nobody takes for labels.
        meant = file.path.suffix.lower() != ".txt" or same_name(file.path.stem) in stems
        if not file.format and meant and not _is_companion(file.path):
            found.findings.append(finding("W111", shown, f"'{file.path.name}': {file.error}", file.error_line))
        elif file.format and file.error and file.format not in ONE_PICTURE_A_FILE:
            found.findings.append(finding("E019", shown, f"'{file.path.name}': {file.error}", file.error_line))


def _is_companion(path: Path) -> bool:
    """Whether a table stands beside the boxes of Open Images: the names of its classes, the authors of its pictures."""
    return path.name == ATTRIBUTION_FILE or "class-descriptions" in path.name


def _choose(files: SourceFiles, path: Path, entries: list[Entry], found: SourceLabels) -> None:
    """The one entry of a picture; several are one if they say the same, else nobody can tell which is right."""
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
        found.findings.append(finding("R209", files.show(other.file.path), text, other.labels.line, picture=shown))
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
        text = f"the picture stands in {files.show(first.file.path)} too, which is {next(iter(said))} and not {other}"
        found.findings.append(finding("E011", files.show(second.file.path), text, second.labels.line, picture=shown))
    return next(iter(said), "")

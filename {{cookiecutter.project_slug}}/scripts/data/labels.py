"""The labels of a source: every label file read, each image with the one entry that it has."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.core.runtime import map_items
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import Box, LabelError, LabelFile, NotALabelError
from scripts.data.findings import Finding, finding
from scripts.data.formats import coco, csv_table, labelstudio, oidv4, voc, yolo
from scripts.data.formats.yolo import name_classes
from scripts.data.openimages.download_folder import ATTRIBUTION_FILE
from scripts.data.pairing import ONE_IMAGE_A_FILE, Entry, Pairing, entries_of, pair
from scripts.data.source import SourceFiles, same_name, split_in_name, split_of

# A reader takes a path and returns a LabelFile; NotALabelError when the file is of another format.
READERS: dict[str, tuple[str, Callable[[Path], LabelFile]]] = {
    "voc": (".xml", voc.read),
    "coco": (".json", coco.read),
    "labelstudio": (".json", labelstudio.read),
    "csv": (".csv", csv_table.read),
    # Before yolo: an empty file in a folder `Label` is one of OIDv4_ToolKit.
    "oidv4": (".txt", oidv4.read),
    "yolo": (".txt", yolo.read),
}
# Label files are small: below this many, starting worker processes takes longer than reading them.
_SMALLEST_POOL = 5000


def read_label_file(task: tuple[str, str]) -> LabelFile:
    """Read a label file, for a process pool: `task` is (path, `source.format`).

    Returns:
        What the first reader makes of it that takes it. Of no known format: a LabelFile with the
        format "" whose `error` says why.
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


@dataclass
class SourceLabels:
    """The entry of each labeled image, its split by the label files, and findings.

    `excluded` are images whose labels are broken or ambiguous. `formats` counts the labeled images
    of each format that was found.
    """

    entries: dict[Path, Entry] = field(default_factory=dict)
    splits: dict[Path, str] = field(default_factory=dict)
    excluded: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    formats: Counter = field(default_factory=Counter)


def plain_boxes(boxes: tuple[Box, ...]) -> list[str]:
    """Return boxes in a form that is equal for equal boxes wherever they stand."""
    return sorted(repr(replace(box, line=0)) for box in boxes)


def read_labels(files: SourceFiles, wanted: str) -> SourceLabels:
    """Read all label files of a source and match them to its images.

    Args:
        files: the files of the source.
        wanted: `source.format`, a key of `READERS` or "auto".

    Raises:
        DetectorError: no file labels any image, or two formats label the same images.
    """
    # Read every file that may hold labels.
    suffixes = {suffix for name, (suffix, _) in READERS.items() if wanted in ("auto", name)}
    tasks = [(str(path), wanted) for path in files.others if path.suffix.lower() in suffixes]
    label_files = list(map_items(read_label_file, tasks, "organize", smallest_pool=_SMALLEST_POOL))
    label_files, notes = name_classes(label_files, list(files.others), files.folder)

    # Match them to images.
    entries = (entry for file in label_files for entry in entries_of(file, files.folder))
    pairing = pair(files, entries)
    if not pairing.entries and not pairing.ambiguous:
        raise _no_labels(files, label_files, suffixes, wanted)
    _check_formats(files, pairing)

    # Keep the one entry of each image.
    found = SourceLabels(excluded=pairing.ambiguous)
    found.findings += [finding(note.code, files.show(path), note.message, note.line)
                       for path, note in notes]
    _note_files(files, label_files, found)
    found.findings += pairing.findings
    for path, image_entries in pairing.entries.items():
        _choose(files, path, image_entries, found)
    return found


def _no_labels(files: SourceFiles, label_files: list[LabelFile], suffixes: set[str],
               wanted: str) -> DetectorError:
    images = counted(len(files.images), "image")
    if not label_files:
        return DetectorError(
            f"no label file ({', '.join(sorted(suffixes))}) for {images}: {files.shown}: put the "
            "labels into the same folder, or set source.path in detector.toml to the folder that "
            "holds both")
    first = next((file for file in label_files if file.format), label_files[0])
    reason = first.error or "no image has the name that it states"
    line = f":{first.error_line}" if first.error_line else ""
    advice = ("set source.path in detector.toml to the folder that holds both, as one of "
              + ", ".join(READERS))
    if wanted != "auto":
        advice = ('set source.format = "auto" in detector.toml, if the labels are not of the '
                  f"format {wanted}")
    return DetectorError(
        f"none of {counted(len(label_files), 'label file')} fits any of {images}, the first "
        f"because '{reason}': {files.show(first.path)}{line}: {advice}")


def _check_formats(files: SourceFiles, pairing: Pairing) -> None:
    """Raise DetectorError when two formats label the same images: nobody can tell which to take."""
    shared: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, entries in pairing.entries.items():
        shared[tuple(sorted({entry.file.format for entry in entries}))].append(path)
    for formats, images in shared.items():
        if len(formats) < 2:
            continue
        named = []
        for name in formats:
            paths = sorted({entry.file.path for image in images for entry in pairing.entries[image]
                            if entry.file.format == name})
            more = f" and {len(paths) - 1:,} more" if paths[1:] else ""
            named.append(f"{name} ({files.show(paths[0])}{more})")
        choices = " or ".join(f'"{name}"' for name in formats)
        raise DetectorError(
            f"{len(formats)} formats label the same {counted(len(images), 'image')}, "
            f"{', '.join(named)}: {files.shown}: set source.format = {choices} in detector.toml")


def _note_files(files: SourceFiles, label_files: list[LabelFile], found: SourceLabels) -> None:
    """Add the findings about label files as a whole."""
    stems = {same_name(path.stem) for path in files.images}
    for file in label_files:
        shown = files.show(file.path)
        text, line = f"'{file.path.name}': {file.error}", file.error_line
        found.findings += [finding(note.code, shown, note.message, note.line)
                           for note in file.notes]
        # A text beside no image is a README or a list of classes, which nobody takes for labels.
        meant = file.path.suffix.lower() != ".txt" or same_name(file.path.stem) in stems
        if not file.format and meant and not _is_companion(file.path):
            found.findings.append(finding("W111", shown, text, line))
        elif file.format and file.error and file.format not in ONE_IMAGE_A_FILE:
            found.findings.append(finding("E019", shown, text, line))


def _is_companion(path: Path) -> bool:
    """Return whether a table belongs to Open Images: names of its classes, authors of images."""
    return path.name == ATTRIBUTION_FILE or "class-descriptions" in path.name


def _choose(files: SourceFiles, path: Path, entries: list[Entry], found: SourceLabels) -> None:
    """Keep the one entry of an image; several count as one if they say the same."""
    shown = files.show(path)
    broken = [entry.file for entry in entries if entry.labels is None]
    first, *others = entries
    if broken:
        text = f"'{broken[0].path.name}': {broken[0].error}"
        found.findings.append(finding("E019", files.show(broken[0].path), text,
                                      broken[0].error_line))
        found.excluded.add(path)
        return
    boxes = plain_boxes(first.labels.boxes) if others else []
    if any(plain_boxes(entry.labels.boxes) != boxes for entry in others):
        names = ", ".join(files.show(entry.file.path) for entry in entries[:3])
        text = f"'{path.name}' fits {len(entries)} label entries: {names}"
        found.findings.append(finding("E020", shown, text))
        found.excluded.add(path)
        return
    for other in others:
        text = f"'{path.name}' stands in {files.show(first.file.path)} with the same boxes"
        found.findings.append(finding("R209", files.show(other.file.path), text, other.labels.line,
                                      image=shown))
    found.entries[path] = first
    found.formats[first.file.format] += 1
    folder_split = split_of(path, files.folder)
    found.splits[path] = folder_split or _split_of_entries(files, shown, entries, found)


def _split_of_entries(files: SourceFiles, shown: str, entries: list[Entry],
                      found: SourceLabels) -> str:
    """Return the split that label files say, by content, folder or name; E011 if they differ."""
    said = {}
    for entry in entries:
        path = entry.file.path
        split = entry.labels.split or split_of(path, files.folder) or split_in_name(path)
        if split:
            said.setdefault(split, entry)
    if len(said) > 1:
        (name, first), (other, second) = list(said.items())[:2]
        text = (f"the image stands in {files.show(first.file.path)} too, which is {name} and not "
                f"{other}")
        found.findings.append(finding("E011", files.show(second.file.path), text,
                                      second.labels.line, image=shown))
    return next(iter(said), "")

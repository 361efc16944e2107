"""What a step saw when it ran, kept in `.steps/NAME.json`, and what differs now.

A file is named by its label: the POSIX path relative to the project, absolute for a file outside.
Labels do not change when the project's folder moves, and are the same on every system.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.core.files import TEMPORARY_PREFIX, write_bytes
from scripts.core.text import DetectorError

NO_DATA = frozenset({"README.md", ".DS_Store", "Thumbs.db", "desktop.ini", "__pycache__"})
"""Names that never count: explanations, and what file managers leave behind."""

SETTLED_NS = 2_000_000_000
"""A file that changed this shortly before it was read may change again without a new time stamp:
FAT counts in steps of 2 s."""

Stamp = tuple[int, int, int]
"""Size in bytes, and the times of the last change of content and of entry, in ns.

A renamed file keeps the former."""


def label_of(path: Path, root: Path) -> str:
    """Return the label of `path`."""
    path = Path(os.path.normpath(root / path))
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


class Tree:
    """The files below the project, each folder walked once until `refresh`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._walked: dict[tuple[str, bool], list[tuple[str, Stamp]]] = {}
        self._matched: dict[str, list[tuple[str, Stamp]]] = {}

    def refresh(self) -> None:
        """Forget what was walked; called after a body has written files."""
        self._walked.clear()
        self._matched.clear()

    def match(self, patterns: Iterable[str | Path]) -> dict[str, Stamp]:
        """Return label -> stamp of the files that any pattern names, sorted.

        A text is relative to the project: `*` and `?` within a name, `**` for any depth. A `Path`
        is taken as it is. A folder means all files in it. What does not exist matches nothing.
        """
        found: dict[str, Stamp] = {}
        for pattern in patterns:
            if isinstance(pattern, Path):
                found.update(self._all_below(label_of(pattern, self.root)))
                continue
            if pattern not in self._matched:
                self._matched[pattern] = list(self._search(pattern))
            found.update(self._matched[pattern])
        return dict(sorted(found.items()))

    def _search(self, pattern: str) -> Iterable[tuple[str, Stamp]]:
        parts = pattern.strip("/").split("/")
        wild = next((i for i, part in enumerate(parts) if re.search(r"[*?]", part)), len(parts))
        if wild == len(parts):
            return self._all_below("/".join(parts))
        deep = "**" in parts or wild < len(parts) - 1
        wanted = _expression(parts)
        return (item for item in self._walk("/".join(parts[:wild]), deep) if wanted(item[0]))

    def _all_below(self, label: str) -> list[tuple[str, Stamp]]:
        path = self.root / label
        if path.is_dir():
            return self._walk(label, True)
        stamp = stamp_of(path)
        return [(label, stamp)] if stamp else []

    def _walk(self, label: str, deep: bool) -> list[tuple[str, Stamp]]:
        key = (label, deep)
        if key not in self._walked:
            prefix = f"{label}/" if label else ""
            self._walked[key] = list(_scan(str(self.root / label), prefix, deep, set()))
        return self._walked[key]


def _scan(folder: str, prefix: str, deep: bool, linked: set[str]) -> Iterator[tuple[str, Stamp]]:
    """Yield label and stamp of the files in `folder`.

    Links to folders are followed, each once, so that circles end. `os.scandir` and no `rglob`: a
    project may hold 100,000 images.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name in NO_DATA or entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path) if deep and entry.is_symlink() else ""
            if deep and real not in linked:
                linked.update({real} - {""})
                yield from _scan(entry.path, f"{prefix}{entry.name}/", deep, linked)
            continue
        if stamp := stamp_of(entry):
            yield prefix + entry.name, stamp


def stamp_of(path: Path | os.DirEntry) -> Stamp | None:
    """Return the stamp of a file, None for a link to nowhere and a file that is gone."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _expression(parts: list[str]) -> Callable[[str], object]:
    """Return a function that is true for a label that fits the pattern of these parts."""
    text = ""
    for part in parts:
        if part == "**":
            text += "(?:[^/]+/)*"
        else:
            text += re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/"
    # `images/**` ends with any depth: all files below.
    text = text + "[^/]+" if parts[-1] == "**" else text[:-1]
    return re.compile(text).fullmatch


def content_digest(path: Path) -> str:
    """Return the digest of the content of a file: 128 bits, plenty against accidents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class Digests:
    """What was found out about files, remembered as long as their labels and stamps stay.

    `read` makes a value that JSON can hold from the path of a file; `memory` is where all values
    are kept.
    """

    def __init__(self, root: Path, memory: Path,
                 read: Callable[[Path], Any] = content_digest) -> None:
        self._root, self._memory, self._read = root, memory, read
        self._known: dict[str, list] = {}
        self._seen: set[str] = set()
        self._changed = False
        try:
            self._known = json.loads(memory.read_bytes().decode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            pass  # it only saves time

    def of(self, files: Mapping[str, Stamp]) -> dict[str, Any]:
        """Return label -> value; files that vanish meanwhile are left out.

        Raises:
            DetectorError: for a file that may not be read.
        """
        values = {}
        for label, stamp in files.items():
            known = self._known.get(label)
            if known is not None and tuple(known[:3]) == stamp:
                values[label] = known[3]
                continue
            try:
                values[label] = self._read_anew(label, stamp)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DetectorError(f"cannot read ({error.strerror}): {label}: check its rights"
                                    ) from error
        self._seen.update(files)
        return values

    def _read_anew(self, label: str, stamp: Stamp) -> Any:
        started_ns = time.time_ns()
        value = self._read(self._root / label)
        if max(stamp[1:]) + SETTLED_NS < started_ns:
            self._known[label] = [*stamp, value]
            self._changed = True
        else:
            self._changed |= self._known.pop(label, None) is not None
        return value

    def save(self) -> None:
        """Write the memory if it changed, without files that are gone."""
        if not self._changed:
            return
        unseen = self._known.keys() - self._seen
        for label in [label for label in unseen if not (self._root / label).exists()]:
            del self._known[label]
        # A file name need not be valid Unicode on Linux: it is written as the bytes it has.
        text = json.dumps(self._known, ensure_ascii=False)
        write_bytes(self._memory, text.encode("utf-8", "surrogateescape"))
        self._changed = False


SCHEMA = 1
SHOWN = 3
"""Names listed in a reason before `and 7 more`."""


@dataclass(frozen=True)
class Observation:
    """Everything that decides whether a step runs; files and modules as label -> digest.

    `noted_code` does not count: status mentions its changes. `absent` are patterns of what has to
    be there and is not.
    """

    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    code: dict[str, str]
    noted_code: dict[str, str]
    absent: list[str] = field(default_factory=list)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a step, None if there is none that this version can read."""
    try:
        record = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("schema") == SCHEMA else None


def write_record(path: Path, state: str, seen: Observation | None = None, **facts: Any) -> None:
    """Write the record of a step: `state` is running, failed or done."""
    record = {"schema": SCHEMA, "state": state, **facts, **(asdict(seen) if seen else {})}
    # TOML knows dates, which [overrides] may hold and JSON does not have.
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def reasons(record: Mapping[str, Any] | None, now: Observation) -> list[str]:
    """Return in words why a step with this record would run, [] if it is up to date."""
    if record is None:
        return ["never ran"]
    if record["state"] == "running":
        return ["interrupted"]
    if record["state"] == "failed":
        return ["failed last time: " + record.get("text", "")]
    settings = json.loads(json.dumps(now.settings, default=str))
    gone = [pattern for pattern in now.absent if pattern not in record.get("absent", [])]
    return [
        *_setting_changes(record.get("settings", {}), settings),
        *file_changes(record.get("inputs", {}), now.inputs),
        *file_changes(record.get("outputs", {}), now.outputs),
        *(f"{pattern} deleted" for pattern in gone),
        *file_changes(record.get("code", {}), now.code),
    ]


def _setting_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted({*before, *now}):
        if name not in before:
            yield f"{name} = {_shown(now[name])} is new"
        elif name not in now:
            yield f"{name} is gone"
        elif before[name] != now[name]:
            yield f"{name} {_shown(before[name])} -> {_shown(now[name])}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def file_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterable[str]:
    """Yield in words which files changed, came or went: `images/a.jpg changed`."""
    if before == now:  # the usual case, and the fast one with 100,000 files
        return
    both = [label for label in now if label in before]
    yield from _listed("changed", [label for label in both if before[label] != now[label]])
    yield from _listed("added", [label for label in now if label not in before])
    yield from _listed("deleted", [label for label in before if label not in now])


def _listed(verb: str, labels: list[str]) -> Iterable[str]:
    if len(labels) == 1:
        yield f"{labels[0]} {verb}"
    elif labels:
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        yield f"{len(labels)} files {verb}: " + ", ".join(labels[:SHOWN]) + more

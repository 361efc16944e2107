"""Which files a pattern means, and the digests of their content.

A file is named by its label: the POSIX path relative to the project, absolute for a file outside.
Labels do not change when the project folder moves, and are the same on every system.
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
"""A file changed this shortly before it was read may change again without a new time stamp (FAT
counts 2 s)."""

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change of content, and of the entry (a renamed file keeps the
former), in ns."""


def label_of(path: Path, root: Path) -> str:
    """Return the name of `path` in state files."""
    path = Path(os.path.normpath(root / path))
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


class Tree:
    """The files below the project, each folder walked once until `refresh`. Scales to 100,000
    images."""

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

        A pattern is relative to the project: `*` and `?` within a name, `**` for any depth; a
        folder means all files in it. What does not exist matches nothing.
        """
        found: dict[str, Stamp] = {}
        for pattern in patterns:
            if isinstance(pattern, Path):
                found.update(self._all_below(label_of(pattern, self.root)))
            else:
                found.update(self._matching(pattern))
        return dict(sorted(found.items()))

    def _matching(self, pattern: str) -> list[tuple[str, Stamp]]:
        if pattern not in self._matched:
            self._matched[pattern] = sorted(self._search(pattern))
        return self._matched[pattern]

    def _search(self, pattern: str) -> Iterable[tuple[str, Stamp]]:
        parts = pattern.strip("/").split("/")
        wild = next((at for at, part in enumerate(parts) if re.search(r"[*?]", part)), len(parts))
        if wild == len(parts):
            return self._all_below("/".join(parts))
        deep = "**" in parts or wild < len(parts) - 1
        wanted = _expression(parts)
        return (item for item in self._walk("/".join(parts[:wild]), deep) if wanted(item[0]))

    def _all_below(self, label: str) -> list[tuple[str, Stamp]]:
        try:
            info = (self.root / label).stat()
        except OSError:
            return []
        if os.path.isdir(self.root / label):
            return self._walk(label, True)
        return [(label, _stamp(info))]

    def _walk(self, label: str, deep: bool) -> list[tuple[str, Stamp]]:
        key = (label, deep)
        if key not in self._walked:
            self._walked[key] = list(_scan(str(self.root / label), f"{label}/" if label else "", deep, set()))
        return self._walked[key]


def _scan(folder: str, prefix: str, deep: bool, linked: set[str]) -> Iterator[tuple[str, Stamp]]:
    """Yield label and stamp of the files in `folder`. Links to folders are followed, each once:
    circles end."""
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
        try:
            yield prefix + entry.name, _stamp(entry.stat())
        except OSError:  # a link to nowhere, or a file removed since
            continue


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _expression(parts: list[str]) -> Callable[[str], object]:
    """Return the function that says whether a label fits the pattern of these parts."""
    text = ""
    for part in parts:
        if part == "**":
            text += "(?:[^/]+/)*"
        else:
            text += re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/"
    # `images/**` ends with any depth: all files below.
    text = text + "[^/]+" if parts[-1] == "**" else text[:-1]
    return re.compile(text).fullmatch


class Digests:
    """Digests of content, remembered in one file as long as stamp and label of a file stay what
    they were."""

    def __init__(self, root: Path, memory: Path) -> None:
        self._root, self._memory = root, memory
        self._known: dict[str, list] = {}
        self._seen: set[str] = set()
        self._dirty = False
        try:
            self._known = json.loads(memory.read_bytes().decode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            pass  # it only saves time

    def of(self, files: dict[str, Stamp]) -> dict[str, str]:
        """Return label -> digest; files that vanish meanwhile are left out.

        Raises DetectorError for a file that may not be read.
        """
        digests = {}
        for label, stamp in files.items():
            known = self._known.get(label)
            if known is not None and tuple(known[:3]) == stamp:
                digests[label] = known[3]
                continue
            try:
                digests[label] = self._read(label, stamp)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DetectorError(f"cannot read ({error.strerror}): {label}: check its rights") from error
        self._seen.update(files)
        return digests

    def _read(self, label: str, stamp: Stamp) -> str:
        started_ns = time.time_ns()
        with open(self._root / label, "rb") as file:
            # 128 bits are plenty against accidents and halve the state files of large data sets.
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if max(stamp[1:]) + SETTLED_NS < started_ns:
            self._known[label] = [*stamp, digest]
            self._dirty = True
        else:
            self._dirty |= self._known.pop(label, None) is not None
        return digest

    def save(self) -> None:
        """Write the memory if it changed, without files that are gone."""
        if not self._dirty:
            return
        gone = [label for label in self._known if label not in self._seen and not (self._root / label).exists()]
        for label in gone:
            del self._known[label]
        # A file name need not be valid Unicode on Linux: it is written as the bytes it has.
        write_bytes(self._memory, json.dumps(self._known, ensure_ascii=False).encode("utf-8", "surrogateescape"))
        self._dirty = False


# What a step saw when it ran, kept in `.steps/NAME.json`, and the difference to what it would see
# now, in words.

SCHEMA = 1
SHOWN = 3
"""Names listed in a reason before `and 7 more`."""


@dataclass(frozen=True)
class Observation:
    """Everything that decides whether a step runs; files as label -> digest."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    code: dict[str, str]
    noted_code: dict[str, str]
    """Code that does not count; status mentions its changes."""
    absent: list[str] = field(default_factory=list)
    """Patterns of what has to be there and is not."""


def read(path: Path) -> dict[str, Any] | None:
    """Return the record at `path`, None if there is none that this version can read."""
    try:
        record = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("schema") == SCHEMA else None


def write(path: Path, state: str, seen: Observation | None = None, **facts: Any) -> None:
    """Write a record: `state` is running, failed or done."""
    record = {"schema": SCHEMA, "state": state, **facts, **(asdict(seen) if seen else {})}
    # TOML knows dates, which [overrides] may hold and JSON does not have.
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def reasons(record: Mapping[str, Any] | None, now: Observation) -> list[str]:
    """Return in words why a step with this record would run; nothing if it is up to date."""
    if record is None:
        return ["never ran"]
    if record["state"] == "running":
        return ["interrupted"]
    if record["state"] == "failed":
        return ["failed last time: " + record.get("text", "")]
    return [
        *_setting_changes(record.get("settings", {}), json.loads(json.dumps(now.settings, default=str))),
        *_file_changes(record.get("inputs", {}), now.inputs),
        *_file_changes(record.get("outputs", {}), now.outputs),
        *(f"{pattern} deleted" for pattern in now.absent if pattern not in record.get("absent", [])),
        *code_changes(record.get("code", {}), now.code),
    ]


def code_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return `scripts/ROOM changed` for every folder of which a file changed, came or went."""
    changed = {label for label in {*before, *now} if before.get(label) != now.get(label)}
    return [f"{room} changed" for room in sorted({"/".join(label.split("/")[:2]) for label in changed})]


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


def _file_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterable[str]:
    if before == now:  # the usual case, and the fast one with 100,000 files
        return
    yield from _listed("changed", [label for label in now if label in before and before[label] != now[label]])
    yield from _listed("added", [label for label in now if label not in before])
    yield from _listed("deleted", [label for label in before if label not in now])


def _listed(verb: str, labels: list[str]) -> Iterable[str]:
    if len(labels) == 1:
        yield f"{labels[0]} {verb}"
    elif labels:
        more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
        yield f"{len(labels)} files {verb}: " + ", ".join(labels[:SHOWN]) + more

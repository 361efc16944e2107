"""What a step saw when it ran, kept in `.steps/NAME.json`, and the difference to what it would see now, in words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.pipeline.files import write_bytes

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

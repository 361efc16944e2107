"""The settings of the project: detector.toml, and `INVOKE_<TABLE>_<KEY>` of the environment on top.

Every value is checked once, with its line or variable in the message, and then stands in frozen
dataclasses.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.core.schema import (
    Check,
    Demo,
    Evaluate,
    Export,
    Model,
    Openimages,
    Rule,
    Runtime,
    Source,
    Split,
    Tflite,
    Train,
    base_kind,
    fit,
    toml,
)
from scripts.core.text import DetectorError, nearest

FILE = "detector.toml"


def read_text(path: Path) -> str:
    """Return the text of detector.toml.

    Raises:
        DetectorError: for marks and encodings that Windows editors write and TOML does not allow.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DetectorError(f"no settings: {FILE}: run invoke inside the project, or restore the "
                            "file") from error
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise DetectorError(f"byte order mark: {FILE}:1:1: save the file as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DetectorError(f"not UTF-8: {FILE}:{line}:{column}: save the file as UTF-8") from error


def parse_text(text: str) -> dict[str, Any]:
    """Return the tables of `text`.

    Raises:
        DetectorError: with line and column, where it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, position = str(error).partition(" (at ")
        where = ":".join(re.findall(r"\d+", position)) or str(text.count("\n") + 1)
        raise DetectorError(f"bad TOML, {what}: {FILE}:{where}: correct that line (texts stand in "
                            "quotes)") from error


def line_of(text: str, table: str, key: str | None) -> str:
    """Return `:LINE` of a key, or of the heading of its table if `key` is None; "" if not found."""
    current, wanted = "", rf"\s*\"?{re.escape(key or '')}\"?\s*="
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[+\s*\"?([^\]\"]+?)\"?\s*\]\s*(#.*)?$", line)
        current = heading[1] if heading else current
        if current == table and (heading if key is None else re.match(wanted, line)):
            return f":{number}"
    return ""


# Settings for one run, from the environment.

PREFIX = "INVOKE_"
OF_INVOKE = re.compile("DEBUG|RUNTIME_CONFIG|(RUN|TASKS|RUNNERS|SUDO|TIMEOUTS)_.*")
"""Names after the prefix that the program invoke reads itself."""
BUDGETS = {"train.epochs": "train.minutes", "train.minutes": "train.epochs"}


def apply_environment(raw: dict[str, Any], tables: Mapping[str, type],
                      environ: Mapping[str, str]) -> dict[str, str]:
    """Write the values of the environment into `raw`.

    A training budget of the environment replaces the one of the file, so `INVOKE_TRAIN_EPOCHS=2` is
    enough.

    Returns:
        The variables that were used, by the dotted names of their settings.

    Raises:
        DetectorError: for a variable that names no setting.
    """
    settings = [(table, field) for table, kind in tables.items() for field in fields(kind)]
    known = {f"{PREFIX}{table}_{field.name}".upper(): (table, field) for table, field in settings}
    origins = {}
    for name in sorted(environ):
        if name == f"{PREFIX}OVERRIDES":
            raw["overrides"] = raw.get("overrides", {}) | _inline_table(environ[name])
        elif name in known:
            table, field = known[name]
            raw.setdefault(table, {})[field.name] = parse(environ[name], base_kind(field.type))
            origins[f"{table}.{field.name}"] = name
        elif name.startswith(PREFIX) and not OF_INVOKE.fullmatch(name.removeprefix(PREFIX)):
            close = nearest(name, [*known, f"{PREFIX}OVERRIDES"], cutoff=0)
            raise DetectorError(f"unknown variable {name}: environment: did you mean {close}? "
                                f"Variables are called {PREFIX}<TABLE>_<KEY>")
    _one_budget(raw, origins)
    return origins


def parse(text: str, plain: type) -> Any:
    """Return the value of a variable: TOML, for lists also `a,b`, for texts also without quotes.

    What fits nothing comes back as text; the check of all settings then says what was wanted.
    """
    value = _literal(text)
    if plain is str:
        return value if isinstance(value, str) else text
    if plain is tuple and not isinstance(value, list):
        listed = _literal(f"[{text}]")
        if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
            return listed
        return [item.strip() for item in text.split(",") if item.strip()]
    return text if value is None else value


def _literal(text: str) -> Any:
    """Return the value of a TOML literal, None if `text` is none."""
    try:
        read = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return None
    # A line feed in the text could smuggle in a second key.
    return read["value"] if set(read) == {"value"} else None


def _inline_table(text: str) -> dict[str, Any]:
    value = _literal(text)
    if not isinstance(value, dict):
        example = '{"task.losses.box_loss_weight" = 10}'
        raise DetectorError(f"INVOKE_OVERRIDES = {toml(text)}: environment: write a table such as "
                            f"{example}")
    return value


def _one_budget(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    for name, other in BUDGETS.items():
        value = raw["train"].get(name.removeprefix("train.")) if name in origins else None
        if isinstance(value, (int, float)) and value > 0 and other not in origins:
            raw["train"][other.removeprefix("train.")] = 0


@dataclass(frozen=True)
class Settings:
    """All settings of the project. `overrides` maps dotted keys of the Model Garden experiment to
    values."""

    source: Source
    demo: Demo
    openimages: Openimages
    split: Split
    check: Check
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export
    tflite: Tflite
    runtime: Runtime
    overrides: dict[str, Any]

    def value(self, name: str) -> Any:
        """Return the setting of a dotted name, `train.minutes`; KeyError if there is none."""
        return self.subset([name])[name]

    def subset(self, names: Iterable[str]) -> dict[str, Any]:
        """Return dotted name -> value for tables (`source`) and settings (`split.seed`).

        Raises:
            KeyError: for a name that does not exist.
        """
        values = self._values
        chosen = {}
        for name in names:
            found = {key: value for key, value in values.items()
                     if key == name or key.startswith(name + ".")}
            if not found and name != "overrides":
                raise KeyError(f"no setting and no table is named {name!r}")
            chosen |= found
        return chosen

    @cached_property
    def _values(self) -> dict[str, Any]:
        """All settings by dotted name, lists as lists: as JSON holds them."""
        values = {f"overrides.{key}": value for key, value in self.overrides.items()}
        for table, kind in TABLES.items():
            for field in fields(kind):
                value = getattr(getattr(self, table), field.name)
                is_list = isinstance(value, tuple)
                values[f"{table}.{field.name}"] = list(value) if is_list else value
        return values


TABLES: dict[str, type] = {table.name: table.type for table in fields(Settings)
                           if is_dataclass(table.type)}


def load_settings(root: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read `root/detector.toml`, put the environment on top and check every value.

    Raises:
        DetectorError: at the first thing that is wrong, with its line or the name of its variable.
    """
    text = read_text(root / FILE)
    raw = parse_text(text)
    _check_names(raw, text)
    origins = apply_environment(raw, TABLES, environ)
    parts = {name: _build(name, kind, raw.get(name, {}), text, origins)
             for name, kind in TABLES.items()}
    settings = Settings(**parts, overrides=_dotted(raw.get("overrides", {})))
    for name, what, advice in _contradictions(settings):
        raise DetectorError(f"{what}: {_where(name, text, origins)}: {advice}")
    return settings


def _check_names(raw: Mapping[str, Any], text: str) -> None:
    tables = [*TABLES, "overrides"]
    for table, content in raw.items():
        if table not in tables or not isinstance(content, dict):
            is_table = isinstance(content, dict)
            line = line_of(text, table, None) if is_table else line_of(text, "", table)
            raise DetectorError(f"unknown table [{table}]: {FILE}{line}: "
                                + _known_names(table, tables, "[{}]"))
        known = [field.name for field in fields(TABLES[table])] if table in TABLES else content
        for key in content:
            if key not in known:
                line = line_of(text, table, key)
                raise DetectorError(f"unknown setting {table}.{key}: {FILE}{line}: "
                                    + _known_names(key, known))


def _known_names(name: str, known: Iterable[str], form: str = "{}") -> str:
    close = nearest(name, known)
    if close:
        return f"did you mean {form.format(close)}?"
    return "known are " + ", ".join(form.format(other) for other in known)


def _build(name: str, kind: type, content: Mapping[str, Any], text: str,
           origins: Mapping[str, str]) -> Any:
    """Return the dataclass of one table; DetectorError for what is missing or wrong."""
    missing = [field for field in fields(kind) if field.name not in content]
    if missing:
        lines = ", ".join(f"`{field.name} = {toml(field.metadata['rule'].example)}`"
                          for field in missing)
        raise DetectorError(f"missing {name}.{missing[0].name}: {FILE}{line_of(text, name, None)}: "
                            f"add under [{name}], a line each: {lines}")
    values = {}
    for field in fields(kind):
        value, rule = content[field.name], field.metadata["rule"]
        try:
            values[field.name] = fit(value, field.type, rule)
        except ValueError as error:
            where = _where(f"{name}.{field.name}", text, origins)
            hint = _hint(value, field.name, rule)
            raise DetectorError(f"{name}.{field.name} = {toml(value)}: {where}: wanted {error}"
                                f"{hint}") from error
    return kind(**values)


def _where(dotted: str, text: str, origins: Mapping[str, str]) -> str:
    if dotted in origins:
        return f"environment variable {origins[dotted]}"
    return FILE + line_of(text, *dotted.split(".", 1))


def _hint(value: Any, key: str, rule: Rule) -> str:
    close = nearest(value, rule.choices) if isinstance(value, str) else ""
    return f"; did you mean {toml(close)}?" if close else f", such as {key} = {toml(rule.example)}"


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables: `task.losses.x = 1` without quotes means the same as with them."""
    flat = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _contradictions(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield setting, fault and advice for values that are fine alone and not together."""
    train, split, tflite = settings.train, settings.split, settings.tflite
    strategy, index = settings.runtime.distribution_strategy, settings.runtime.task_index
    hosts = [host for host in settings.runtime.worker_hosts.split(",") if host]
    if (train.epochs > 0) == (train.minutes > 0):
        yield ("train.epochs", f"train.epochs = {train.epochs} and train.minutes = {train.minutes}",
               "set exactly one of them above 0 and the other to 0")
    if hosts and strategy != "multi_worker_mirrored":
        yield ("runtime.worker_hosts", f"runtime.worker_hosts names {len(hosts)} machines and "
               f"distribution_strategy is {toml(strategy)}",
               'set distribution_strategy = "multi_worker_mirrored", or worker_hosts = ""')
    if index >= max(1, len(hosts)):
        yield ("runtime.task_index", f"runtime.task_index = {index} with {len(hosts)} worker_hosts",
               "number the machines from 0, in the order of runtime.worker_hosts")
    if train.minutes > 0 and strategy not in ("one_device", "off"):
        yield ("train.minutes", f"train.minutes = {train.minutes} with {strategy}: the speed of "
               "several devices is not measured",
               "set train.minutes = 0 and train.epochs, such as 30")
    if split.validation + split.test >= 1:
        yield ("split.validation", f"split.validation {split.validation} + split.test {split.test} "
               "leaves nothing to train on", "keep the sum under 1, such as 0.15 and 0.15")
    if tflite.ship not in tflite.variants:
        yield ("tflite.ship", f"tflite.ship = {toml(tflite.ship)} is not among the variants",
               f"ship one of {toml(tflite.variants)}, or add it to tflite.variants")

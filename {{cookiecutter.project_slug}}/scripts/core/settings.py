"""The text of detector.toml: reading it, parsing it, and finding the line of a setting for
messages."""

import difflib  # only on the way to a refusal: it would slow down every start
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
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
from scripts.core.text import DetectorError

FILE = "detector.toml"


def read_text(path: Path) -> str:
    """Return the text of detector.toml. Windows editors write marks and encodings that TOML does
    not allow.

    Raises DetectorError with line and column.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DetectorError(f"no settings: {FILE}: run invoke inside the project, or restore the file") from error
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise DetectorError(f"byte order mark: {FILE}:1:1: save the file as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DetectorError(f"not UTF-8: {FILE}:{line}:{column}: save the file as UTF-8") from error


def parse_text(text: str) -> dict[str, Any]:
    """Return the tables of `text`. Raises DetectorError with line and column where it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, position = str(error).partition(" (at ")
        where = ":".join(re.findall(r"\d+", position)) or str(text.count("\n") + 1)
        raise DetectorError(f"bad TOML, {what}: {FILE}:{where}: correct that line (texts stand in quotes)") from error


def line_of(text: str, table: str, key: str | None) -> str:
    """Return `:LINE` of a key, or of the heading of its table when `key` is None; nothing if
    neither is found."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[+\s*\"?([^\]\"]+?)\"?\s*\]\s*(#.*)?$", line)
        current = heading[1] if heading else current
        if current == table and (heading if key is None else re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line)):
            return f":{number}"
    return ""


# `INVOKE_<TABLE>_<KEY>`: settings for one run, from the environment.

PREFIX = "INVOKE_"
INVOKES_OWN = ("RUN_", "TASKS_", "RUNNERS_", "SUDO_", "TIMEOUTS_")
"""Names that the program invoke reads itself; `RUNTIME_CONFIG` and `DEBUG` are two more."""
BUDGETS = {"train.epochs": "train.minutes", "train.minutes": "train.epochs"}


def apply_environment(raw: dict[str, Any], tables: Mapping[str, type], environ: Mapping[str, str]) -> dict[str, str]:
    """Write the values of the environment into `raw` and return dotted name -> variable for those
    that it set.

    A training budget of the environment replaces the one of the file, so `INVOKE_TRAIN_EPOCHS=2` is
    enough. Raises DetectorError for a name that stands for no setting.
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
        elif name.startswith(PREFIX) and not _owned_by_invoke(name):
            nearest = _nearest(name, [*known, f"{PREFIX}OVERRIDES"])
            raise DetectorError(f"unknown variable {name}: environment: {nearest}")
    _one_budget(raw, origins)
    return origins


def parse(text: str, plain: type) -> Any:
    """Read the text of a variable: a TOML literal; for lists also `a,b`; for texts also without
    quotes.

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
        raise DetectorError(f"INVOKE_OVERRIDES = {toml(text)}: environment: write a table such as {example}")
    return value


def _owned_by_invoke(name: str) -> bool:
    rest = name.removeprefix(PREFIX)
    return rest in ("DEBUG", "RUNTIME_CONFIG") or rest.startswith(INVOKES_OWN)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.0)
    return f"did you mean {close[0]}? Variables are called {PREFIX}<TABLE>_<KEY>"


def _one_budget(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    for name, other in BUDGETS.items():
        value = raw["train"].get(name.removeprefix("train.")) if name in origins else None
        if isinstance(value, (int, float)) and value > 0 and other not in origins:
            raw["train"][other.removeprefix("train.")] = 0


# detector.toml, with `INVOKE_<TABLE>_<KEY>` of the environment on top, checked once into frozen
# dataclasses.

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
        """Return the setting of a dotted name, `train.minutes`. Raises KeyError for a name that
        does not exist."""
        return self.subset([name])[name]

    def subset(self, names: Iterable[str]) -> dict[str, Any]:
        """Return dotted name -> value for table names (`source`) and dotted names (`split.seed`),
        lists as lists.

        Raises KeyError for a name that does not exist.
        """
        everything = self._flat()
        chosen = {}
        for name in names:
            found = {key: value for key, value in everything.items() if key == name or key.startswith(name + ".")}
            if not found and name != "overrides":
                raise KeyError(f"no setting and no table is named {name!r}")
            chosen |= found
        return chosen

    def _flat(self) -> dict[str, Any]:
        flat = {}
        for table in fields(self):
            part = getattr(self, table.name)
            items = part.items() if isinstance(part, dict) else ((f.name, getattr(part, f.name)) for f in fields(part))
            for key, value in items:
                flat[f"{table.name}.{key}"] = list(value) if isinstance(value, tuple) else value
        return flat


TABLES: dict[str, type] = {table.name: table.type for table in fields(Settings) if is_dataclass(table.type)}


def load_settings(root: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read `root/detector.toml`, lay the environment over it and check every value.

    Raises DetectorError at the first thing that is wrong, with its line or the name of its
    variable.
    """
    text = read_text(root / FILE)
    raw = parse_text(text)
    _refuse_unknown(raw, text)
    origins = apply_environment(raw, TABLES, environ)
    parts = {name: _build(name, kind, raw.get(name, {}), text, origins) for name, kind in TABLES.items()}
    settings = Settings(**parts, overrides=_dotted(raw.get("overrides", {})))
    _cross_check(settings, text, origins)
    return settings


def _refuse_unknown(raw: Mapping[str, Any], text: str) -> None:
    tables = [*TABLES, "overrides"]
    for table, content in raw.items():
        line = line_of(text, table, None) if isinstance(content, dict) else line_of(text, "", table)
        if table not in tables or not isinstance(content, dict):
            raise DetectorError(f"unknown table [{table}]: {FILE}{line}: {_nearest_settings(table, tables, '[{}]')}")
        known = [field.name for field in fields(TABLES[table])] if table in TABLES else list(content)
        for key in content:
            if key not in known:
                where = f"{FILE}{line_of(text, table, key)}"
                raise DetectorError(f"unknown setting {table}.{key}: {where}: {_nearest_settings(key, known, '{}')}")


def _nearest_settings(name: str, known: list[str], form: str) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if close:
        return f"did you mean {form.format(close[0])}?"
    return "known are " + ", ".join(form.format(each) for each in known)


def _build(name: str, kind: type, content: Mapping[str, Any], text: str, origins: Mapping[str, str]) -> Any:
    """Return the dataclass of one table. Raises DetectorError for what is missing and for the first
    wrong value."""
    missing = [field for field in fields(kind) if field.name not in content]
    if missing:
        lines = ", ".join(f"`{field.name} = {toml(field.metadata['rule'].example)}`" for field in missing)
        where = f"{FILE}{line_of(text, name, None)}"
        raise DetectorError(f"missing {name}.{missing[0].name}: {where}: add under [{name}], a line each: {lines}")
    values = {}
    for field in fields(kind):
        value, rule = content[field.name], field.metadata["rule"]
        try:
            values[field.name] = fit(value, field.type, rule)
        except ValueError as error:
            where = _where(f"{name}.{field.name}", text, origins)
            hint = _hint(value, field.name, rule)
            raise DetectorError(f"{name}.{field.name} = {toml(value)}: {where}: wanted {error}{hint}") from error
    return kind(**values)


def _where(dotted: str, text: str, origins: Mapping[str, str]) -> str:
    if dotted in origins:
        return f"environment variable {origins[dotted]}"
    return FILE + line_of(text, *dotted.split(".", 1))


def _hint(value: Any, key: str, rule: Rule) -> str:
    close = difflib.get_close_matches(value, rule.choices, 1) if isinstance(value, str) else []
    return f"; did you mean {toml(close[0])}?" if close else f", such as {key} = {toml(rule.example)}"


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables: `task.losses.x = 1` without quotes means the same as with them."""
    flat = {}
    for key, value in table.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


def _cross_check(settings: Settings, text: str, origins: Mapping[str, str]) -> None:
    """Refuse values that are fine alone and not together."""

    def refuse(dotted: str, what: str, advice: str) -> None:
        raise DetectorError(f"{what}: {_where(dotted, text, origins)}: {advice}")

    train, split, tflite = settings.train, settings.split, settings.tflite
    if (train.epochs > 0) == (train.minutes > 0):
        what = f"train.epochs = {train.epochs} and train.minutes = {train.minutes}"
        refuse("train.epochs", what, "set exactly one of them above 0 and the other to 0")
    strategy, index = settings.runtime.distribution_strategy, settings.runtime.task_index
    hosts = [host for host in settings.runtime.worker_hosts.split(",") if host]
    if hosts and strategy != "multi_worker_mirrored":
        what = f"runtime.worker_hosts names {len(hosts)} machines and distribution_strategy is {toml(strategy)}"
        advice = 'set distribution_strategy = "multi_worker_mirrored", or worker_hosts = ""'
        refuse("runtime.worker_hosts", what, advice)
    if index >= max(1, len(hosts)):
        what = f"runtime.task_index = {index} with {len(hosts)} worker_hosts"
        refuse("runtime.task_index", what, "number the machines from 0, in the order of runtime.worker_hosts")
    if train.minutes > 0 and strategy not in ("one_device", "off"):
        what = f"train.minutes = {train.minutes} with {strategy}: the speed of several devices is not measured"
        refuse("train.minutes", what, "set train.minutes = 0 and train.epochs, such as 30")
    if split.validation + split.test >= 1:
        what = f"split.validation {split.validation} + split.test {split.test} leaves nothing to train on"
        refuse("split.validation", what, "keep the sum under 1, such as 0.15 and 0.15")
    if tflite.ship not in tflite.variants:
        what = f"tflite.ship = {toml(tflite.ship)} is not among the variants"
        refuse("tflite.ship", what, f"ship one of {toml(tflite.variants)}, or add it to tflite.variants")

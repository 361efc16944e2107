"""`INVOKE_<TABLE>_<KEY>`: settings for one run, from the environment."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.rules import base_kind, toml

PREFIX = "INVOKE_"
INVOKES_OWN = ("RUN_", "TASKS_", "RUNNERS_", "SUDO_", "TIMEOUTS_")
"""Names that the program invoke reads itself; `RUNTIME_CONFIG` and `DEBUG` are two more."""
BUDGETS = {"train.epochs": "train.minutes", "train.minutes": "train.epochs"}


def apply_environment(raw: dict[str, Any], tables: Mapping[str, type], environ: Mapping[str, str]) -> dict[str, str]:
    """Write the values of the environment into `raw` and return dotted name -> variable for those that it set.

    A training budget of the environment replaces the one of the file, so `INVOKE_TRAIN_EPOCHS=2` is enough.
    Raises DetectorError for a name that stands for no setting.
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
    """Read the text of a variable: a TOML literal; for lists also `a,b`; for texts also without quotes.

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
    import difflib  # only on the way to a refusal: it would slow down every start

    close = difflib.get_close_matches(name, known, 1, 0.0)
    return f"did you mean {close[0]}? Variables are called {PREFIX}<TABLE>_<KEY>"


def _one_budget(raw: dict[str, Any], origins: Mapping[str, str]) -> None:
    for name, other in BUDGETS.items():
        value = raw["train"].get(name.removeprefix("train.")) if name in origins else None
        if isinstance(value, (int, float)) and value > 0 and other not in origins:
            raw["train"][other.removeprefix("train.")] = 0

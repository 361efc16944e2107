"""What a setting may be: its type, its range or its choices. Pure functions of a value, no files and no environment."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
    tuple: "a list of texts",
}


@dataclass(frozen=True)
class Rule:
    """The limits of one setting. `example` is a value that keeps them; messages show it."""

    example: Any
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    open_ends: bool = False
    """True: `least` and `most` themselves are refused."""
    form: str = ""
    """A regular expression that the whole text has to match."""


def setting(example: Any, **limits: Any) -> Any:
    """Return a dataclass field without a default that carries its `Rule`: values stand in detector.toml only."""
    return field(metadata={"rule": Rule(example, **limits)})


def base_kind(kind: Any) -> type:
    """Return int, float, bool, str or tuple for the annotation of a field (`tuple[str, ...]` is tuple)."""
    return getattr(kind, "__origin__", kind)


def fit(value: Any, kind: Any, rule: Rule) -> Any:
    """Return `value` as the type of its field: a whole number where a float is wanted, a tuple for a list.

    Raises ValueError with what is wanted instead, in words.
    """
    plain = base_kind(kind)
    if plain is tuple and isinstance(value, list):
        value = tuple(value)
    if plain is float and type(value) is int:
        value = float(value)
    # `type` and not isinstance: to Python, true is a whole number.
    if type(value) is not plain or not _within(value, rule):
        raise ValueError(wanted(plain, rule))
    return value


def _within(value: Any, rule: Rule) -> bool:
    if isinstance(value, tuple):
        named = all(isinstance(item, str) and item for item in value)
        return named and len(set(value)) == len(value) and (not rule.choices or set(value) <= set(rule.choices))
    if isinstance(value, str):
        return (not rule.choices or value in rule.choices) and bool(re.fullmatch(rule.form or r"(?s:.*)", value))
    if isinstance(value, bool):
        return True
    if rule.open_ends:
        return rule.least < value < rule.most
    return math.isfinite(value) and rule.least <= value <= rule.most


def wanted(plain: type, rule: Rule) -> str:
    """Say in words what a setting may be: `a whole number, 0 or more`."""
    words = NAMES[plain]
    if rule.choices:
        each = ", each once and one of " if plain is tuple else ", one of "
        return words + each + ", ".join(rule.choices)
    if plain is tuple:
        return words + ", each once and not empty"
    low, high = (f"{end:g}" if math.isfinite(end) else "" for end in (rule.least, rule.most))
    if low and high:
        return f"{words} between {low} and {high}" + (", both excluded" if rule.open_ends else "")
    if low:
        return f"{words} above {low}" if rule.open_ends else f"{words}, {low} or more"
    return words


def toml(value: Any) -> str:
    """Return `value` as it is written in detector.toml."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # the same escapes, line feeds included
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)

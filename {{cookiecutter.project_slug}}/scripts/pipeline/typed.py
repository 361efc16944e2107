"""Numbers that a user types behind an option: invoke's own conversion answers a slip with a traceback."""

import math

from scripts.pipeline.errors import DetectorError


def typed_count(text: str, option: str, example: str, least: int = 1) -> int:
    """The whole number of at least `least` in `text`. DetectorError names the option and an example."""
    return int(typed_number(text, option, int, least, math.inf, example))


def typed_number(text: str, option: str, kind: type, least: float, most: float, example: str) -> int | float:
    """The `kind` (int or float) in `text`, from `least` to `most`. DetectorError names the option and an example."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        span = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
        what = "a whole number" if kind is int else "a number"
        raise DetectorError(f"{text!r} is not {what} {span}: --{option}: give one, such as --{option} {example}")
    return value

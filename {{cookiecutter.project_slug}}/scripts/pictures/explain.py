"""The text of `invoke check --explain E005`, and the list of all codes."""

import textwrap
from collections.abc import Collection

from scripts.pictures.explanations import EXPLANATIONS
from scripts.pictures.findings import CATALOGUE, Code, Finding, refuse_unknown_code
from scripts.pipeline.words import counted

_WIDTH = 100
_INDENT = 11


def explain(code: str) -> str:
    """What a code means and what can be done about it; "" lists all. DetectorError for one that does not exist."""
    code = code.strip().upper()
    if not code:
        return list_codes()
    refuse_unknown_code(code, "invoke check --explain", "type it, or no code for the list of all")
    entry, text = CATALOGUE[code], EXPLANATIONS[code]
    lines = [f"{code}  {entry.severity}  {entry.title}", "", textwrap.fill(text.why, _WIDTH), ""]
    lines.append(_part("to do", entry.fix))
    if entry.severity != "repaired":
        lines.append(_part("--fix", text.fixing or "leaves it: only a person can decide"))
    if entry.severity == "error":
        lines.append(_part("accept", f'check.accept = ["{code}"]: {text.accepting}'))
    return "\n".join(lines)


def _part(name: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"{name:<{_INDENT}}", subsequent_indent=" " * _INDENT)


def list_codes() -> str:
    """All codes with what they are, one a line; a star marks those that `--fix` repairs."""
    stars = {code: "*" if EXPLANATIONS[code].fixing else " " for code in CATALOGUE}
    lines = [f"{code}{stars[code]}  {entry.severity:<8}  {entry.title}" for code, entry in sorted_codes()]
    return "\n".join(
        [*lines, "", "* `invoke check --fix` repairs what is safe. More of one: invoke check --explain E005"]
    )


def sorted_codes() -> list[tuple[str, Code]]:
    """The catalogue, errors first."""
    return sorted(CATALOGUE.items(), key=lambda pair: ("EWR".index(pair[0][0]), pair[0]))


def left_text(errors: Collection[Finding]) -> str:
    """Why `--fix` left these errors, a line a code; files that are not in `images/` are out of its reach."""
    lines = []
    for code, _ in sorted_codes():
        same = [one for one in errors if one.code == code]
        away = sum(not one.picture and not one.file.startswith("images") for one in same)
        if not same:
            continue
        reasons = []
        if len(same) > away:
            reasons.append(EXPLANATIONS[code].fixing or "only a person can decide")
        if away:
            reasons.append(f"{counted(away, 'file')} of the source, left out of images/: correct them there")
        lines.append(f"{code} x {len(same):,}: {'; '.join(reasons)}")
    return "left as they are (what --fix does with such, and did not apply here):\n  " + "\n  ".join(lines)

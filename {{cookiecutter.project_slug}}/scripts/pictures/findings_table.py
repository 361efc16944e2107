"""Findings as text for people: one block a code, the worst first."""

from collections import defaultdict
from collections.abc import Collection

from scripts.pictures.findings import CATALOGUE, Finding

REPORT = "annotations/check.json"
_SHOWN = 5
_SHOWN_OF_MANY = 2
_MANY_CODES = 8
"""With more codes than this, fewer places of each are shown, so that all codes fit a screen or two."""


def findings_table(findings: list[Finding], accept: Collection[str]) -> str:
    """Code, severity, count, title, what to do, then the first places. Errors in `accept` are shown as accepted.

    Places are `file:line` as in `check.json`. What was repaired has no places: there is nothing to look at.
    """
    by_code = defaultdict(list)
    for one in findings:
        by_code[one.code].append(one)
    telling = sum(same[0].severity != "repaired" for same in by_code.values())
    shown = _SHOWN if telling <= _MANY_CODES else _SHOWN_OF_MANY
    lines = []
    for code in sorted(by_code, key=lambda code: ("EWR".index(code[0]), code)):
        same, entry = by_code[code], CATALOGUE[code]
        severity = "accepted" if code in accept and entry.severity == "error" else entry.severity
        lines.append(f"{code}  {severity:<8}  {len(same):>5,}  {entry.title}: {entry.fix}")
        if severity == "repaired":
            continue
        lines += [f"      {_place(one)}  {one.message}" for one in same[:shown]]
        lines += [f"      ... {len(same) - shown:,} more in {REPORT}"] if len(same) > shown else []
    return "\n".join(lines)


def _place(one: Finding) -> str:
    return f"{one.file}:{one.line}" if one.line else one.file

"""Findings: what is wrong with labeled images, where, and as text for people."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass

from scripts.core.text import aligned, counted
from scripts.data.explanations import CATALOG

REPORT = "annotations/check.json"

_SHOWN = 5
# With more codes than this, fewer places of each are shown, so that all codes fit a screen or two.
_MANY_CODES = 8
_SHOWN_OF_MANY = 2


@dataclass(frozen=True)
class Finding:
    """One place where something is wrong.

    `file` and `line` are where a person would correct it (line 0: none). `image` is the name of the
    file in `images/` that it is about ("": none).
    """

    code: str
    severity: str
    file: str
    line: int
    class_name: str
    message: str
    fix: str
    image: str = ""

    @property
    def place(self) -> str:
        """Return `FILE:LINE`, or `FILE` without a line."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def as_json(self) -> dict:
        """Return the form of `annotations/check.json`, where `class_name` is called `class`."""
        values = asdict(self)
        del values["image"]
        values["class"] = values.pop("class_name")
        return values


def finding(code: str, file: str, message: str, line: int = 0, class_name: str = "",
            image: str = "") -> Finding:
    """Return a finding of the catalog. `file` is the path as the user knows it."""
    entry = CATALOG[code]
    return Finding(code, entry.severity, file, line, class_name, message, entry.advice, image)


def from_manifest(row: dict) -> Finding:
    """Return a finding from its row in `annotations/organize.json`."""
    return finding(row["code"], row["file"], row["message"], row["line"], row["class"],
                   row.get("image", ""))


def _by_code(findings: Collection[Finding]) -> dict[str, list[Finding]]:
    """Return the findings by code, in the order of the catalog: errors first."""
    found = defaultdict(list)
    for row in findings:
        found[row.code].append(row)
    return {code: found[code] for code in CATALOG if code in found}


def findings_table(findings: Collection[Finding], accept: Collection[str]) -> str:
    """Return a block for each code: severity, count, title, what to do, and the first places.

    Errors in `accept` are shown as accepted. What was repaired has no places: there is nothing to
    look at.
    """
    by_code = _by_code(findings)
    unrepaired = sum(CATALOG[code].severity != "repaired" for code in by_code)
    shown = _SHOWN if unrepaired <= _MANY_CODES else _SHOWN_OF_MANY
    rows = []
    for code, same in by_code.items():
        severity = CATALOG[code].severity
        is_accepted = severity == "error" and code in accept
        rows.append((code, "accepted" if is_accepted else severity, f"{len(same):,}"))
    lines = []
    for head, (code, same) in zip(aligned(rows, texts=2).split("\n"), by_code.items(), strict=True):
        lines.append(f"{head}  {CATALOG[code].title}: {CATALOG[code].advice}")
        if CATALOG[code].severity != "repaired":
            lines += _places(same, shown)
    return "\n".join(lines)


def _places(same: list[Finding], shown: int) -> list[str]:
    lines = [f"      {row.place}  {row.message}" for row in same[:shown]]
    if len(same) > shown:
        lines.append(f"      ... {len(same) - shown:,} more in {REPORT}")
    return lines


def left_text(errors: Collection[Finding]) -> str:
    """Return why `--fix` left these errors, a line for each code."""
    lines = []
    for code, same in _by_code(errors).items():
        # What organize could not use is not in images/, where --fix works.
        in_source = sum(not row.image and not row.file.startswith("images") for row in same)
        reasons = []
        if len(same) > in_source:
            reasons.append(CATALOG[code].repair or "only a person can decide")
        if in_source:
            reasons.append(f"{counted(in_source, 'file')} of the source, left out of images/: "
                           "correct them there")
        lines.append(f"{code} x {len(same):,}: {'; '.join(reasons)}")
    return "left as they are (what --fix repairs did not apply here):\n  " + "\n  ".join(lines)


def counts_text(codes: dict[str, int]) -> str:
    """Return `E003 x 2, E005 x 1` for the numbers of findings or edits by code."""
    return ", ".join(f"{code} x {count:,}" for code, count in sorted(codes.items()))

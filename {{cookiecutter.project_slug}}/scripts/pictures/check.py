"""Look at all labelled pictures and name everything that is wrong at once: the step `check`."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from scripts.pictures.findings import CATALOGUE, Finding
from scripts.pictures.ledger import read_ledger
from scripts.pictures.rules import box_findings, name_findings, orphan_findings, picture_findings, split_findings
from scripts.pictures.stored import Stored, read_stored, stored_labels
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_json
from scripts.pipeline.words import counted

REPORT = "annotations/check.json"
_SHOWN = 5
_FIELDS = {field.name for field in fields(Finding)}


@dataclass(frozen=True)
class CheckCounts:
    """Pictures and boxes looked at, and findings by severity; `accepted` errors are those in `check.accept`."""

    pictures: int
    boxes: int
    errors: int
    warnings: int
    repaired: int
    accepted: int = 0

    def __str__(self) -> str:
        texts = [counted(self.pictures, "picture"), counted(self.boxes, "box", "boxes")]
        texts += [counted(self.accepted, "error") + " accepted"] if self.accepted else ["no errors"]
        return ", ".join([*texts, counted(self.warnings, "warning"), f"{self.repaired:,} repaired"])


def _refuse_unknown_codes(accept: Sequence[str]) -> None:
    for code in accept:
        if code not in CATALOGUE:
            near = (difflib.get_close_matches(code.upper(), CATALOGUE, n=1, cutoff=0.0) or [""])[0]
            raise DetectorError(
                f"check.accept names '{code}', which is no code: detector.toml: the nearest is '{near}'"
            )


def _readers_findings(root: Path, pictures: list[Stored]) -> list[Finding]:
    """What organize found, without what the user has since edited or deleted in `images/`."""
    unedited = {stored.path.name for stored in pictures if stored.entry and not stored.edited}
    found = []
    for row in read_ledger(root)["findings"]:
        values = {"class_name" if key == "class" else key: value for key, value in row.items()}
        one = Finding(**{key: value for key, value in values.items() if key in _FIELDS})
        if not one.picture or one.picture in unedited:
            found.append(one)
    return found


def find_all(root: Path, pictures: list[Stored], labels: Sequence[str], min_box_px: float) -> list[Finding]:
    """All findings, by code, file and line."""
    found = _readers_findings(root, pictures)
    for stored in pictures:
        found += picture_findings(stored)
        found += box_findings(stored, min_box_px)
    found += name_findings(pictures, list(labels))
    found += split_findings(pictures, list(labels))
    found += orphan_findings(root, pictures, stored_labels(root))
    return sorted(found, key=lambda one: (one.code, one.file, one.line, one.message))


def _table(findings: list[Finding], accept: Sequence[str]) -> str:
    """One block a code, the worst first: code, severity, count, title, what to do, then the first places."""
    lines = []
    for code, count in sorted(Counter(one.code for one in findings).items(), key=lambda pair: _rank(pair[0])):
        same = [one for one in findings if one.code == code]
        severity = "accepted" if code in accept and same[0].severity == "error" else same[0].severity
        lines.append(f"{code}  {severity:<8}  {count:>5,}  {CATALOGUE[code].title}: {CATALOGUE[code].fix}")
        if severity == "repaired":  # nothing to do, so nothing to look at; the report has them all
            continue
        for one in same[:_SHOWN]:
            place = f"{one.file}:{one.line}" if one.line else one.file
            lines.append(f"      {place}  {one.message}")
        if count > _SHOWN:
            lines.append(f"      ... {count - _SHOWN:,} more in {REPORT}")
    return "\n".join(lines)


def _rank(code: str) -> tuple[int, str]:
    return "EWR".index(code[0]), code


def check(root: Path, labels: Sequence[str], accept: Sequence[str], min_box_px: float) -> CheckCounts:
    """Check `images/` and write `annotations/check.json`; print a table of the findings.

    `labels` is source.labels (empty: every class is known), `accept` the codes that do not stop, `min_box_px` the
    smallest side of a box in pixels of the stored picture. DetectorError, after the report is written, when an
    error is not accepted; also when there are no pictures or `accept` names a code that does not exist.
    """
    _refuse_unknown_codes(accept)
    pictures = read_stored(root, "check")
    if not pictures:
        raise DetectorError("there are no pictures: images/train: run `invoke organize`")
    findings = find_all(root, pictures, labels, min_box_px)
    severities = Counter(one.severity for one in findings)
    errors = Counter(one.code for one in findings if one.severity == "error" and one.code not in accept)
    boxes = sum(len(stored.label.boxes) for stored in pictures if stored.label)
    write_json(
        root / REPORT,
        {
            "schema": 1,
            "pictures": len(pictures),
            "boxes": boxes,
            "errors": severities["error"],
            "warnings": severities["warning"],
            "repaired": severities["repaired"],
            "findings": [one.as_json() for one in findings],
        },
    )
    if findings:
        print(_table(findings, accept))
    if errors:
        counts = ", ".join(f"{code} x {count:,}" for code, count in sorted(errors.items()))
        codes = ", ".join(f'"{code}"' for code in sorted(errors))
        raise DetectorError(
            f"{counted(sum(errors.values()), 'error')} ({counts}): {REPORT}: correct the files that it names, or "
            f"accept them with check.accept = [{codes}] in detector.toml; then run the same command again"
        )
    accepted = severities["error"]
    return CheckCounts(len(pictures), boxes, 0, severities["warning"], severities["repaired"], accepted)

"""Look at all labeled images and name everything that is wrong at once: the step `check`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from scripts.core.files import write_json
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data import (
    rules as boxes,
)
from scripts.data import (
    rules as classes,
)
from scripts.data import (
    rules as files,
)
from scripts.data import (
    rules as splits,
)
from scripts.data import (
    rules as whole,
)
from scripts.data.findings import REPORT, Finding, findings_table, left_text, require_known_code
from scripts.data.fixes import (
    FIXES,
    Edit,
    Policy,
    add_fixes,
    answered,
    apply,
    plan_fixes,
    read_fixes,
)
from scripts.data.manifest import Stored, entries_by_name, read_manifest, read_stored, stored_labels

_FIELDS = {field.name for field in fields(Finding)}


@dataclass(frozen=True)
class CheckCounts:
    """Images and boxes looked at, findings by severity, errors in `check.accept` by code, edits of
    `--fix`."""

    images: int
    boxes: int
    warnings: int
    repaired: int
    accepted: dict[str, int] = field(default_factory=dict)
    fixed: int = 0

    def __str__(self) -> str:
        texts = [counted(self.fixed, "edit")] * bool(self.fixed)
        texts += [counted(self.images, "image"), counted(self.boxes, "box", "boxes")]
        if self.accepted:
            texts.append(f"{counted(sum(self.accepted.values()), 'error')} accepted ({_by_code(self.accepted)})")
        else:
            texts.append("no errors")
        return ", ".join([*texts, counted(self.warnings, "warning"), f"{self.repaired:,} repaired"])


def require_known_codes(accept: Sequence[str]) -> None:
    """DetectorError when `check.accept` names a code that does not exist, with the nearest."""
    for code in accept:
        require_known_code(code, "check.accept in detector.toml", "correct it; `invoke check --explain` lists all")


def _readers_findings(root: Path, images: list[Stored]) -> list[Finding]:
    """What organize found, without what the user has since edited or deleted in `images/`."""
    unedited = {stored.path.name for stored in images if stored.entry and not stored.edited}
    found = []
    for row in read_manifest(Layout(root).manifest)["findings"]:
        values = {"class_name" if key == "class" else key: value for key, value in row.items()}
        one = Finding(**{key: value for key, value in values.items() if key in _FIELDS})
        if not one.image or one.image in unedited:
            found.append(one)
    return found


def find_all(root: Path, images: list[Stored], source, min_box_px: float, input_px: int) -> list[Finding]:
    """All findings, by code, file and line."""
    labels = list(source.labels)
    found = _readers_findings(root, images)
    for stored in images:
        found += files.image_findings(stored)
        found += boxes.box_findings(stored, min_box_px)
    found += classes.name_findings(images, labels)
    found += splits.split_findings(images, labels)
    found += files.orphan_findings(images, stored_labels(Layout(root).images))
    found += whole.balance_findings(images, labels)
    found += whole.tiny_findings(images, input_px)
    found += whole.flag_findings(images)
    found += whole.background_findings(images)
    if source.kind == "openimages":
        found += whole.license_findings(root, images)
    return sorted(found, key=lambda one: (one.code, one.file, one.line, one.message))


def check(root: Path, source, limits, input_px: int, fixed: int | None = None) -> CheckCounts:
    """Check `images/` and write `annotations/check.json`; print a table of the findings.

    `source` and `limits` are the tables [source] and [check] of detector.toml, `input_px` the side
    of the square that the model sees, `fixed` how many edits `--fix` has just made (None: it was
    not asked for). DetectorError, after the report is written, when an error is not accepted; also
    when there are no images or `check.accept` names a code that does not exist.
    """
    require_known_codes(limits.accept)
    layout = Layout(root)
    images = read_stored(layout.images, entries_by_name(read_manifest(layout.manifest)), "check")
    if not images:
        raise DetectorError("there are no images: images/train: run `invoke organize`")
    findings = find_all(root, images, source, limits.min_box_px, input_px)
    severities = Counter(one.severity for one in findings)
    counts = CheckCounts(
        len(images),
        sum(len(stored.label.boxes) for stored in images if stored.label),
        severities["warning"],
        severities["repaired"],
        dict(Counter(one.code for one in findings if one.severity == "error" and one.code in limits.accept)),
        fixed or 0,
    )
    _write(root, counts, severities["error"], findings)
    if findings:
        print(findings_table(findings, limits.accept))
    errors = [one for one in findings if one.severity == "error" and one.code not in limits.accept]
    if errors:
        policy = Policy(source.labels, source.exif, limits.accept, limits.min_box_px)
        if fixed is not None:
            print(left_text(errors))
        raise _refusal(errors, len(answered(errors, plan_fixes(root, images, policy))))
    return counts


def _write(root: Path, counts: CheckCounts, errors: int, findings: list[Finding]) -> None:
    write_json(
        root / REPORT,
        {
            "schema": 1,
            "images": counts.images,
            "boxes": counts.boxes,
            "errors": errors,
            "warnings": counts.warnings,
            "repaired": counts.repaired,
            "findings": [one.as_json() for one in findings],
        },
    )


def _by_code(codes: dict[str, int]) -> str:
    return ", ".join(f"{code} x {count:,}" for code, count in sorted(codes.items()))


def _refusal(errors: list[Finding], fixable: int) -> DetectorError:
    by_code = Counter(one.code for one in errors)
    codes = ", ".join(f'"{code}"' for code in sorted(by_code))
    does = f"`invoke check --fix` repairs {fixable:,} of them; " if fixable else ""
    return DetectorError(
        f"{counted(len(errors), 'error')} ({_by_code(by_code)}): {REPORT}: {does}correct the files that it names, or "
        f"accept them with check.accept = [{codes}] in detector.toml; then run the same command again"
    )


# Repair in `images/` what can be repaired without looking at the images: `invoke check --fix`.

def fix(root: Path, source, limits, input_px: int) -> CheckCounts:
    """Repair, print each edit, add it to `annotations/fixes.json`, and check again; arguments and
    errors as of `check`.

    The source is never touched. A file is edited whole or not at all; after Ctrl-C the journal has
    what was done.
    """
    require_known_codes(limits.accept)
    earlier = read_fixes(root)
    policy = Policy(source.labels, source.exif, limits.accept, limits.min_box_px)
    layout = Layout(root)
    images = read_stored(layout.images, entries_by_name(read_manifest(layout.manifest)), "fix")
    plans = plan_fixes(root, images, policy)
    done: list[Edit] = []
    try:
        for plan in plans:
            edits = apply(plan, source.exif)
            done += edits
            for edit in edits:
                print(edit)
    finally:
        add_fixes(root, earlier, done)
    counts = Counter(edit.code for edit in done)
    codes = ", ".join(f"{code} x {count:,}" for code, count in sorted(counts.items()))
    print(f"{counted(len(done), 'edit')} ({codes}), noted in {FIXES}" if done else "nothing that could be repaired")
    return check(root, source, limits, input_px, fixed=len(done))

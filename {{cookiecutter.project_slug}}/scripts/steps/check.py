"""The step `check`: name everything that is wrong with the labeled images, and repair with `--fix`.

The rules stand in `data/rules.py`, the codes and their texts in `data/explanations.py`, the repairs
in `data/fixes.py`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scripts.core.files import write_json
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.explanations import require_known_code
from scripts.data.findings import (
    REPORT,
    Finding,
    counts_text,
    findings_table,
    from_manifest,
    left_text,
)
from scripts.data.fixes import plan_fixes, read_fixes, repaired_findings, write_fixes
from scripts.data.manifest import Stored, entries_by_name, read_manifest, read_stored, stored_labels
from scripts.data.openimages.download_folder import ATTRIBUTION_FILE
from scripts.data.rules import (
    attributed_ids,
    image_findings,
    license_findings,
    orphan_findings,
    set_findings,
)


def check(root: Path, source, limits, input_px: int, fixed: int | None = None) -> str:
    """Check `images/`, write `annotations/check.json` and print a table of the findings.

    Args:
        root: the folder of the project.
        source: the table [source] of detector.toml.
        limits: the table [check].
        input_px: the side of the square that the model sees.
        fixed: how many edits `--fix` has just made, None without it.

    Returns:
        The summary: images, boxes and findings.

    Raises:
        DetectorError: there are no images, or an error is not accepted. Then the report is written.
    """
    _require_known_codes(limits.accept)
    layout = Layout(root)
    manifest = read_manifest(layout.manifest)
    images = read_stored(layout.images, entries_by_name(manifest), "check")
    if not images:
        raise DetectorError("there are no images: images/train: run `invoke organize`")

    findings = _unedited_findings(manifest, images)
    findings += _rule_findings(layout, images, source, limits, input_px)
    findings.sort(key=lambda row: (row.code, row.file, row.line, row.message))

    # The report is written before errors stop the step.
    boxes = sum(len(stored.label.boxes) for stored in images if stored.label)
    severities = Counter(row.severity for row in findings)
    write_json(layout.check, {
        "schema": 1, "images": len(images), "boxes": boxes, "errors": severities["error"],
        "warnings": severities["warning"], "repaired": severities["repaired"],
        "findings": [row.as_json() for row in findings]})
    if findings:
        print(findings_table(findings, limits.accept))

    errors = [row for row in findings if row.severity == "error"]
    stopping = [row for row in errors if row.code not in limits.accept]
    if stopping:
        if fixed is not None:
            print(left_text(stopping))
        plans = plan_fixes(images, source, limits)
        raise _errors_found(stopping, len(repaired_findings(stopping, plans)))
    texts = [counted(fixed, "edit")] if fixed else []
    texts += [counted(len(images), "image"), counted(boxes, "box", "boxes"), _accepted_text(errors),
              counted(severities["warning"], "warning"), f"{severities['repaired']:,} repaired"]
    return ", ".join(texts)


def fix(root: Path, source, limits, input_px: int) -> str:
    """Repair what needs no person, note it in `annotations/fixes.json`, and check again.

    Each edit is printed. The source is never touched. After Ctrl-C the journal has what was done.
    Arguments, result and errors are those of `check`.
    """
    _require_known_codes(limits.accept)
    layout = Layout(root)
    earlier = read_fixes(layout.fixes)
    entries = entries_by_name(read_manifest(layout.manifest))
    plans = plan_fixes(read_stored(layout.images, entries, "fix"), source, limits)

    done = []
    try:
        for plan in plans:
            edits = write_fixes(plan, source.exif)
            done += edits
            for edit in edits:
                print(edit)
    finally:
        if done:
            fixes = [*earlier, *(edit.as_json() for edit in done)]
            write_json(layout.fixes, {"schema": 1, "fixes": fixes})
    if done:
        codes = counts_text(Counter(edit.code for edit in done))
        print(f"{counted(len(done), 'edit')} ({codes}), noted in {layout.shown(layout.fixes)}")
    else:
        print("nothing that could be repaired")
    return check(root, source, limits, input_px, fixed=len(done))


def _require_known_codes(accept: Sequence[str]) -> None:
    for code in accept:
        require_known_code(code, "check.accept in detector.toml",
                           "correct it; `invoke check --explain` lists all")


def _unedited_findings(manifest: dict, images: list[Stored]) -> list[Finding]:
    """Return what organize found, except in images that the user edited or deleted since."""
    unedited = {stored.path.name for stored in images if stored.entry and not stored.edited}
    findings = [from_manifest(row) for row in manifest["findings"]]
    return [row for row in findings if not row.image or row.image in unedited]


def _rule_findings(layout: Layout, images: list[Stored], source, limits,
                   input_px: int) -> list[Finding]:
    """Ask the rules of `data/rules.py` about each image, and about all of them."""
    findings = [row for stored in images for row in image_findings(stored, limits.min_box_px)]
    findings += set_findings(images, source.labels, input_px)
    findings += orphan_findings(images, stored_labels(layout.images))
    if source.kind == "openimages":
        attributed = attributed_ids(layout.openimages / ATTRIBUTION_FILE)
        findings += license_findings(images, attributed)
    return findings


def _accepted_text(errors: list[Finding]) -> str:
    if not errors:
        return "no errors"
    codes = counts_text(Counter(row.code for row in errors))
    return f"{counted(len(errors), 'error')} accepted ({codes})"


def _errors_found(errors: list[Finding], fixable: int) -> DetectorError:
    by_code = Counter(row.code for row in errors)
    codes = ", ".join(f'"{code}"' for code in sorted(by_code))
    repairs = f"`invoke check --fix` repairs {fixable:,} of them; " if fixable else ""
    return DetectorError(
        f"{counted(len(errors), 'error')} ({counts_text(by_code)}): {REPORT}: {repairs}correct the "
        f"files that it names, or accept them with check.accept = [{codes}] in detector.toml; "
        "then run the same command again")

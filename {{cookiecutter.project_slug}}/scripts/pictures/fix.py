"""Repair in `images/` what can be repaired without looking at the pictures: `invoke check --fix`."""

from collections import Counter
from pathlib import Path

from scripts.pictures.check import CheckCounts, check, refuse_unknown_codes
from scripts.pictures.fixing.apply import apply
from scripts.pictures.fixing.edit import Edit
from scripts.pictures.fixing.journal import FIXES, add_fixes, read_fixes
from scripts.pictures.fixing.plan import Policy, plan_fixes
from scripts.pictures.stored import read_stored
from scripts.pipeline.words import counted


def fix(root: Path, source, limits, input_px: int) -> CheckCounts:
    """Repair, print each edit, add it to `annotations/fixes.json`, and check again; arguments and errors as of `check`.

    The source is never touched. A file is edited whole or not at all; after Ctrl-C the journal has what was done.
    """
    refuse_unknown_codes(limits.accept)
    earlier = read_fixes(root)
    policy = Policy(source.labels, source.exif, limits.accept, limits.min_box_px)
    plans = plan_fixes(root, read_stored(root, "fix"), policy)
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

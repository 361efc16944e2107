"""`annotations/fixes.json`: every edit that `invoke check --fix` ever made, the oldest first."""

import json
from pathlib import Path

from scripts.pictures.fixing.edit import Edit
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_json

FIXES = "annotations/fixes.json"


def read_fixes(root: Path) -> list[dict]:
    """The edits so far. DetectorError when the file is there and is none of ours."""
    try:
        journal = json.loads((root / FIXES).read_text("utf-8"))
        if journal["schema"] == 1 and isinstance(journal["fixes"], list):
            return journal["fixes"]
        problem = f"schema {journal['schema']!r} is not 1"
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        problem = f"not readable ({error})"
    raise DetectorError(f"{problem}: {FIXES}: move it away, then `invoke check --fix`")


def add_fixes(root: Path, earlier: list[dict], edits: list[Edit]) -> None:
    """Write the edits after the earlier ones; without edits the file is not touched."""
    if edits:
        write_json(root / FIXES, {"schema": 1, "fixes": [*earlier, *(edit.as_json() for edit in edits)]})

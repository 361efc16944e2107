"""Which pictures of `images/` the findings of `annotations/check.json` are about.

A finding names the source's file, because that is what a person corrects; `annotations/organize.json` says what it
became.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

from scripts.pictures.findings_table import REPORT
from scripts.pictures.ledger import read_ledger, stored_pictures
from scripts.pipeline.errors import DetectorError

_NAMED = re.compile(r"'(.+?)': ")
_SAME = ("code", "file", "line", "message")


def read_findings(root: Path) -> list[dict]:
    """The findings of `check.json`. DetectorError when it is missing or broken."""
    try:
        return json.loads((root / REPORT).read_text("utf-8"))["findings"]
    except FileNotFoundError:
        problem = "the report is missing"
    except (ValueError, KeyError, TypeError):
        problem = "the report is not readable"
    raise DetectorError(f"{problem}: {REPORT}: run `invoke check`")


class _Places:
    """From the file and line of a finding to a picture of `images/`, `SPLIT/NAME.jpg`."""

    def __init__(self, root: Path):
        ledger = read_ledger(root)
        # A picture that the user moved to another split is found by its name.
        self.by_stem = {Path(key).stem: key for key in stored_pictures(root)}
        self.by_file, self.by_line, self.by_name = defaultdict(set), defaultdict(set), defaultdict(set)
        for entry in ledger["pictures"]:
            key = self.by_stem.get(entry["name"])
            if key:
                self.by_file[entry["source"]].add(key)
                self.by_file[entry["label"]].add(key)
                self.by_name[entry["label"], entry["source"].rpartition("/")[2]].add(key)
                for line in entry["lines"]:
                    self.by_line[entry["label"], line].add(key)
        for row in ledger["findings"]:
            if row.get("picture"):
                self.by_line[_identity(row)].add(self.by_stem.get(Path(row["picture"]).stem, ""))

    def of(self, row: dict) -> str:
        """The picture of a finding, "" when it is about none of `images/` or not about a single one."""
        folder, _, name = row["file"].rpartition("/")
        if folder in ("images/train", "images/validation", "images/test"):
            return self.by_stem.get(Path(name).stem, "")
        for found in (self.by_line.get(_identity(row)), self.by_file.get(row["file"])):
            if found and len(found) == 1:
                return next(iter(found))
        # One label file of many pictures: the line tells, or the name that the message begins with.
        named = _NAMED.match(row["message"])
        lined = self.by_line.get((row["file"], row["line"])) if row["line"] else None
        for found in (lined, named and self.by_name.get((row["file"], named.group(1)))):
            if found and len(found) == 1:
                return next(iter(found))
        return ""


def _identity(row: dict) -> tuple:
    return tuple(row[key] for key in _SAME)


def findings_by_picture(root: Path, rows: list[dict]) -> dict[str, list[dict]]:
    """Findings by picture of `images/` (`SPLIT/NAME.jpg`); those about none of them under the file they name."""
    places, found = _Places(root), defaultdict(list)
    for row in rows:
        found[places.of(row) or row["file"]].append(row)
    return dict(found)

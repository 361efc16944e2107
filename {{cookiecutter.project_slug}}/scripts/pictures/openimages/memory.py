"""What earlier runs learned about pictures that cannot be had: two files in images/source/openimages.

`missing.log` is for people and for us: a line for each picture that the server does not have. It is not asked for
again; delete the line, or the file, to try again, or write one to give a picture up. `.metadata/failed.json` holds
the pictures that failed in the last run.
"""

import json
from pathlib import Path

from scripts.pictures.openimages.fetch import Fetched
from scripts.pictures.openimages.layout import FOLDER, METADATA
from scripts.pipeline.files import write_json, write_text

MISSING_FILE = "missing.log"
_SPOILT = "broken on the server"


class Memory:
    """Names are SPLIT/ID, as in the paths of the pictures."""

    def __init__(self, root: Path, pictures_url: str):
        self._path, self._failed_path = root / FOLDER / MISSING_FILE, root / FOLDER / METADATA / "failed.json"
        self._url = pictures_url
        self.missing = self._read_missing()
        try:
            self._spoilt = dict(json.loads(self._failed_path.read_bytes())["spoilt"])
        except (OSError, ValueError, KeyError, TypeError):
            self._spoilt = {}

    def _read_missing(self) -> dict[str, str]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        if lines and lines[0].startswith("# ") and lines[0] != self._first_line():
            return {}  # another server may have them
        pairs = [line.strip().partition(" ") for line in lines if line.strip() and not line.startswith("#")]
        return {name: reason.strip() for name, _, reason in pairs}

    def _first_line(self) -> str:
        return f"# not to be had from {self._url}"

    def learn(self, fetched: Fetched) -> dict[str, str]:
        """Take over how a round ended; return name -> reason of the pictures that count as failed.

        Bytes that are no JPEG fail the first time. The same ones in a second run are what the server has: the picture
        is then missing like any other, or one file would stop the project for good.
        """
        hopeless = {name for name, sha256 in fetched.spoilt.items() if self._spoilt.get(name) == sha256}
        self.missing |= fetched.absent
        self.missing |= {name: f"{_SPOILT}: {fetched.failed[name]}" for name in hopeless}
        return {name: reason for name, reason in fetched.failed.items() if name not in hopeless}

    def save(self, spoilt: dict[str, str]) -> None:
        """Write both files; those without content go."""
        if self.missing:
            lines = [self._first_line(), *(f"{name} {reason}" for name, reason in sorted(self.missing.items()))]
            write_text(self._path, "\n".join(lines) + "\n")
        else:
            self._path.unlink(missing_ok=True)
        if spoilt:
            write_json(self._failed_path, {"spoilt": spoilt})
        else:
            self._failed_path.unlink(missing_ok=True)

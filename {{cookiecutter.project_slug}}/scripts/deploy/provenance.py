"""What a shipped `.tflite` says about itself: whose it is, where it comes from, its scores.

It stands in the description of the metadata and in `provenance.json`, which is packed behind the
network: it can be renewed after scoring, and the network that was scored ships to the byte.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import sha256_file, write_bytes
from scripts.core.text import DetectorError
from scripts.deploy.tflite_file import packed_text, split_files, with_files
from scripts.evaluation.thresholds import Advice

PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class About:
    """Name, author and license of the project, "" for what is not said."""

    name: str = ""
    author: str = ""
    license: str = ""


def read_about(pyproject: Path) -> About:
    """Read the table `[project]` of a `pyproject.toml`; without the file nothing is said.

    The form is that of https://packaging.python.org/en/latest/specifications/pyproject-toml/:
    several authors are joined by commas, a `license` is a text, or a table with `text` or `file`.
    Raises DetectorError for broken TOML.
    """
    if not pyproject.is_file():
        return About()
    try:
        project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DetectorError(f"bad TOML, {error}: {pyproject.name}: correct that line") from None
    authors = [author.get("name") or author.get("email", "")
               for author in project.get("authors", [])]
    license = project.get("license", "")
    if isinstance(license, dict):
        license = license.get("text") or license.get("file", "")
    return About(project.get("name", ""), ", ".join(filter(None, authors)), license)


def description(model_id: str, variant: str, advice: Advice | None) -> str:
    """Return the description in the metadata: what the file is, and which detections to show."""
    text = f"Object detector {model_id} ({variant})."
    if advice is None:
        return text
    return f"{text} Show detections from a score of {advice.score_threshold:.2f} on."


def advised(advice: Advice | None) -> dict:
    """Return an advice as `tflite/metrics.json` and `provenance.json` hold it; None gives nulls."""
    if advice is None:
        return {"advised_score_threshold": None, "at_advised_threshold": None}
    return {"advised_score_threshold": advice.score_threshold,
            "at_advised_threshold": advice.as_dict()}


def provenance_text(provenance: dict) -> str:
    """Return the content of `provenance.json`."""
    return json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def provenance_of(path: Path) -> dict:
    """Return what `provenance.json` in a `.tflite` says; {} for a folder or a file without it."""
    return json.loads(packed_text(path, PROVENANCE) or "{}")


def with_more_provenance(data: bytes, more: dict) -> bytes:
    """Return the `.tflite` with `more` in its `provenance.json`; all other bytes stay."""
    network, files = split_files(data)
    provenance = json.loads(files.get(PROVENANCE, "{}")) | more
    return with_files(network, files | {PROVENANCE: provenance_text(provenance)})


def note_scores(files: dict[str, Path], scores: dict[str, float | None]) -> dict[str, dict]:
    """Write `scores` into the provenance of each file; return its new `sha256` and `bytes`.

    `scores` are AP of the checkpoint and of every variant, in fractions.
    """
    noted = {}
    # Also into files that were rejected: they say what they lost.
    for name, path in files.items():
        write_bytes(path, with_more_provenance(path.read_bytes(), {"AP": scores}))
        noted[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    return noted

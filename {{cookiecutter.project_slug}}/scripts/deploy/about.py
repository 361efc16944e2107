"""Whose file it is and how to use it: what `pyproject.toml` says, and from which score detections are worth showing."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from scripts.deploy.packed_files import with_more_provenance
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file, write_bytes

PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class About:
    """Name, author and licence of the project, "" for what is not said."""

    name: str = ""
    author: str = ""
    licence: str = ""


def read_about(root: Path) -> About:
    """What the table `[project]` of `pyproject.toml` says; nothing without that file.

    The form is that of https://packaging.python.org/en/latest/specifications/pyproject-toml/: several authors are
    joined by commas, a `license` is a text, or a table with `text` or `file`. DetectorError for broken TOML.
    """
    path = root / PYPROJECT
    if not path.is_file():
        return About()
    try:
        project = tomllib.loads(path.read_text("utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DetectorError(f"bad TOML, {error}: {PYPROJECT}: correct that line") from None
    authors = [one.get("name") or one.get("email", "") for one in project.get("authors", [])]
    licence = project.get("license", "")
    if isinstance(licence, dict):
        licence = licence.get("text") or licence.get("file", "")
    return About(project.get("name", ""), ", ".join(filter(None, authors)), licence)


def description(model_id: str, variant: str, advice) -> str:
    """The description in the metadata: what it is, and from which score (`Advice` or None) detections are worth it."""
    text = f"Object detector {model_id} ({variant})."
    return text if advice is None else f"{text} Show detections from a score of {advice.score_threshold:.2f} on."


def advised(advice) -> dict:
    """An `Advice` as it stands in `tflite/metrics.json` and in the provenance of a file; None gives null."""
    if advice is None:
        return {"advised_score_threshold": None, "at_advised_threshold": None}
    return {"advised_score_threshold": advice.score_threshold, "at_advised_threshold": advice.as_dict()}


def note_scores(root: Path, rows: dict[str, dict], checkpoint_ap: float | None) -> None:
    """Write AP of the checkpoint and of every variant into the provenance of each file, and its new hash into its row.

    `rows` are those of `tflite/metrics.json`. Only `provenance.json` changes, which follows the network: what was
    scored is what ships.
    """
    scores = {"split": "test", "checkpoint": checkpoint_ap} | {name: row["AP"] for name, row in rows.items()}
    for row in rows.values():
        path = root / row["file"]
        write_bytes(path, with_more_provenance(path.read_bytes(), {"AP": scores}))
        row["sha256"], row["bytes"] = sha256_file(path), path.stat().st_size

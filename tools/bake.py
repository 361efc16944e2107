"""Runs this template through cookiecutter, away from the caller's own cookiecutter settings."""

import json
import shutil
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent
# What running tests and linters in the template leaves behind; a clean clone has none of it.
LEFTOVERS = shutil.ignore_patterns(
    "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", ".steps")


def bake(output_dir: Path, overwrite: bool = False, **answers: str) -> Path:
    """Bake the template into a folder of `output_dir` and return that folder.

    With `overwrite`, files of the template replace those of an existing project; its data stays.
    Raises FailedHookException when the hook refuses an answer, ValueError for a choice that does
    not exist.
    """
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        source = copy_template(room / "template")
        # ~/.cookiecutterrc may hold other defaults, and the home folder may be read-only.
        config = room / "config.yaml"
        folders = {"replay_dir": str(room / "replay"), "cookiecutters_dir": str(room / "clones")}
        config.write_text(json.dumps(folders), encoding="utf-8")  # json is yaml too
        project = cookiecutter(
            str(source),
            no_input=True,
            extra_context=answers,
            output_dir=str(output_dir),
            overwrite_if_exists=overwrite,
            config_file=str(config),
        )
    return Path(project)


def copy_template(target: Path) -> Path:
    """Copy what cookiecutter reads to `target`, without leftovers, and return it."""
    target.mkdir(parents=True)
    shutil.copy(TEMPLATE / "cookiecutter.json", target)
    for name in ("hooks", "{{cookiecutter.project_slug}}"):
        shutil.copytree(TEMPLATE / name, target / name, ignore=LEFTOVERS)
    return target

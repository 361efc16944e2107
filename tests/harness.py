"""A baked project as its owner uses it, and the questions that made it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.bake import TEMPLATE

PROJECT = "{{cookiecutter.project_slug}}"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
CHOSEN = {key: value for key, value in QUESTIONS.items() if isinstance(value, list)
          and not key.startswith("_")}


@dataclass(frozen=True)
class Baked:
    """A baked project, used as its owner would."""

    folder: Path

    def run(self, *arguments: str, timeout_s: int = 600,
            **settings: str) -> subprocess.CompletedProcess:
        """Run the environment's Python in the project; `settings` are variables such as
        INVOKE_DEMO_SEED."""
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("INVOKE_", "PYTEST_"))}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment | settings,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
        )

    def invoke(self, *arguments: str, timeout_s: int = 600,
               **settings: str) -> subprocess.CompletedProcess:
        """Run `invoke ARGUMENTS` in the project; see `run`."""
        return self.run("-m", "invoke", *arguments, timeout_s=timeout_s, **settings)

    def read(self, path: str) -> str:
        """Return the text of a file of the project."""
        return (self.folder / path).read_text(encoding="utf-8")

    def has_file(self, path: str) -> bool:
        """Tell whether the project has this file."""
        return (self.folder / path).is_file()

    def files(self) -> set[str]:
        """Return the relative POSIX paths of all files."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")
                if path.is_file()}

"""Makes requirements-dev.txt from requirements-dev.in: python tools/lock.py [--upgrade].

Versions of what the project's requirements.txt holds too are the same there and here. Needs `uv`
(`pip install uv`).
"""

import os
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent
HEADER = "# Made by `python tools/lock.py`; edit requirements-dev.in instead.\n"


def main() -> int:
    """Resolve with uv and return its exit code."""
    lock = TEMPLATE / "requirements-dev.txt"
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += [
        "--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["-c", "{{cookiecutter.project_slug}}/requirements.txt", "requirements-dev.in", "-o",
                lock.name]
    command += sys.argv[1:]
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    code = subprocess.run(
        command, cwd=TEMPLATE, env=environment, stdout=subprocess.DEVNULL).returncode
    if code == 0:
        lock.write_text(HEADER + lock.read_text(encoding="utf-8"), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Bakes the project with its defaults into build/ and runs its whole chain there: make demo."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.bake import TEMPLATE, bake


def bake_demo(build: Path) -> Path:
    """Bake into `build`, over an earlier demo if there is one, and return the project's folder.

    Data and the state of steps stay, so a second demo has little to do; code comes from the
    template alone.
    """
    for code in build.glob("*/scripts"):
        shutil.rmtree(code)
    return bake(build, overwrite=True)


def run_chain(project: Path) -> int:
    """Run `invoke tflite` with the baked settings and return its exit code."""
    # A setting from the caller's shell would make a later plain `invoke tflite` there run again.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("INVOKE_")}
    chain = subprocess.Popen(
        [sys.executable, "-m", "invoke", "tflite"], cwd=project, env=environment)
    while True:
        try:
            return chain.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the chain as well: it saves, says so and ends by itself


def main() -> int:
    """Bake, run, say where the result is."""
    project = bake_demo(TEMPLATE / "build")
    print(f"demo: {project.relative_to(TEMPLATE)}", flush=True)
    return run_chain(project)


if __name__ == "__main__":
    sys.exit(main())

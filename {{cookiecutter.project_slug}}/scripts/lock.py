"""Make requirements.txt and requirements-gpu.txt from requirements.in and the overrides.

    python scripts/lock.py             follow an edited requirements.in, keep all other versions
    python scripts/lock.py --upgrade   take the newest versions that requirements.in allows

Both files are the complete closure with hashes, for Python 3.11 to 3.13, to be installed with
`pip install --no-deps -r requirements.txt`. Needs `uv` (`pip install uv`) and a package index.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
ON_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'
CPU_PACKAGE = "tensorflow-cpu=="
GPU_PACKAGE = "tensorflow[and-cuda]=="
NOTES = {
    "requirements.txt": "TensorFlow for the CPU on Linux x86_64, the plain one elsewhere.",
    "requirements-gpu.txt": "TensorFlow with CUDA on Linux x86_64. The authors of this script only "
                            "resolved\n# it: they have no GPU to run it on. Run `invoke doctor` "
                            "after installing it.",
}


def for_gpu(requirements: str, overrides: str) -> tuple[str, str]:
    """Return both texts with tensorflow-cpu replaced by `tensorflow[and-cuda]`.

    Raises SystemExit when requirements.in no longer has its tensorflow-cpu line.
    """
    cpu_lines = [line for line in requirements.splitlines() if line.startswith(CPU_PACKAGE)]
    if len(cpu_lines) != 1:
        sys.exit(f"error: {len(cpu_lines)} lines start with '{CPU_PACKAGE}': requirements.in: "
                 "keep exactly one")
    version = cpu_lines[0].removeprefix(CPU_PACKAGE).split()[0]
    # An override replaces every requirement of a package, so it needs the CUDA extra as well.
    line = f"{GPU_PACKAGE}{version} ; {ON_LINUX}\n"
    return requirements.replace(cpu_lines[0], line), overrides + line


def resolver() -> list[str]:
    """Return the command that starts uv; raises SystemExit with one line if it is not installed."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    program = shutil.which("uv")
    if program is None:
        sys.exit("error: uv is missing: python scripts/lock.py: type `pip install uv`, then again")
    return [program]


def resolve(requirements: str, overrides: str, known: str, upgrade: bool) -> str:
    """Return the text of the lock; `known` is an older lock whose versions are kept where possible.

    Raises SystemExit when uv finds no solution; uv's own explanation stands above the line.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "requirements.in").write_text(requirements, encoding="utf-8")
        (work / "requirements-overrides.txt").write_text(overrides, encoding="utf-8")
        (work / "lock.txt").write_text(known, encoding="utf-8")
        command = [*resolver(), "pip", "compile", "--quiet", "--universal", "--generate-hashes",
                   "--no-header", "--python-version", OLDEST_PYTHON, "--no-emit-index-url",
                   "--no-emit-find-links", "--override", "requirements-overrides.txt",
                   "requirements.in", "-o", "lock.txt"]
        command += ["--upgrade"] if upgrade else []
        environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        done = subprocess.run(command, cwd=work, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit("error: uv found no set of versions: requirements.in: read uv's lines above")
        return (work / "lock.txt").read_text(encoding="utf-8")


def write_lock(name: str, lock: str) -> None:
    """Write one lock under its name with a header that says how to install and remake it."""
    header = f"# Made by `python scripts/lock.py`; edit requirements.in instead.\n# {NOTES[name]}\n"
    header += f"# Complete closure for Python 3.11 to 3.13: pip install --no-deps -r {name}\n"
    fresh = PROJECT / f"{name}.new"
    fresh.write_text(header + lock, encoding="utf-8")
    fresh.replace(PROJECT / name)
    packages = sum(line[:1].isalpha() for line in lock.splitlines())
    print(f"lock: {name}: {packages} packages")


def main() -> None:
    """Resolve for CPU, then for GPU with the same versions of everything both have."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    upgrade = parser.parse_args().upgrade
    requirements = (PROJECT / "requirements.in").read_text(encoding="utf-8")
    overrides = (PROJECT / "requirements-overrides.txt").read_text(encoding="utf-8")
    old_lock = PROJECT / "requirements.txt"
    known = old_lock.read_text(encoding="utf-8") if old_lock.exists() else ""
    lock = resolve(requirements, overrides, known, upgrade)
    gpu_lock = resolve(*for_gpu(requirements, overrides), known=lock, upgrade=False)
    write_lock("requirements.txt", lock)
    write_lock("requirements-gpu.txt", gpu_lock)


if __name__ == "__main__":
    main()

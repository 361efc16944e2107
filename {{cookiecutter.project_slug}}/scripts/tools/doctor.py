"""`invoke doctor`: is this machine ready?

Versions, memory, disk, write access, and the chosen model run once.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from scripts.core.layout import Layout
from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError, aligned
from scripts.modeling.experiment import build_network
from scripts.modeling.zoo import zoo_entry

OLDEST, TOO_NEW = (3, 11), (3, 14)
GB = 1e9
# Training at 256 px takes 1.5 to 2 GB; a project with its checkpoints and files 0.5 GB and its
# images.
MEMORY_GB, DISK_GB = 3, 3
TRIAL_CLASSES = 3


@dataclass(frozen=True)
class Finding:
    """One line of the report; `state` is `ok`, `warn` or `FAIL`, `advice` for what is not ok."""

    state: str
    name: str
    found: str
    advice: str = ""


def doctor(root: Path, settings, lock: Path) -> str:
    """Return the report, a line a check.

    Args:
        root: The project.
        settings: Its `Settings`.
        lock: The hash-locked requirements file. The direct requirements stand beside it, in
            requirements.in.

    Raises:
        DetectorError: A check failed; the report is printed before.
    """
    findings = [_python(), _system(), *_packages(lock)]
    findings += [_guarded("memory", _memory), _disk(root), _write_access(Layout(root))]
    findings += [_guarded("processors", _processors),
                 _guarded("model", lambda: _model(settings.model.id))]
    report = report_text(findings)
    failed = [finding for finding in findings if finding.state == "FAIL"]
    if failed:
        print(report, flush=True)
        advice = next((finding.advice for finding in failed if finding.advice), "read the report")
        names = ", ".join(finding.name for finding in failed)
        raise DetectorError(f"{len(failed)} of {len(findings)} checks failed: {names}: {advice}")
    return report


def report_text(findings: list[Finding]) -> str:
    """Return findings as aligned lines, with the advice where a check is not ok."""
    rows = []
    for finding in findings:
        advice = f": {finding.advice}" if finding.advice and finding.state != "ok" else ""
        rows.append((f"{finding.state:<4}", finding.name, finding.found + advice))
    return aligned(rows, texts=3)


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Return the finding of a check that runs third-party code: what it raises is a finding too."""
    try:
        return check()
    except DetectorError as error:
        return Finding("FAIL", name, str(error))
    except Exception as error:  # A broken installation raises anything.
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Finding("FAIL", name, text,
                       "install again: pip install --no-deps -r requirements.txt")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return Finding("ok", "Python", version)
    return Finding("FAIL", "Python", version, "make an environment with Python 3.11, 3.12 or 3.13")


def _system() -> Finding:
    name = f"{platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return Finding("warn", "system", name,
                       "native Windows was never tried; use WSL2 (type wsl --install)")
    return Finding("ok", "system", name)


def locked_versions(lock: Path) -> dict[str, str]:
    """Return the versions of a lock that hold on this machine, by package.

    Names are in lower case with dashes.
    """
    versions = {}
    for line in lock.read_text("utf-8").splitlines():
        if not re.match(r"[A-Za-z0-9]", line):
            continue
        requirement = Requirement(line.rstrip("\\ "))
        pinned = [part.version for part in requirement.specifier if part.operator == "=="]
        if pinned and (requirement.marker is None or requirement.marker.evaluate()):
            versions[_name(requirement.name)] = pinned[0]
    return versions


def _direct_requirements(path: Path) -> Iterator[str]:
    """Yield the names in requirements.in that hold on this machine."""
    for line in path.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                yield _name(requirement.name)


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages(lock: Path) -> list[Finding]:
    """Return a line for each direct requirement that is missing or differs from the lock.

    One line if all are right.
    """
    advice = f"pip install --no-deps -r {lock.name}"
    try:
        locked = locked_versions(lock)
        names = list(_direct_requirements(lock.with_name("requirements.in")))
    except (OSError, ImportError, ValueError) as error:
        return [Finding("FAIL", "packages", " ".join(str(error).split()),
                        f"get {lock.name} back, then {advice}")]
    findings = []
    for name in names:
        wanted, installed = locked.get(name), _installed(name)
        if installed is None:
            findings.append(Finding("FAIL", name,
                                    f"missing, the lock has {wanted or 'no version'}", advice))
        elif wanted and installed != wanted:
            findings.append(Finding("warn", name, f"{installed}, the lock has {wanted}", advice))
    found = f"the {len(names)} direct requirements are as locked in {lock.name}"
    return findings or [Finding("ok", "packages", found)]


def _installed(name: str) -> str | None:
    # `tensorflow` is what requirements-gpu.txt installs in place of `tensorflow-cpu`.
    for package in ("tensorflow-cpu", "tensorflow") if name == "tensorflow-cpu" else (name,):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GB:.1f} GB free of {memory.total / GB:.1f} GB"
    state = "ok" if memory.available >= MEMORY_GB * GB else "warn"
    return Finding(state, "memory", found,
                   f"training wants {MEMORY_GB} GB; close programs or lower train.batch_size")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    state = "ok" if free >= DISK_GB * GB else "warn"
    if free < GB:
        state = "FAIL"
    return Finding(state, "disk", f"{free / GB:.1f} GB free",
                   f"make room for {DISK_GB} GB where the project lies")


def _write_access(layout: Layout) -> Finding:
    """Try to write a file in the project and in each data folder that exists."""
    closed = []
    for folder in (layout.root, layout.annotations, layout.eval, layout.images, layout.inference,
                   layout.weights, layout.tflite, layout.training):
        if not folder.is_dir():
            continue
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".partial-"):
                pass
        except OSError:
            closed.append("the project folder" if folder == layout.root else f"{folder.name}/")
    if not closed:
        return Finding("ok", "write access", "the project and its data folders")
    return Finding("FAIL", "write access", f"none to {', '.join(closed)}",
                   "make yourself the owner, with chown -R")


def _processors() -> Finding:
    import tensorflow as tf

    with silence_libraries():
        gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = ", ".join(detail.get("device_name", gpu.name)
                      for detail, gpu in zip(details, gpus, strict=True))
    return Finding("ok", "processors", f"{os.cpu_count()} CPU cores, GPU: {names or 'none'}")


def _model(model_id: str) -> Finding:
    """Build the chosen model with random weights and run it twice on a gray image.

    The second run is timed: the first one builds the graph.
    """
    import tensorflow as tf

    entry = zoo_entry(model_id)
    start_s = time.perf_counter()
    with silence_libraries():
        network, config = build_network(entry, TRIAL_CLASSES)
        run = tf.function(lambda pixels: network.head(network.decoder(network.backbone(pixels))))
        image = tf.zeros([1, *config.input_size])
        run(image)
        built_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        run(image)
        run_ms = 1000 * (time.perf_counter() - start_s)
    weights = sum(variable.shape.num_elements() for variable in network.variables)
    return Finding("ok", "model", f"{model_id} with {weights / 1e6:.1f} M weights: built in "
                                  f"{built_s:.1f} s, one image in {run_ms:.0f} ms")

"""`invoke doctor`: is this machine ready? Versions, memory, disk, write access, and the chosen
model run once."""

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

from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError
from scripts.modeling.experiment import build_network
from scripts.modeling.zoo import zoo_entry

OLDEST, TOO_NEW = (3, 11), (3, 14)
DATA_FOLDERS = ("annotations", "eval", "images", "inference", "pre_trained_model", "tflite", "training")
GB = 1e9
# Training at 256 px takes 1.5 to 2 GB; a project with its checkpoints and files 0.5 GB and its
# images.
MEMORY_GB, DISK_GB = 3, 3
TRIAL_CLASSES = 3


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is `ok`, `warn` or `FAIL`; `advice` says what to type when it
    is not ok."""

    state: str
    what: str
    found: str
    advice: str = ""


def doctor(root: Path, settings, lock: Path) -> str:
    """The report, a line a check. DetectorError when a check failed; the report is printed before
    it.

    `lock` is the hash-locked requirements file, whose wishes stand beside it in requirements.in.
    """
    findings = [_python(), _system()]
    findings += _packages(lock)
    findings += [_memory(), _disk(root), _write_access(root)]
    findings += [_guarded("processors", _processors), _guarded("model", lambda: _model(settings.model.id))]
    report = report_text(findings)
    failed = [finding for finding in findings if finding.state == "FAIL"]
    if failed:
        print(report, flush=True)
        advice = next((finding.advice for finding in failed if finding.advice), "read the report")
        names = ", ".join(finding.what for finding in failed)
        raise DetectorError(f"{len(failed)} of {len(findings)} checks failed: {names}: {advice}")
    return report


def report_text(findings: list[Finding]) -> str:
    """Findings as aligned lines."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        advice = f": {finding.advice}" if finding.advice and finding.state != "ok" else ""
        lines.append(f"{finding.state:<4}  {finding.what:<{width}}  {finding.found}{advice}")
    return "\n".join(lines)


def _guarded(what: str, check: Callable[[], Finding]) -> Finding:
    """The finding of a check that runs third-party code: whatever it raises is a finding too."""
    try:
        return check()
    except DetectorError as error:
        return Finding("FAIL", what, str(error))
    except Exception as error:  # A broken installation raises anything.
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Finding("FAIL", what, text, "install again: pip install --no-deps -r requirements.txt")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return Finding("ok", "Python", version)
    return Finding("FAIL", "Python", version, "make an environment with Python 3.11, 3.12 or 3.13")


def _system() -> Finding:
    name = f"{platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return Finding("warn", "system", name, "nobody has tried native Windows; use WSL2 (type wsl --install)")
    return Finding("ok", "system", name)


def locked_versions(lock: Path) -> dict[str, str]:
    """Package -> version of the lines of a lock that hold on this machine, names in lower case with
    dashes."""
    versions = {}
    for line in lock.read_text("utf-8").splitlines():
        if not re.match(r"[A-Za-z0-9]", line):
            continue
        wish = Requirement(line.rstrip("\\ "))
        pinned = [one.version for one in wish.specifier if one.operator == "=="]
        if pinned and (wish.marker is None or wish.marker.evaluate()):
            versions[_name(wish.name)] = pinned[0]
    return versions


def _direct_needs(wishes: Path) -> Iterator[str]:
    """Names in requirements.in that hold on this machine."""
    for line in wishes.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            wish = Requirement(text)
            if wish.marker is None or wish.marker.evaluate():
                yield _name(wish.name)


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages(lock: Path) -> list[Finding]:
    """A line for each direct need that is missing or has another version than the lock; one line if
    all are right."""
    advice = f"pip install --no-deps -r {lock.name}"
    try:
        locked = locked_versions(lock)
        needs = list(_direct_needs(lock.with_name("requirements.in")))
    except (OSError, ImportError, ValueError) as error:
        return [Finding("FAIL", "packages", " ".join(str(error).split()), f"get {lock.name} back, then {advice}")]
    findings = []
    for name in needs:
        wanted, installed = locked.get(name), _installed(name)
        if installed is None:
            findings.append(Finding("FAIL", name, f"missing, the lock has {wanted or 'no version'}", advice))
        elif wanted and installed != wanted:
            findings.append(Finding("warn", name, f"{installed}, the lock has {wanted}", advice))
    return findings or [Finding("ok", "packages", f"the {len(needs)} direct needs are as locked in {lock.name}")]


def _installed(name: str) -> str | None:
    # `tensorflow` is what requirements-gpu.txt installs in place of `tensorflow-cpu`.
    for one in (name, *(["tensorflow"] if name == "tensorflow-cpu" else [])):
        try:
            return importlib.metadata.version(one)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _memory() -> Finding:
    def check() -> Finding:
        memory = psutil.virtual_memory()
        found = f"{memory.available / GB:.1f} GB free of {memory.total / GB:.1f} GB"
        if memory.available >= MEMORY_GB * GB:
            return Finding("ok", "memory", found)
        return Finding(
            "warn", "memory", found, f"training wants {MEMORY_GB} GB; close programs or lower train.batch_size"
        )

    return _guarded("memory", check)


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    found = f"{free / GB:.1f} GB free"
    if free >= DISK_GB * GB:
        return Finding("ok", "disk", found)
    state = "warn" if free >= GB else "FAIL"
    return Finding(state, "disk", found, f"make room for {DISK_GB} GB where the project lies")


def _write_access(root: Path) -> Finding:
    """Tries a file in the project and in each data folder that exists."""
    refused = []
    for folder in (root, *(root / name for name in DATA_FOLDERS)):
        if not folder.is_dir():
            continue
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".partial-"):
                pass
        except OSError:
            refused.append("the project folder" if folder == root else f"{folder.name}/")
    if not refused:
        return Finding("ok", "write access", "the project and its data folders")
    return Finding("FAIL", "write access", f"none to {', '.join(refused)}", "make yourself the owner, with chown -R")


def _processors() -> Finding:
    import tensorflow as tf

    with silence_libraries():
        gpus = tf.config.list_physical_devices("GPU")
    names = ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    return Finding("ok", "processors", f"{os.cpu_count()} CPU cores, GPU: {names or 'none'}")


def _model(model_id: str) -> Finding:
    """Builds the chosen model with random weights and runs it twice on a gray image: the second run
    is timed."""
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
    found = f"{model_id} with {weights / 1e6:.1f} M weights: built in {built_s:.1f} s, one image in {run_ms:.0f} ms"
    return Finding("ok", "model", found)

"""One invoke at a time works in a folder: its `lock` holds the id of that process. `.steps/lock` is
the project's."""

import atexit
import os
import time
from pathlib import Path

from scripts.core.text import DetectorError

_held: set[Path] = set()


def acquire(path: Path) -> None:
    """Take the lock until this process ends; taking it twice is fine. A lock of a dead process is
    taken over.

    Raises DetectorError when another living invoke holds it.
    """
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for _attempt in range(100):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            owner = owner_of(path)
            if owner is not None:
                what = f"another invoke (pid {owner}) is working here"
                raise DetectorError(f"{what}: {_shown(path)}: wait until it ends") from None
            path.unlink(missing_ok=True)
            continue
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        _held.add(path)
        atexit.register(release, path)
        return
    raise DetectorError(f"the lock is taken again and again: {_shown(path)}: run the same command again")


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def release(path: Path) -> None:
    """Give the lock back if this process holds it. A forked child does not: the file names its
    parent."""
    if path in _held:
        _held.discard(path)
        if _pid_in(path) == os.getpid():
            path.unlink(missing_ok=True)


def owner_of(path: Path) -> int | None:
    """Return the id of the living process, other than this one, that holds the lock; None if there
    is none."""
    for _attempt in range(5):
        pid = _pid_in(path)
        if pid is not None:
            return pid if pid != os.getpid() and _alive(pid, path) else None
        if not path.exists():
            return None
        time.sleep(0.02)  # it may have been created this moment and not written yet
    return None


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _alive(pid: int, path: Path) -> bool:
    """Say if the process that wrote the lock still lives. Its number may have gone to a younger one
    meanwhile."""
    try:
        import psutil  # slow to import, and needed only when somebody left a lock
    except ImportError:
        return _answers(pid)
    try:
        process = psutil.Process(pid)
        # 5 s: the start time comes from the clock at boot, which may have been corrected since.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= path.stat().st_mtime + 5
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:
        return True


def _answers(pid: int) -> bool:
    if os.name == "nt":
        return True  # there, os.kill(pid, 0) would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

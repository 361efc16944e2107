"""One invoke at a time works in a folder, such as a project or the cache of weights.

It holds a file there, `.steps/lock` for the project, until its process ends. The operating system
takes the lock back from a process that ends in any way, so nothing is left to clean up.
"""

import os
from pathlib import Path

from scripts.core.text import DetectorError

WAIT_S = 0.3
"""`owner_of` in another process holds a free lock for a moment: not a reason to stop."""

_held = {}  # path -> FileLock; a lock is given back when its object is collected


def acquire(path: Path) -> bool:
    """Take the lock until this process ends.

    Returns:
        False if this process held it already.

    Raises:
        DetectorError: when another invoke holds it.
    """
    if path in _held:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _try(path)
    if lock is None:
        pid = _pid_in(path)
        who = f"another invoke (pid {pid})" if pid else "another invoke"
        shown = f"{path.parent.name}/{path.name}"
        raise DetectorError(f"{who} is working here: {shown}: wait until it ends")
    # Windows locks the first byte against other readers, so the number follows it. The fixed width
    # covers the number of an earlier process.
    with path.open("r+b") as file:
        file.seek(1)
        file.write(f"{os.getpid():<20}".encode())
    _held[path] = lock
    return True


def release(path: Path) -> None:
    """Give the lock back if this process holds it."""
    if path in _held:
        _held.pop(path).release()


def owner_of(path: Path) -> int | None:
    """Return the id of the other process that holds the lock (0 if unknown), None if none does."""
    if path in _held or not path.exists():
        return None
    lock = _try(path)
    if lock is None:
        return _pid_in(path)
    lock.release()
    return None


def _try(path: Path):
    """Return the lock if it is free, else None."""
    # Not at the top: it takes as long as the rest of an up to date step.
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=WAIT_S, poll_interval=WAIT_S / 10)
    except Timeout:
        return None
    return lock


def _pid_in(path: Path) -> int:
    try:
        with path.open("rb") as file:
            file.seek(1)
            return int(file.read())
    except (OSError, ValueError):
        return 0

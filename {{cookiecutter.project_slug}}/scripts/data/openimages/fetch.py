"""Fetch images in threads.

Each image is decoded before it gets its name, so that every file with a name is a whole image.
"""

import hashlib
import io
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from scripts.core.files import write_bytes
from scripts.core.transfer import (
    AbsentError,
    BrokenOffError,
    Patience,
    RefusedError,
    StoppedError,
    TransferError,
    read_bytes,
)

WORKERS = 16
_HOPELESS = 2 * WORKERS
"""So many failures in a row, and not one image between them, are the connection or the server."""

Task = tuple[str, str, Path]
"""A name for messages, the address, and the path for the image."""


@dataclass
class Fetched:
    """How images ended, by name; the texts say why.

    `spoilt` are those that arrived completely, twice with the same bytes, and are no JPEG: name ->
    SHA-256 of the bytes. They are in `failed` as well.
    """

    done: int = 0
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    spoilt: dict[str, str] = field(default_factory=dict)


class _SpoiltError(TransferError):
    """Twice the same bytes, which are no JPEG."""

    def __init__(self, sha256: str, reason: str):
        super().__init__(reason)
        self.sha256 = sha256


def fetch_images(tasks: Sequence[Task], patience: Patience | None = None) -> Fetched:
    """Fetch images; one that cannot be had does not stop the others.

    Raises:
        OSError: The disk is full.
    """
    patience, stop = patience or Patience(), threading.Event()
    fetched, failures_in_a_row = Fetched(), 0
    waiting = {name for name, _, _ in tasks}
    with tqdm(total=len(tasks), desc="images", unit="", disable=None, leave=False) as bar:
        work = _in_threads(lambda task: _fetch_image(task, patience, stop), tasks, stop)
        for (name, _, _), error in work:
            waiting.discard(name)
            bar.update()
            failures_in_a_row = failures_in_a_row + 1 if _note(fetched, name, error) else 0
            if failures_in_a_row >= _HOPELESS:
                break
    reason = "not tried: too many others failed"
    fetched.failed |= {name: reason for name in sorted(waiting)}
    return fetched


def _note(fetched: Fetched, name: str, error: BaseException | None) -> bool:
    """Note how an image ended; return True if the server or the connection may be the reason."""
    if error is None:
        fetched.done += 1
    elif isinstance(error, AbsentError):
        fetched.absent[name] = str(error)
    elif isinstance(error, _SpoiltError):
        fetched.spoilt[name] = error.sha256
        fetched.failed[name] = str(error)
    elif isinstance(error, (BrokenOffError, RefusedError)):
        fetched.failed[name] = str(error)
        return True
    else:
        raise error
    return False


def _fetch_image(task: Task, patience: Patience, stop: threading.Event) -> None:
    """Store one image or raise TransferError."""
    _, url, path = task
    last = ""
    for failed in range(1, patience.tries + 1):
        data = read_bytes(url, patience, stop)
        reason = why_no_jpeg(data)
        if not reason:
            if stop.is_set():  # another process may be using the folder by now
                raise StoppedError("stopped")
            write_bytes(path, data)
            return
        digest = hashlib.sha256(data).hexdigest()
        if digest == last:
            raise _SpoiltError(digest, reason)
        last = digest
        if failed < patience.tries and stop.wait(patience.wait_s(failed)):
            raise StoppedError("stopped")
    raise BrokenOffError(reason)


def why_no_jpeg(data: bytes) -> str:
    """Decode an image fully; return "" for a whole JPEG, else the reason why it is none."""
    try:
        # With several images in one file (MPO) it is a JPEG all the same: the first one is shown.
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except Exception as error:  # Pillow raises whatever the bytes make it
        reason = " ".join(str(error).split())
        return "not a JPEG" if "cannot identify" in reason else f"not a whole JPEG ({reason})"
    return ""


def _in_threads(work: Callable, tasks: Sequence[Task],
                stop: threading.Event) -> Iterator[tuple[Task, BaseException | None]]:
    """Yield each task and its error (None: it went well) as they end.

    A ThreadPoolExecutor would be joined at exit: after Ctrl-C it would wait for a silent server.
    """
    waiting, results = queue.SimpleQueue(), queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    for _ in range(min(WORKERS, len(tasks))):
        threading.Thread(target=_worker, args=(waiting, results, work, stop), daemon=True).start()
    try:
        for _ in tasks:
            yield results.get()
    finally:
        stop.set()


def _worker(waiting: queue.SimpleQueue, results: queue.SimpleQueue, work: Callable,
            stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            work(task)
            results.put((task, None))
        except BaseException as error:  # the main thread raises it or notes it
            results.put((task, error))

"""Fetches pictures in threads: each is decoded fully before it gets its name, so what has a name is whole."""

import hashlib
import io
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.pipeline.files import write_bytes
from scripts.pipeline.transfer import (
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
"""So many failures in a row, and not one picture between them, are the connection or the server."""

Task = tuple[str, str, Path]
"""A name for messages, the address, and the path for the whole picture."""


@dataclass
class Fetched:
    """How a round ended, by name of the picture: texts say why. `spoilt` arrived whole, the same bytes again and
    again, and are no JPEG: name -> SHA-256 of the bytes."""

    done: int = 0
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    spoilt: dict[str, str] = field(default_factory=dict)


class _SpoiltError(TransferError):
    """Twice the same bytes, which are no JPEG."""

    def __init__(self, sha256: str, reason: str):
        super().__init__(reason)
        self.sha256 = sha256


def why_no_jpeg(data: bytes) -> str:
    """Decode a picture fully; "" when it is a whole JPEG, else the reason why not."""
    from PIL import Image

    try:
        # With several pictures in one file (MPO) it is a JPEG all the same: the first one is shown.
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except Exception as error:  # Pillow raises whatever the bytes make it
        reason = " ".join(str(error).split())
        return "not a JPEG" if "cannot identify" in reason else f"not a whole JPEG ({reason})"
    return ""


def _fetch_one(task: Task, patience: Patience, stop: threading.Event) -> None:
    """Store one picture or raise TransferError."""
    _, url, path = task
    last = ""
    for failed in range(1, patience.tries + 1):
        data = read_bytes(url, patience, stop)
        reason = why_no_jpeg(data)
        if not reason:
            if stop.is_set():  # nobody waits for it any more, and the folder may be somebody else's by now
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


def _worker(tasks: "queue.SimpleQueue", results: "queue.SimpleQueue", work: Callable, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            task = tasks.get_nowait()
        except queue.Empty:
            return
        try:
            work(task)
            results.put((task, None))
        except BaseException as error:  # handed over to the main thread, which knows what to do with it
            results.put((task, error))


def _in_threads(work: Callable, items: Sequence[Task], stop: threading.Event) -> Iterator:
    """Pairs of task and error (None: it went well) as they come. Threads do not outlive the process: after Ctrl-C
    nobody waits for a server that fell silent."""
    tasks, results = queue.SimpleQueue(), queue.SimpleQueue()
    for item in items:
        tasks.put(item)
    for _ in range(min(WORKERS, len(items))):
        threading.Thread(target=_worker, args=(tasks, results, work, stop), daemon=True).start()
    try:
        for _ in items:
            yield results.get()
    finally:
        stop.set()


def fetch_pictures(items: Sequence[Task], patience: Patience | None = None) -> Fetched:
    """Fetch all of `items`; a picture that cannot be had does not stop the others, a full disk does (OSError)."""
    from tqdm import tqdm

    patience, stop, fetched, in_a_row = patience or Patience(), threading.Event(), Fetched(), 0
    bar = tqdm(total=len(items), desc="pictures", unit="", disable=None, leave=False)
    waiting = {item[0] for item in items}
    with bar:
        for (name, _, _), error in _in_threads(lambda task: _fetch_one(task, patience, stop), items, stop):
            waiting.discard(name)
            bar.update()
            in_a_row = in_a_row + 1 if _note(fetched, name, error) else 0
            if in_a_row >= _HOPELESS:
                break
    fetched.failed |= {name: "not tried: too many others failed" for name in sorted(waiting)}
    return fetched


def _note(fetched: Fetched, name: str, error: BaseException | None) -> bool:
    """Write down how a picture ended; True when it failed in a way that may be the server's or the connection's."""
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

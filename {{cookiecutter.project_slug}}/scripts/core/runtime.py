"""Work in several processes with a progress bar, and libraries that keep quiet."""

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from absl import logging as absl_logging
from tqdm import tqdm

from scripts.core.text import DetectorError

# Starting two spawned workers costs about as much as decoding this many images.
SMALLEST_POOL = 100
_CHUNKS_AHEAD = 4  # a worker: more would fill the memory with results that nobody has taken yet


def map_items(function: Callable, items: Sequence, name: str, processes: int | None = None,
              smallest_pool: int = SMALLEST_POOL) -> Iterator:
    """Yield `function(item)` in the order of `items`, with a progress bar on a terminal.

    Args:
        function: a plain function of a module, as workers are spawned, on every system alike.
        items: what it is called with.
        name: what stands before the bar.
        processes: None uses one for each core, and only one below `smallest_pool` items.
        smallest_pool: see `processes`.
    """
    if processes is None:
        processes = (os.cpu_count() or 1) if len(items) >= smallest_pool else 1
    serial = processes <= 1
    results = map(function, items) if serial else _in_pool(function, items, name, processes)
    yield from tqdm(results, total=len(items), desc=name, unit="", disable=None, leave=False)


def _in_pool(function: Callable, items: Sequence, name: str, processes: int) -> Iterator:
    size = max(1, min(16, len(items) // (processes * _CHUNKS_AHEAD)))
    context, waiting = multiprocessing.get_context("spawn"), deque()
    try:
        with ProcessPoolExecutor(processes, context, _ignore_interrupt) as pool:
            try:
                for start in range(0, len(items), size):
                    waiting.append(pool.submit(_apply, function, items[start : start + size]))
                    if len(waiting) > processes * _CHUNKS_AHEAD:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    except BrokenProcessPool:
        raise DetectorError(f"a worker process was ended from outside: {name}: "
                            "free some memory, then run it again") from None


def _apply(function: Callable, chunk: Sequence) -> list:
    return [function(item) for item in chunk]


def _ignore_interrupt() -> None:
    # Ctrl-C reaches every process of the terminal; only the parent has something to say about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def silence_libraries(log=None) -> Iterator[None]:
    """Send what libraries print to `log`, and drop their informational logging.

    `log` is an open text file; None drops everything.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(log or io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def silence_native() -> Iterator[None]:
    """Drop what native code writes to standard error; exceptions still pass.

    No Python logger sees what TensorFlow's C++ code writes there.
    """
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)

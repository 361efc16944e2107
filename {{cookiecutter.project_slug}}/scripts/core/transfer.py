"""Read http://, https:// and file:// addresses, from any byte on.

A transfer that ends early is an error, never a short file. What failed on the way is told from what
would fail again: the caller tries the former again, from the byte where it stopped. urllib3's
`Retry` repeats requests only, not bodies that break off, so that the loop stays with the caller.
"""

import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3

_PIECE_BYTES = 1 << 18
_sessions = threading.local()


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try; the wait doubles with each try."""

    tries: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    connect_s: float = 10.0
    silence_s: float = 30.0
    """Longest time without a byte."""

    def wait_s(self, failed_tries: int, asked_s: float = 0.0) -> float:
        """Return seconds before the next try; `asked_s` is what the server asked for."""
        # Spread, so that threads that failed together do not come back together.
        backoff_s = self.first_wait_s * 2 ** (failed_tries - 1) * random.uniform(0.8, 1.2)
        return min(self.longest_wait_s, max(backoff_s, asked_s))


class TransferError(Exception):
    """Why something could not be read, in a few words."""


class AbsentError(TransferError):
    """The server says that there is no such file."""


class RefusedError(TransferError):
    """The server answers, and would answer the same again."""


class BrokenOffError(TransferError):
    """Worth another try, after `after_s` seconds if the server said so."""

    def __init__(self, reason: str, after_s: float = 0.0):
        super().__init__(reason)
        self.after_s = after_s


class StoppedError(TransferError):
    """The event that stops all transfers was set."""


@dataclass
class Body:
    """An open file.

    `start` is its first byte: 0 when the server cannot start elsewhere or the file changed. `total`
    is the size of the whole file in bytes (None: not announced). `validator` tells this state of
    the file from others.
    """

    start: int
    total: int | None
    validator: str
    read: Callable[[int], bytes]

    def pieces(self, stop: threading.Event | None = None) -> Iterator[bytes]:
        """Yield the bytes in small pieces.

        Raises:
            BrokenOffError: Fewer bytes than announced came.
            StoppedError: `stop` was set.
        """
        received = self.start
        while piece := self.read(_PIECE_BYTES):
            if stop is not None and stop.is_set():
                raise StoppedError("stopped")
            received += len(piece)
            yield piece
        if self.total is not None and received != self.total:
            raise BrokenOffError(f"{received} of {self.total} bytes came")


@contextmanager
def open_at(url: str, start: int = 0, validator: str = "",
            patience: Patience | None = None) -> Iterator[Body]:
    """Open `url` at byte `start` if it is still the file that `validator` came from.

    Otherwise it is opened at its beginning.

    Raises:
        AbsentError, RefusedError, BrokenOffError: also while the body is read.
    """
    opener = _open_file if urlsplit(url).scheme == "file" else _open_http
    with opener(url, start, validator, patience or Patience()) as body:
        yield body


def read_bytes(url: str, patience: Patience | None = None,
               stop: threading.Event | None = None) -> bytes:
    """Read all of `url`, tried again while that may help.

    Raises:
        TransferError: It could not be read, or `stop` was set.
    """
    patience, stop, failed = patience or Patience(), stop or threading.Event(), 0
    while True:
        try:
            with open_at(url, patience=patience) as body:
                return b"".join(body.pieces(stop))
        except BrokenOffError as error:
            failed += 1
            if failed == patience.tries:
                raise
            if stop.wait(patience.wait_s(failed, error.after_s)):
                raise StoppedError("stopped") from error


@contextmanager
def _open_file(url: str, start: int, validator: str, patience: Patience) -> Iterator[Body]:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise AbsentError("no such file") from error
    except OSError as error:
        raise RefusedError(error.strerror or type(error).__name__) from error
    with file:
        info = path.stat()
        now = f"{info.st_size}-{info.st_mtime_ns}"
        start = start if now == validator else 0
        file.seek(start)
        yield Body(start, info.st_size, now, file.read)


@contextmanager
def _open_http(url: str, start: int, validator: str, patience: Patience) -> Iterator[Body]:
    try:
        with _answer(url, start, validator, patience) as response:
            begins, total = _extent(response)
            yield Body(begins, total, _validator(response), response.raw.read1)
    except requests.Timeout as error:
        raise BrokenOffError("no answer in time") from error
    except urllib3.exceptions.TimeoutError as error:
        raise BrokenOffError("the server fell silent") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise RefusedError(str(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise BrokenOffError(_cause(error)) from error


def _answer(url: str, start: int, validator: str, patience: Patience) -> requests.Response:
    """Return a response with status 200 or 206 that starts at `start`, or at 0 when it has to."""
    if start and validator:
        wanted = {"Range": f"bytes={start}-", "If-Range": validator}
        response = _get(url, patience, wanted)
        # Some servers answer a range without looking at If-Range.
        same = (response.status_code == 206 and _extent(response)[0] == start
                and _validator(response) == validator)
        if same or response.status_code not in (206, 416):
            return _checked(response)
        response.close()
    return _checked(_get(url, patience, {}))


def _get(url: str, patience: Patience, headers: dict[str, str]) -> requests.Response:
    if not hasattr(_sessions, "session"):  # one a thread: sessions are not made to be shared
        _sessions.session = requests.Session()
        # Lengths and offsets would mean something else in a compressed answer.
        _sessions.session.headers["Accept-Encoding"] = "identity"
    return _sessions.session.get(url, headers=headers, stream=True,
                                 timeout=(patience.connect_s, patience.silence_s))


def _checked(response: requests.Response) -> requests.Response:
    """Return the response if it has the file as its body; else close it and raise its error."""
    status = response.status_code
    if status in (200, 206):
        return response
    response.close()
    text = f"the server answers {status} {response.reason or ''}".strip()
    if status in (404, 410):
        raise AbsentError(text)
    if status in (408, 425, 429) or status >= 500:
        raise BrokenOffError(text, urllib3.Retry().get_retry_after(response.raw) or 0.0)
    raise RefusedError(text)


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Return the first byte of the answer and the size of the whole file (None: not said)."""
    found = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if response.status_code == 206 and found:
        return int(found[1]), int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(response: requests.Response) -> str:
    """Return what If-Range may carry: a strong ETag, or the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _cause(error: BaseException) -> str:
    """Return the innermost reason: libraries wrap `connection refused` in three layers."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    said = " ".join(str(error).split())[:200]
    return getattr(error, "strerror", None) or said or type(error).__name__

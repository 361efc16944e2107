"""Fetches images in threads: each is decoded fully before it gets its name, so what has a name is
whole."""

import csv
import hashlib
import io
import json
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from scripts.core.files import TEMPORARY_PREFIX, write_bytes, write_json, write_text
from scripts.core.text import DetectorError
from scripts.core.transfer import (
    AbsentError,
    BrokenOffError,
    Patience,
    RefusedError,
    StoppedError,
    TransferError,
    read_bytes,
)
from scripts.data.openimages.catalog import (
    ATTRIBUTION_FILE,
    BOXES_FILE,
    CLASSES_FILE,
    COLUMNS,
    FOLDER,
    METADATA,
    SPLITS,
    UNUSED,
    Catalog,
    image_path,
    passes,
    read_boxes,
)

WORKERS = 16
_HOPELESS = 2 * WORKERS
"""So many failures in a row, and not one image between them, are the connection or the server."""

Task = tuple[str, str, Path]
"""A name for messages, the address, and the path for the whole image."""


@dataclass
class Fetched:
    """How a round ended, by name of the image: texts say why. `spoilt` arrived whole, the same
    bytes again and again, and are no JPEG: name -> SHA-256 of the bytes."""

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
    """Decode an image fully; "" when it is a whole JPEG, else the reason why not."""
    try:
        # With several images in one file (MPO) it is a JPEG all the same: the first one is shown.
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except Exception as error:  # Pillow raises whatever the bytes make it
        reason = " ".join(str(error).split())
        return "not a JPEG" if "cannot identify" in reason else f"not a whole JPEG ({reason})"
    return ""


def _fetch_one(task: Task, patience: Patience, stop: threading.Event) -> None:
    """Store one image or raise TransferError."""
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
    """Pairs of task and error (None: it went well) as they come. Threads do not outlive the
    process: after Ctrl-C nobody waits for a server that fell silent."""
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


def fetch_images(items: Sequence[Task], patience: Patience | None = None) -> Fetched:
    """Fetch all of `items`; an image that cannot be had does not stop the others, a full disk does
    (OSError)."""
    patience, stop, fetched, in_a_row = patience or Patience(), threading.Event(), Fetched(), 0
    bar = tqdm(total=len(items), desc="images", unit="", disable=None, leave=False)
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
    """Write down how an image ended; True when it failed in a way that may be the server's or the
    connection's."""
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


# What earlier runs learned about images that cannot be had: two files in images/source/openimages.

MISSING_FILE = "missing.log"
_SPOILT = "broken on the server"


class Memory:
    """Names are SPLIT/ID, as in the paths of the images."""

    def __init__(self, root: Path, images_url: str):
        self._path, self._failed_path = root / FOLDER / MISSING_FILE, root / FOLDER / METADATA / "failed.json"
        self._url = images_url
        self.missing = self._read_missing()
        try:
            self._spoilt = dict(json.loads(self._failed_path.read_bytes())["spoilt"])
        except (OSError, ValueError, KeyError, TypeError):
            self._spoilt = {}

    def _read_missing(self) -> dict[str, str]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        if lines and lines[0].startswith("# ") and lines[0] != self._first_line():
            return {}  # another server may have them
        pairs = [line.strip().partition(" ") for line in lines if line.strip() and not line.startswith("#")]
        return {name: reason.strip() for name, _, reason in pairs}

    def _first_line(self) -> str:
        return f"# not to be had from {self._url}"

    def learn(self, fetched: Fetched) -> dict[str, str]:
        """Take over how a round ended; return name -> reason of the images that count as failed.

        Bytes that are no JPEG fail the first time. The same ones in a second run are what the
        server has: the image is then missing like any other, or one file would stop the project for
        good.
        """
        hopeless = {name for name, sha256 in fetched.spoilt.items() if self._spoilt.get(name) == sha256}
        self.missing |= fetched.absent
        self.missing |= {name: f"{_SPOILT}: {fetched.failed[name]}" for name in hopeless}
        return {name: reason for name, reason in fetched.failed.items() if name not in hopeless}

    def save(self, spoilt: dict[str, str]) -> None:
        """Write both files; those without content go."""
        if self.missing:
            lines = [self._first_line(), *(f"{name} {reason}" for name, reason in sorted(self.missing.items()))]
            write_text(self._path, "\n".join(lines) + "\n")
        else:
            self._path.unlink(missing_ok=True)
        if spoilt:
            write_json(self._failed_path, {"spoilt": spoilt})
        else:
            self._failed_path.unlink(missing_ok=True)


# ATTRIBUTION.csv: who made each image, under which license, and the page that says so.

ATTRIBUTION_COLUMNS = ("ImageID", "Split", "Author", "AuthorProfileURL", "Title", "License", "OriginalLandingURL")


def write_attribution(root: Path, catalog: Catalog, stored: Mapping[str, Collection[str]],
                      spare: Mapping[str, Collection[str]]) -> int:
    """Write a line for each stored image, split -> ids; return how many of them have no author or
    no license.

    `spare` are images that may be wanted next: the list of 600 MB is read once for them as well.
    A server without the list gives lines with empty fields.
    """
    rows, unknown = [], 0
    for split, image_ids in stored.items():
        known = _rows_of(catalog, split, image_ids, spare.get(split, ())) if image_ids else {}
        for image_id in image_ids:
            row = known.get(image_id, {})
            unknown += not (row.get("Author") and row.get("License"))
            rows.append((image_id, split, *((row.get(column) or "") for column in ATTRIBUTION_COLUMNS[2:])))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(ATTRIBUTION_COLUMNS)
    writer.writerows(sorted(rows))
    write_text(root / FOLDER / ATTRIBUTION_FILE, out.getvalue())
    return unknown


def _rows_of(catalog: Catalog, split: str, image_ids: Collection[str], spare: Collection[str]) -> dict[str, dict]:
    part = catalog.images(split)
    # Images without a row were looked for in vain once; that is remembered too.
    if not part.has(image_ids):
        try:
            part.ensure({*image_ids, *spare})
        except DetectorError as error:
            if isinstance(error.__cause__, AbsentError):
                return {}
            raise
    wanted = set(image_ids)
    with part.path.open(encoding="utf-8", errors="replace", newline="") as file:
        return {row["ImageID"]: row for row in csv.DictReader(file) if row["ImageID"] in wanted}


# What a download leaves in images/source/openimages: images by split, boxes.csv, the names of the
# classes.

MARK = "IsDifficult"
"""Column behind the official ones: 1 for a box that did not pass the filters; see `choose`."""


def stored_ids(root: Path, split: str) -> set[str]:
    """Ids of the images of a split that are there."""
    folder = root / FOLDER / split
    names = os.listdir(folder) if folder.is_dir() else []
    return {name[:-4] for name in names if name.endswith(".jpg") and not name.startswith(TEMPORARY_PREFIX)}


def arrange(root: Path, chosen: Mapping[str, Collection[str]]) -> tuple[int, int]:
    """Make the folders hold chosen images only (split -> ids): others move to `.unused`, from where
    they come back when they are chosen again. Returns how many moved out and in. Nothing that was
    fetched is deleted."""
    moved_out = moved_in = 0
    for split in SPLITS:
        there, wanted = stored_ids(root, split), set(chosen.get(split, ()))
        _remove_unfinished(root / FOLDER / split)
        for image_id in there - wanted:
            moved_out += _move(image_path(root, split, image_id), _unused_path(root, split, image_id))
        for image_id in wanted - there:
            moved_in += _move(_unused_path(root, split, image_id), image_path(root, split, image_id))
    return moved_out, moved_in


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def _unused_path(root: Path, split: str, image_id: str) -> Path:
    return root / FOLDER / UNUSED / split / f"{image_id}.jpg"


def _move(source: Path, target: Path) -> bool:
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    return True


def write_boxes(root: Path, slices: Mapping[str, Path], owner: Mapping[str, str], stored: Mapping[str, Collection[str]],
                settings) -> tuple[Counter, int]:
    """Write the boxes of the stored images (split -> ids), sorted; return boxes by MID and how many
    are marked."""
    lines: list[str] = []
    counts: Counter[str] = Counter()
    marked = 0
    for split, path in slices.items():
        wanted = set(stored[split])
        for chunk in read_boxes(path, owner):
            chunk = chunk[chunk["ImageID"].isin(wanted)]
            mark = (~passes(chunk, settings)).astype(int)
            counts.update(chunk["LabelName"])
            marked += int(mark.sum())
            lines += chunk.assign(**{MARK: mark}).to_csv(header=False, index=False, lineterminator="\n").splitlines()
    text = "\n".join([",".join((*COLUMNS, MARK)), *sorted(lines), ""])
    write_text(root / FOLDER / BOXES_FILE, text)
    return counts, marked


def write_class_names(root: Path, labels: Mapping[str, str]) -> None:
    """Write MID and name of each wanted class; the name is the one in source.labels, which later
    steps compare with."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("LabelName", "DisplayName"), *labels.items()])
    write_text(root / FOLDER / CLASSES_FILE, out.getvalue())

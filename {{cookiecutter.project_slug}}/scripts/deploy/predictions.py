"""What `invoke predict` writes: `predictions.json`, `predictions.csv`, and copies of videos.

Both files are written row by row, so that a film needs no more memory than an image.
"""

import csv
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from scripts.core.files import replacing
from scripts.core.text import DetectorError
from scripts.data.drawing import draw_detections
from scripts.data.formats.voc import format_number
from scripts.evaluation.detections import Detections, clipped_xyxy_px, short

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "score", "frame",
           "time_s")
BOX_DECIMALS = 2


def detection_rows(found: Detections, size_px: tuple[int, int], labels: list[str],
                   threshold: float) -> list[dict]:
    """Return the detections of an image as `predictions.json` holds them.

    The best comes first, none is below the threshold. `size_px` is (width, height).
    """
    rows = []
    boxes = clipped_xyxy_px(found.yxyx_norm, *size_px)
    for box, class_id, score in zip(boxes, found.class_ids, found.scores, strict=True):
        if score >= threshold:
            name = labels[class_id] if class_id < len(labels) else f"class {class_id}"
            edges = [round(float(edge), BOX_DECIMALS) for edge in box]
            rows.append({"class": name, "class_id": int(class_id), "score": short(score),
                         "box_xyxy_px": edges})
    return sorted(rows, key=lambda row: -row["score"])


class Results:
    """Both files while they are open; `add` takes an image or a frame with its detections."""

    def __init__(self, predictions, table):
        self._predictions, self._table = predictions, csv.writer(table, lineterminator="\n")
        self._table.writerow(COLUMNS)
        self.rows = self.detections = 0

    def add(self, row: dict) -> None:
        """Append a row to both files.

        It has `file`, `width`, `height`, `detections`, and of a frame `frame` and `time_s`.
        """
        self._predictions.write(",\n" if self.rows else "[\n")
        text = json.dumps(row, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self._predictions.write(" " + text.replace("\n", "\n "))
        self._table.writerows(_table_rows(row))
        self.rows += 1
        self.detections += len(row["detections"])

    def finish(self) -> None:
        """Close the list of the JSON file."""
        self._predictions.write("\n]\n" if self.rows else "[]\n")


@contextmanager
def results(out: Path) -> Iterator[Results]:
    """Open the two files in the folder `out`.

    They replace older ones when the block ends well, and only then.
    """
    with (replacing(out / "predictions.json") as json_path,
          replacing(out / "predictions.csv") as table_path,
          json_path.open("w", encoding="utf-8", newline="\n") as predictions,
          table_path.open("w", encoding="utf-8", newline="") as table):
        both = Results(predictions, table)
        yield both
        both.finish()


def _table_rows(row: dict) -> Iterator[list]:
    """Yield a line for each detection, or one with class, box and score empty, as in the other
    tables of the project."""
    image = [row["file"], row["width"], row["height"]]
    place = [row.get("frame", ""), row.get("time_s", "")]
    for found in row["detections"]:
        edges = [format_number(edge) for edge in found["box_xyxy_px"]]
        yield [*image, found["class"], *edges, found["score"], *place]
    if not row["detections"]:
        yield [*image, *[""] * 6, *place]


# Videos, frame by frame.

CODEC = "mp4v"
# Longest side of a copy; larger frames are shrunk. MPEG-4 ends at 8191 pixels, many players
# earlier.
COPY_PX = 4096

ASSUMED_FPS, MOST_FPS = 25.0, 1000.0
# Some containers only estimate how many frames they hold: one and one in a hundred may be missing.
MISSING_TOLERATED = 0.01


@dataclass(frozen=True)
class Frame:
    """A frame: its number from 0, its time, and the upright image."""

    index: int
    time_s: float
    image: Any


@functools.cache
def _opencv():
    """Return OpenCV with it and its FFmpeg silenced: errors are raised here in one line."""
    # -8 is AV_LOG_QUIET; it is read when the first file is opened.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class Video:
    """A video file that is being read. ValueError says why it cannot be opened."""

    def __init__(self, path: Path):
        cv2 = _opencv()
        try:
            with path.open("rb") as file:
                if not file.read(1):
                    raise ValueError("the file is empty")
        except OSError as error:
            raise ValueError(error.strerror) from error
        # An absolute path: FFmpeg takes what stands before a colon for a protocol.
        self._capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ValueError("it is no video, or one without its end, where the table of frames is")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MOST_FPS else ASSUMED_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(count) if 0 < count < 1e9 else 0
        self.read = 0

    def frames(self, every: int) -> Iterator[Frame]:
        """Yield frames 0, `every`, 2 x `every`, ... as long as they can be read."""
        cv2, last_s = _opencv(), -1.0
        while self._capture.grab():
            index, self.read = self.read, self.read + 1
            if index % every:
                continue
            is_read, bgr = self._capture.retrieve()
            if not is_read:
                return
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Files without times give 0 for all frames.
            last_s = time_s if time_s > last_s else index / self.fps
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            yield Frame(index, round(last_s, 3), Image.fromarray(rgb))

    def broken_off(self) -> str:
        """Return why not all frames were read, "" if they were."""
        if self.announced - self.read <= 1 + MISSING_TOLERATED * self.announced:
            return ""
        return f"only {self.read:,} of {self.announced:,} frames can be read"

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class VideoCopy:
    """The annotated copy that is being written to `path`, at `fps` frames a second."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps, self.frames, self._writer = path, fps, 0, None

    def add(self, image) -> None:
        """Append an upright image; all get the size of the first.

        ValueError if that size cannot be encoded.
        """
        cv2 = _opencv()
        if self._writer is None:
            scale = min(1.0, COPY_PX / max(image.size))
            self.size_px = tuple(int(side * scale) for side in image.size)
            self._writer = cv2.VideoWriter(str(self.path.resolve()), cv2.CAP_FFMPEG,
                                           cv2.VideoWriter_fourcc(*CODEC), self.fps, self.size_px)
            if not self._writer.isOpened():
                raise ValueError(f"no copy of {image.width} x {image.height} pixels can be written")
        if image.size != self.size_px:
            image = image.resize(self.size_px)
        self._writer.write(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Write the end of the file."""
        if self._writer is not None:
            self._writer.release()

    def is_complete(self) -> bool:
        """Return whether the closed file holds all frames that it was given.

        The encoder does not tell of a full disk.
        """
        try:
            written = Video(self.path)
        except (ValueError, OSError):
            return False
        written.close()
        return written.announced == self.frames


def predict_video(path: Path, look: Callable, every: int, target: Path,
                  add: Callable) -> tuple[int, str]:
    """Detect in every `every`th frame and write an annotated copy.

    Args:
        path: the video.
        look: gives the detections of an image as `predictions.json` holds them.
        every: 1 for all frames.
        target: the copy.
        add: takes the row of each frame.

    Returns:
        How many frames were looked at, and why the video broke off ("": it did not).

    Raises:
        ValueError: Says why no frame can be read.
        DetectorError: The copy is incomplete.
    """
    video = Video(path)
    try:
        with replacing(target) as temporary:
            copy = VideoCopy(temporary, video.fps / every)
            try:
                _copy_frames(path, video, look, every, copy, add)
            finally:
                copy.close()
            if not copy.frames:
                raise ValueError("it holds no frame that can be read")
            if not copy.is_complete():
                raise DetectorError(f"the copy of {path} is incomplete: {target}: free some space "
                                    "or name another --out")
    finally:
        video.close()
    return copy.frames, video.broken_off()


def _copy_frames(path: Path, video: Video, look: Callable, every: int, copy: VideoCopy,
                 add: Callable) -> None:
    # Without an announced number the bar only counts.
    total = math.ceil(video.announced / every) or None
    for frame in tqdm(video.frames(every), desc=path.name, unit="frame", total=total, disable=None,
                      leave=False):
        rows = look(frame.image)
        copy.add(draw_detections(frame.image, rows))
        add({"file": path.as_posix(), "width": frame.image.width, "height": frame.image.height,
             "frame": frame.index, "time_s": frame.time_s, "detections": rows})

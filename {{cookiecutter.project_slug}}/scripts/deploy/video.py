"""`predictions.json` and `predictions.csv`, written row by row: a film needs no more memory than an
image."""

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

PREDICTIONS, TABLE = "predictions.json", "predictions.csv"
COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "score", "frame", "time_s")


class Results:
    """Both files while they are open; `add` takes an image or a frame with its detections."""

    def __init__(self, predictions, table):
        self._predictions, self._table = predictions, csv.writer(table, lineterminator="\n")
        self._table.writerow(COLUMNS)
        self.rows = self.detections = 0

    def add(self, row: dict) -> None:
        """Append `file`, `width`, `height`, `detections`, and of a frame `frame` and `time_s`, to
        both files."""
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
    """The two files of the folder `out`; they replace older ones when the block ends well, and only
    then."""
    with replacing(out / PREDICTIONS) as json_path, replacing(out / TABLE) as table_path:
        with (json_path.open("w", encoding="utf-8", newline="\n") as predictions,
              table_path.open("w", encoding="utf-8", newline="") as table):
            both = Results(predictions, table)
            yield both
            both.finish()


def _table_rows(row: dict) -> Iterator[list]:
    """A line for each detection, or one with class, box and score empty, as in the project's other
    tables."""
    image = [row["file"], row["width"], row["height"]]
    place = [row.get("frame", ""), row.get("time_s", "")]
    for found in row["detections"]:
        edges = [format_number(edge) for edge in found["box_xyxy_px"]]
        yield [*image, found["class"], *edges, found["score"], *place]
    if not row["detections"]:
        yield [*image, *[""] * 6, *place]


# Videos, frame by frame: what is found in each, and an annotated copy.

CODEC = "mp4v"
COPY_PX = 4096
"""Longest side of a copy; larger frames are shrunk in it. MPEG-4 ends at 8191 pixels, many players
earlier."""

ASSUMED_FPS, MOST_FPS = 25.0, 1000.0
MISSING_TOLERATED = 0.01
"""Some containers only estimate how many frames they hold: one more and one in a hundred may be
missing."""


@dataclass(frozen=True)
class Frame:
    """A frame: its number from 0, its time, and the upright image."""

    index: int
    time_s: float
    image: Any


@functools.cache
def _opencv():
    """OpenCV and its FFmpeg without their own complaints: what is broken is said by us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first file is opened
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
        # The whole path: FFmpeg takes what stands before a colon for a protocol.
        self._capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ValueError("it is no video, or one whose end with the table of its frames is missing")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MOST_FPS else ASSUMED_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(count) if 0 < count < 1e9 else 0
        self.read = 0

    def frames(self, every: int) -> Iterator[Frame]:
        """Frames 0, `every`, 2 x `every`, ... as long as they can be read."""
        cv2, last_s = _opencv(), -1.0
        while self._capture.grab():
            index, self.read = self.read, self.read + 1
            if index % every:
                continue
            whole, bgr = self._capture.retrieve()
            if not whole:
                return
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            last_s = time_s if time_s > last_s else index / self.fps  # files without times give 0 for all
            yield Frame(index, round(last_s, 3), Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))

    def broken_off(self) -> str:
        """Why not all frames were read, "" if they were."""
        if self.announced - self.read <= 1 + MISSING_TOLERATED * self.announced:
            return ""
        return f"only {self.read:,} of {self.announced:,} frames can be read"

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


class VideoCopy:
    """The annotated copy that is being written to `path`, at `fps` frames a second."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps, self.frames, self._writer = path, fps, 0, None

    def add(self, image) -> None:
        """Append an upright image; all get the size of the first. ValueError if that cannot be
        encoded."""
        cv2 = _opencv()
        if self._writer is None:
            scale = min(1.0, COPY_PX / max(image.size))
            self.size_px = tuple(int(side * scale) for side in image.size)
            self._writer = cv2.VideoWriter(
                str(self.path.resolve()), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*CODEC), self.fps, self.size_px
            )
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

    def is_whole(self) -> bool:
        """Whether the closed file holds all frames that it was given: the encoder does not tell of
        a full disk."""
        try:
            written = Video(self.path)
        except (ValueError, OSError):
            return False
        written.close()
        return written.announced == self.frames


def predict_video(path: Path, look: Callable, every: int, target: Path, add: Callable) -> tuple[int, str]:
    """Look at every `every`th frame, `add` its row, and write the copy to `target`.

    `look(image)` gives the detections of an image as they stand in `predictions.json`. Returns how
    many frames were looked at, and why the video broke off ("": it did not). ValueError says why no
    frame can be read.
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
            if not copy.is_whole():
                raise DetectorError(f"the copy of {path} is not whole: {target}: free some space or name another --out")
    finally:
        video.close()
    return copy.frames, video.broken_off()


def _copy_frames(path: Path, video: Video, look: Callable, every: int, copy: VideoCopy, add: Callable) -> None:
    total = math.ceil(video.announced / every) or None
    frames = tqdm(video.frames(every), desc=path.name, unit="frame", total=total, disable=None, leave=False)
    for frame in frames:
        rows = look(frame.image)
        copy.add(draw_detections(frame.image, rows))
        add({"file": path.as_posix(), "width": frame.image.width, "height": frame.image.height,
             "frame": frame.index, "time_s": frame.time_s, "detections": rows})

"""A small Open Images: its files in the layout of the bucket, and a server that misbehaves on
command."""

import csv
import io
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from scripts.core.schema import Openimages
from scripts.core.transfer import Patience

HEADER = ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
          "IsGroupOf,IsDepiction,IsInside")
CLICKS = "".join(f",XClick{n}{axis}" for axis in "XY" for n in range(1, 5))
APPLE, ORANGE, CAR, TAXI, SQUASH, PEPPER = ("/m/014j1m", "/m/0cyhj_", "/m/0k4j", "/m/0pg52",
                                            "/m/0dv77", "/m/0jg57")
NAMES = {APPLE: "Apple", ORANGE: "Orange", CAR: "Car", TAXI: "Taxi", SQUASH: "Squash (Plant)",
         PEPPER: "Bell pepper",
         "/m/0h8n5zk": "Kitchen & dining room table", "/m/01b7fy": "Headphones",
         "/m/0jyfg": "Glasses"}
TREE = ('{"LabelName": "/m/0bl9f", "Subcategory": [{"LabelName": "/m/0k4j", '
        '"Part": [{"LabelName": "/m/014j1m"}], "Subcategory": [{"LabelName": "/m/0pg52"}]}]}')
IMPATIENT = Patience(tries=3, first_wait_s=0.01, silence_s=0.5)
FILES = {
    "classes": "v7/oidv7-class-descriptions-boxable.csv",
    "train": "v6/oidv6-train-annotations-bbox.csv",
    "validation": "v5/validation-annotations-bbox.csv",
    "test": "v5/test-annotations-bbox.csv",
}


def jpeg(seed: int = 0, orientation: int = 0) -> bytes:
    """An image of 32 x 24 pixels; another `seed`, other bytes."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    image = Image.effect_noise((32, 24), 20 + seed % 50).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **({"exif": tags} if orientation else {}))
    return buffer.getvalue()


@dataclass
class OpenImages:
    """The files of a made-up Open Images in `folder`: `metadata/...` and `images/SPLIT/ID.jpg`."""

    folder: Path
    boxes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    authors: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, split: str, *boxes: str, data: bytes | None = None) -> str:
        """Add an image with boxes such as "/m/014j1m" or "/m/014j1m 0,0,1,0,-1" (the five flags);
        return its id."""
        self.count += 1
        image_id = f"{self.count:016x}"
        for at, box in enumerate(boxes):
            mid, _, flags = box.partition(" ")
            row = f"{image_id},xclick,{mid},1,0.1,0.{5 + at},0.2,0.750000,{flags or '0,0,0,0,0'}"
            self.boxes[split].append(row + ("," * 8 if split == "train" else ""))
        self.authors[split].append(
            [image_id, split, "https://x/original.jpg", f"https://x/{image_id}",
             "https://cc/by/2.0/", "https://x/ada",
             'Ada "the, first"\nByron', "A, title", "1", "md5", "", "0.0"])
        path = self.folder / f"images/{split}/{image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(self.count) if data is None else data)
        return image_id

    def write(self) -> "OpenImages":
        """Write the metadata of all that was added."""
        self._write(FILES["classes"], "LabelName,DisplayName\n"
                    + "".join(f"{m},{n}\n" for m, n in NAMES.items()))
        self._write("2018_04/bbox_labels_600_hierarchy.json", TREE)
        for split in ("train", "validation", "test"):
            header = HEADER + (CLICKS if split == "train" else "")
            self._write(FILES[split], "\n".join([header, *self.boxes[split], ""]))
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow("ImageID,Subset,OriginalURL,OriginalLandingURL,License,"
                            "AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation".split(","))
            writer.writerows(self.authors[split])
            boxable = "-boxable" if split == "train" else ""
            self._write(f"2018_04/{split}/{split}-images{boxable}-with-rotation.csv",
                        out.getvalue())
        return self

    def _write(self, name: str, text: str) -> None:
        path = self.folder / "metadata" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def image(self, split: str, image_id: str) -> Path:
        return self.folder / f"images/{split}/{image_id}.jpg"


class Server:
    """Serves a folder on a free port. `faults` maps a path to what goes wrong with it, a list: each
    time the next one (an empty list, or none: all is well). `requests` are the paths asked for, in
    order, with `@START` for ranges."""

    def __init__(self, folder: Path):
        self.folder, self.faults, self.requests = folder, defaultdict(list), []
        self.ranges, self.if_range, self.etag = True, True, '"one"'
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _QuietServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def asked(self, part: str) -> list[str]:
        """The requests whose path has `part` in it; the list starts anew."""
        found = [path for path in self.requests if part in path]
        self.requests = [path for path in self.requests if part not in path]
        return found

    def fail(self, part: str, *faults: object) -> None:
        """Make every file with `part` in its path misbehave."""
        for path in self.folder.rglob("*"):
            if part in path.as_posix():
                self.faults["/" + path.relative_to(self.folder).as_posix()] = list(faults)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that stops listening is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        owner, path = self.owner, self.path
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        owner.requests.append(path + (f"@{start}" if start else ""))
        file, fault = owner.folder / path.lstrip("/"), self._fault()
        if isinstance(fault, int) or not file.is_file():
            return self._refuse(fault or 404)
        data = file.read_bytes()
        if fault in ("slow", "stuck"):
            time.sleep(1.5 if fault == "slow" else 20)
        if fault == "broken":
            data = b"\xff\xd8\xff\xe0" + data[4 : len(data) // 2]
        fresh = self.headers.get("If-Range") == owner.etag or not owner.if_range
        begin = start if owner.ranges and start and fresh else 0
        body = data[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", owner.etag)
        length = len(body) // 2 if fault == "short length" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        part = len(body) // 2 if fault in ("truncated", "reset") else length
        self.wfile.write(body[:part])
        if fault in ("truncated", "reset"):
            self.close_connection = True

    def _fault(self):
        faults = self.owner.faults.get(self.path) or [None]
        return faults[0] if len(faults) == 1 else faults.pop(0)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def settings(metadata_url: str, images_url: str, **changes: object) -> Openimages:
    """The table [openimages] with its defaults, but a limit of 0."""
    values = {"version": "v7", "splits": ("train", "validation", "test"), "limit": 0, "seed": 7,
              "descendants": False,
              "occluded": "any", "truncated": "any", "group_of": "any", "depiction": "any",
              "inside": "any",
              "unknown": "keep", "metadata_url": metadata_url, "images_url": images_url}
    return Openimages(**{**values, **changes})

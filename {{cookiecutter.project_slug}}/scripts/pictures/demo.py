"""The demo source: pictures of fruit that the project draws itself, with exact boxes.

It is a smoke test of the whole chain, no benchmark: a detector that has not been trained fails on it, and a few minutes
of training are enough. `demo_scene` composes a picture from `demo_ground`, `demo_things` and `demo_fruit`.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file, write_bytes, write_json

JPEG_QUALITY = 92
SMALLEST_SIZE_PX = 64
MARKER = ".drawn.json"
SMALLEST_POOL = 24  # pictures; below this the workers take longer to start than the drawing


def draw_demo(folder: Path, pictures: int, size_px: int, seed: int) -> int:
    """Draws `pictures` pictures `fruit_NNNNN.jpg` with Pascal VOC labels beside them into `folder`.

    Returns how many were drawn: 0 when `folder` holds exactly these already. The longer side of each is `size_px`
    (at least 64). Picture N depends on `seed`, `size_px` and N alone. What an earlier call with other values left
    over is removed; files of other names are not touched. Raises DetectorError for values that cannot be drawn.
    """
    _check(pictures, size_px)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"schema": 1, "pictures": pictures, "size_px": size_px, "seed": seed, "code_sha256": _code_sha256()}
    marker = _read_marker(folder)
    files = marker.pop("files", {})
    if marker == wanted and all(_is_whole(folder / name, digest) for name, digest in files.items()):
        return 0
    drawn = _draw_all(folder, pictures, size_px, seed)
    for name in files.keys() - drawn.keys():
        (folder / name).unlink(missing_ok=True)
    write_json(folder / MARKER, {**wanted, "files": drawn})
    return pictures


def refuse_labels(labels: Sequence[str]) -> None:
    """DetectorError when source.labels are given and are not the classes that we draw."""
    from scripts.pictures.demo_scene import CLASSES

    if labels and set(labels) != set(CLASSES):
        raise DetectorError(
            f"source.labels are {', '.join(labels)}, the drawn pictures show {', '.join(CLASSES)}: [source] in "
            'detector.toml: for your own pictures set kind = "folder" and path to their folder; for the drawn ones '
            "set labels = []"
        )


def drawn_sha256(folder: Path) -> set[str]:
    """SHA-256 of the pictures that were drawn into `folder`; empty when nothing was."""
    return {digest for name, digest in _read_marker(folder).get("files", {}).items() if name.endswith(".jpg")}


def draw_picture(index: int, size_px: int, seed: int) -> tuple[str, bytes, bytes]:
    """Picture `index`: its name without ending, the bytes of its JPEG and of its Pascal VOC label file."""
    from scripts.pictures.demo_scene import draw_scene
    from scripts.pictures.formats.voc import voc_xml

    scene = draw_scene(seed, index, size_px)
    name = f"fruit_{index:05d}"
    jpeg = io.BytesIO()
    scene.picture.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return name, jpeg.getvalue(), voc_xml("demo", f"{name}.jpg", *scene.picture.size, tuple(scene.boxes))


def _draw_all(folder: Path, pictures: int, size_px: int, seed: int) -> dict[str, str]:
    """Draws and writes all pictures; the digest of each file by its name."""
    from scripts.pictures.pool import map_items

    draw = partial(draw_picture, size_px=size_px, seed=seed)
    digests = {}
    for name, jpeg, xml in map_items(draw, range(pictures), "drawing", smallest_pool=SMALLEST_POOL):
        for ending, data in ((".jpg", jpeg), (".xml", xml)):
            write_bytes(folder / (name + ending), data)
            digests[name + ending] = hashlib.sha256(data).hexdigest()
    return digests


def _check(pictures: int, size_px: int) -> None:
    if pictures < 1:
        raise DetectorError(f"pictures = {pictures} is too few: [demo] in detector.toml: "
                            "set demo.pictures to 1 or more")
    if size_px < SMALLEST_SIZE_PX:
        raise DetectorError(f"size_px = {size_px} is too small to see a fruit: [demo] in detector.toml: "
                            f"set demo.size_px to {SMALLEST_SIZE_PX} or more")


def _code_sha256() -> str:
    """A digest of the code that draws, so that a changed drawing is drawn again."""
    parts = sorted(Path(__file__).parent.glob("demo*.py")) + [Path(__file__).parent / "formats/voc.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def _read_marker(folder: Path) -> dict:
    """What the last complete call noted in `folder`; empty when there is nothing usable."""
    try:
        noted = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) and isinstance(noted.get("files"), dict) else {}


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest

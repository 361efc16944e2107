"""The demo source: images of fruit that the project draws itself, with the exact box of each fruit.

A scene is a ground with things and fruit laid on it. The boxes come from the outlines, so that the
labels are right to the pixel.
"""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from scripts.core.files import sha256_file, write_bytes, write_json
from scripts.core.runtime import map_items
from scripts.core.text import DetectorError
from scripts.data.dataset import Box
from scripts.data.demo.objects import FRUIT, PLATE, THINGS
from scripts.data.demo.painting import GROUNDS, Stamp
from scripts.data.formats.voc import voc_xml

CLASSES = tuple(FRUIT)
SHARE_WITHOUT_FRUIT = 0.05
MIN_VISIBLE = 0.45  # of the whole fruit: what neither the border nor another object hides
MAX_OVERLAP = 0.6  # of the smaller of two boxes; non-maximum suppression takes closer ones for one
MIN_EDGE = 1 / 16  # of the longer edge of the image: 24 of 384 pixels
TRIES = 25


@dataclass
class Scene:
    """A drawn image with its boxes.

    `masks` (bool [height, width], one a box) are the outlines of the fruit inside the image, hidden
    parts included.
    """

    image: Image.Image
    boxes: list[Box]
    masks: list[np.ndarray]


@dataclass
class _Placed:
    class_name: str
    whole_px: int
    mask: np.ndarray
    seen: np.ndarray
    xyxy_px: tuple[int, int, int, int]


class _Table:
    """The image while objects are laid on it."""

    def __init__(self, rng: np.random.Generator, width_px: int, height_px: int):
        self.rng = rng
        self.shape = (height_px, width_px)
        self.short_px = min(width_px, height_px)
        self.canvas = GROUNDS[int(rng.integers(len(GROUNDS)))](rng, self.shape).astype(np.float32)
        towards, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 0.8)
        flat = math.sqrt(1 - height * height)
        self.light = (flat * math.cos(towards), flat * math.sin(towards), height)
        self.shadow = rng.uniform(0.3, 0.6)
        self.fruit: list[_Placed] = []

    def stamp(self, kind: tuple, radius_px: float) -> Stamp:
        """Draw an object of a kind (how to draw it, its reach), two of three nearly upright."""
        most = 0.7 if self.rng.random() < 0.65 else math.pi
        turn = self.rng.uniform(-most, most)
        stamp = Stamp(radius_px, kind[1], turn, self.light, self.rng)
        kind[0](stamp)
        stamp.crop()
        return stamp

    def mask(self, stamp: Stamp, x_px: int, y_px: int) -> np.ndarray:
        """Return the bool [height, width] outline of a stamp with its corner at x, y."""
        mask = np.zeros(self.shape, bool)
        inside, of_stamp = _overlap(self.shape, stamp.alpha.shape, x_px, y_px)
        mask[inside] = stamp.alpha[of_stamp] >= 0.5
        return mask

    def lay(self, stamp: Stamp, x_px: int, y_px: int, mask: np.ndarray) -> None:
        """Put an object down with its corner at x, y: its shadow on what is below, then itself."""
        reach = stamp.radius_px * 0.22
        margin = math.ceil(2 * reach) + 4
        soft = Image.fromarray((np.pad(stamp.alpha, margin) * 255).astype(np.uint8))
        soft = soft.filter(ImageFilter.GaussianBlur(max(2.0, reach * 0.6)))
        shade = np.asarray(soft, np.float32) / 255
        corner = (round(x_px - margin - self.light[0] * reach),
                  round(y_px - margin - self.light[1] * reach))
        inside, of_shade = _overlap(self.shape, shade.shape, *corner)
        self.canvas[inside] *= (1 - self.shadow * shade[of_shade])[..., None]
        inside, of_stamp = _overlap(self.shape, stamp.alpha.shape, x_px, y_px)
        below = self.canvas[inside]
        self.canvas[inside] = below + stamp.rgb[of_stamp] - below * stamp.alpha[of_stamp][..., None]
        for other in self.fruit:
            other.seen &= ~mask

    def hides_too_much(self, mask: np.ndarray) -> bool:
        """Return whether an object of this outline would leave too little of a fruit to see."""
        return any(np.count_nonzero(fruit.seen & ~mask) < MIN_VISIBLE * fruit.whole_px
                   for fruit in self.fruit)

    def place(self, stamp: Stamp) -> tuple | None:
        """Find a place for an object: x, y of its corner and mask, or None after some tries."""
        (high, wide), rng = stamp.alpha.shape, self.rng
        for _ in range(TRIES):
            x, y = rng.uniform(0, self.shape[1]), rng.uniform(0, self.shape[0])
            if self.fruit and rng.random() < 0.3:  # next to another fruit, so that fruit overlap
                left, top, right, bottom = self.fruit[int(rng.integers(len(self.fruit)))].xyxy_px
                reach, angle = 0.6 * (right - left + bottom - top) / 2, rng.uniform(0, 2 * math.pi)
                x = (left + right) / 2 + reach * math.cos(angle)
                y = (top + bottom) / 2 + reach * math.sin(angle)
            corner = (round(x - wide / 2), round(y - high / 2))
            mask = self.mask(stamp, *corner)
            if not self.hides_too_much(mask):
                return *corner, mask
        return None

    def add_thing(self, kind: tuple, radius_px: float) -> None:
        """Lay an object that is no fruit, if there is room."""
        stamp = self.stamp(kind, radius_px)
        place = self.place(stamp)
        if place:
            self.lay(stamp, *place)

    def add_fruit(self, class_name: str, radius_px: float) -> None:
        """Lay a fruit, if there is room where it is seen well and its box is not another's."""
        stamp = self.stamp(FRUIT[class_name], radius_px)
        whole_px = int(np.count_nonzero(stamp.alpha >= 0.5))
        for _ in range(TRIES):
            place = self.place(stamp)
            if place is None or np.count_nonzero(place[2]) < MIN_VISIBLE * 1.3 * whole_px:
                continue
            edges = mask_edges_px(place[2])
            if min(edges[2] - edges[0], edges[3] - edges[1]) < MIN_EDGE * max(self.shape):
                continue
            if all(_overlap_share(edges, other.xyxy_px) < MAX_OVERLAP for other in self.fruit):
                self.lay(stamp, *place)
                self.fruit.append(_Placed(class_name, whole_px, place[2], place[2].copy(), edges))
                return


def mask_edges_px(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the pixel edges xmin, ymin, xmax, ymax of a bool [height, width] mask, not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _overlap_share(a: tuple, b: tuple) -> float:
    """Return the part of the smaller of two boxes that lies in the other, 0..1."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0, wide) * max(0, high) / smaller


def _overlap(shape: tuple[int, int], piece: tuple[int, int], x_px: int, y_px: int) -> tuple:
    """Return where a piece (height, width) with its corner at x, y meets an image.

    The answer is the slices of the image and those of the piece.
    """
    inside, of_piece = [], []
    for size, length, start in zip(shape, piece, (y_px, x_px), strict=True):
        first, last = max(0, start), max(0, start, min(size, start + length))
        inside.append(slice(first, last))
        of_piece.append(slice(first - start, last - start))
    return tuple(inside), tuple(of_piece)


def _camera(rng: np.random.Generator, canvas: np.ndarray) -> Image.Image:
    """Add what a camera adds: exposure, white balance, a little blur and sensor noise."""
    canvas = canvas * (rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    grain = rng.standard_normal((*canvas.shape[:2], 1), np.float32)
    noisy = canvas + grain * np.float32(rng.uniform(0.003, 0.02))
    image = Image.fromarray((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.1)))
    return image


def _lay_all(table: _Table) -> None:
    """Lay things and fruit in a random order; a plate, if any, lies at the bottom."""
    rng, short_px = table.rng, table.short_px
    if rng.random() >= SHARE_WITHOUT_FRUIT:
        fruit_count = int(rng.choice([1, 2, 3, 4, 5], p=[0.2, 0.28, 0.26, 0.16, 0.1]))
        thing_count = int(rng.integers(0, 4))
    else:
        fruit_count, thing_count = 0, int(rng.integers(2, 6))
    fruit = [CLASSES[int(i)] for i in rng.integers(len(CLASSES), size=fruit_count)]
    things = [THINGS[int(i)] for i in rng.integers(len(THINGS), size=thing_count)]
    if rng.random() < 0.25:
        table.add_thing(PLATE, rng.uniform(0.25, 0.45) * short_px)
    order = fruit + things
    for i in rng.permutation(len(order)):
        if isinstance(order[i], tuple):
            table.add_thing(order[i], rng.uniform(0.09, 0.24) * short_px)
        else:
            longer = 1.35 if order[i] == "banana" else 1.0
            share = math.exp(rng.uniform(math.log(0.09), math.log(0.25)))
            table.add_fruit(order[i], longer * share * short_px)


def draw_scene(seed: int, index: int, size_px: int) -> Scene:
    """Draw image `index` of the demo with `seed`; its longer side is `size_px`.

    The generator starts anew for each image, so that an image does not depend on how many there
    are.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index])
    short_px = size_px * 3 // 4
    sizes = ((size_px, size_px), (size_px, short_px), (short_px, size_px))
    width_px, height_px = sizes[int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
    table = _Table(rng, width_px, height_px)
    _lay_all(table)
    boxes = [_box(fruit, width_px, height_px) for fruit in table.fruit]
    return Scene(_camera(rng, table.canvas), boxes, [fruit.mask for fruit in table.fruit])


def _box(fruit: _Placed, width_px: int, height_px: int) -> Box:
    """Return the label of a fruit: one cut by the border is truncated, a hidden one occluded."""
    cut = np.count_nonzero(fruit.mask) < 0.99 * fruit.whole_px
    hidden = np.count_nonzero(fruit.seen) < 0.97 * np.count_nonzero(fruit.mask)
    edges = tuple(float(edge) for edge in fruit.xyxy_px)
    return Box(fruit.class_name, edges, truncated=bool(cut), occluded=bool(hidden))


# The files of the demo source.

JPEG_QUALITY = 92
SMALLEST_SIZE_PX = 64
MARKER = ".drawn.json"
SMALLEST_POOL = 24  # images; below this the workers take longer to start than the drawing


def draw_demo(folder: Path, images: int, size_px: int, seed: int) -> int:
    """Draw `images` images `fruit_NNNNN.jpg` with Pascal VOC labels beside them into `folder`.

    The longer side of each is `size_px` (at least 64). Image N depends on `seed`, `size_px` and N
    alone. What an earlier call with other values left over is removed; files of other names are not
    touched.

    Returns:
        How many were drawn: 0 when `folder` holds exactly these already.

    Raises:
        DetectorError: These values cannot be drawn.
    """
    _check_values(images, size_px)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"schema": 1, "images": images, "size_px": size_px, "seed": seed,
              "code_sha256": _code_sha256()}
    marker = _read_marker(folder)
    files = marker.pop("files", {})
    if marker == wanted and all(_is_whole(folder / name, digest) for name, digest in files.items()):
        return 0
    drawn = _draw_all(folder, images, size_px, seed)
    for name in files.keys() - drawn.keys():
        (folder / name).unlink(missing_ok=True)
    write_json(folder / MARKER, {**wanted, "files": drawn})
    return images


def check_demo_labels(labels: Sequence[str]) -> None:
    """Raise DetectorError when source.labels are given and are not the classes of the demo."""
    if labels and set(labels) != set(CLASSES):
        raise DetectorError(
            f"source.labels are {', '.join(labels)}, the drawn images show {', '.join(CLASSES)}: "
            '[source] in detector.toml: for your own images set kind = "folder" and path to their '
            "folder; for the drawn ones set labels = []")


def draw_image(index: int, size_px: int, seed: int) -> tuple[str, bytes, bytes]:
    """Return the name of an image without ending, and the bytes of its JPEG and label file."""
    scene = draw_scene(seed, index, size_px)
    name = f"fruit_{index:05d}"
    jpeg = io.BytesIO()
    scene.image.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    label = voc_xml("demo", f"{name}.jpg", *scene.image.size, tuple(scene.boxes))
    return name, jpeg.getvalue(), label


def _draw_all(folder: Path, images: int, size_px: int, seed: int) -> dict[str, str]:
    """Draw and write all images; return the SHA-256 of each file by its name."""
    draw = partial(draw_image, size_px=size_px, seed=seed)
    drawn = map_items(draw, range(images), "drawing", smallest_pool=SMALLEST_POOL)
    digests = {}
    for name, jpeg, xml in drawn:
        for ending, data in ((".jpg", jpeg), (".xml", xml)):
            write_bytes(folder / (name + ending), data)
            digests[name + ending] = hashlib.sha256(data).hexdigest()
    return digests


def _check_values(images: int, size_px: int) -> None:
    if images < 1:
        raise DetectorError(f"images = {images} is too few: [demo] in detector.toml: "
                            "set demo.images to 1 or more")
    if size_px < SMALLEST_SIZE_PX:
        raise DetectorError(f"size_px = {size_px} is too small to see a fruit: [demo] in "
                            f"detector.toml: set demo.size_px to {SMALLEST_SIZE_PX} or more")


def _code_sha256() -> str:
    """Return a digest of the code that draws: with other code the images are drawn again."""
    here = Path(__file__).parent
    parts = [*sorted(here.glob("*.py")), here.parent / "formats/voc.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def _read_marker(folder: Path) -> dict:
    """Return what the last complete call noted in `folder`; {} when there is nothing usable."""
    try:
        noted = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) and isinstance(noted.get("files"), dict) else {}


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest

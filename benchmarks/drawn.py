"""Images for benchmarks: as noisy as photographs, with Pascal VOC label files, the same for the
same arguments."""

import io
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("apple", "banana", "orange", "pear", "plum")
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def draw_set(folder: Path, count: int, size_px: tuple[int, int]) -> None:
    """Write `count` JPEG files of `size_px` with an .xml beside each into
    `folder`/{train,validation,test}."""
    splits = [split for split, share in SHARES.items() for _ in range(round(count * share))]
    splits += ["train"] * (count - len(splits))
    for split in SHARES:
        (folder / split).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(
            partial(_draw_one, folder, size_px), range(count), splits[:count], chunksize=64):
            pass


def _draw_one(folder: Path, size_px: tuple[int, int], number: int, split: str) -> None:
    name = f"image_{number:06d}"
    (folder / split / f"{name}.jpg").write_bytes(_jpeg(number, size_px))
    (folder / split / f"{name}.xml").write_text(_voc(number, name, size_px), encoding="utf-8")


def _jpeg(number: int, size_px: tuple[int, int]) -> bytes:
    """Blobs of several sizes and some grain: a JPEG of 500 x 375 has about 60 kB, as photographs
    have."""
    noise = np.random.default_rng(number)
    total = np.zeros((size_px[1], size_px[0], 3), np.float32)
    for cells, weight in ((4, 1.0), (16, 0.5), (64, 0.2)):
        coarse = Image.fromarray(noise.integers(0, 256, (cells, cells, 3), np.uint8))
        total += weight * np.asarray(coarse.resize(size_px, Image.Resampling.BICUBIC), np.float32)
    total = total / 1.7 + noise.standard_normal(total.shape, np.float32) * 5
    buffer = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _voc(number: int, name: str, size_px: tuple[int, int]) -> str:
    """A label file with one to five boxes, its tags in the order in which labelImg writes them."""
    chance = random.Random(number)
    lines = ["<annotation>", "\t<folder>x</folder>", f"\t<filename>{name}.jpg</filename>"]
    lines += [f"\t<path>/x/{name}.jpg</path>"]
    lines += ["\t<source>", "\t\t<database>Unknown</database>", "\t</source>", "\t<size>"]
    lines += [f"\t\t<width>{size_px[0]}</width>", f"\t\t<height>{size_px[1]}</height>"]
    lines += ["\t\t<depth>3</depth>", "\t</size>"]
    lines += ["\t<segmented>0</segmented>"]
    for _ in range(chance.randint(1, 5)):
        corners = [sorted(chance.sample(range(side + 1), 2)) for side in size_px]
        (xmin, xmax), (ymin, ymax) = corners
        lines += ["\t<object>", f"\t\t<name>{chance.choice(CLASSES)}</name>",
                  "\t\t<pose>Unspecified</pose>"]
        lines += ["\t\t<truncated>0</truncated>", "\t\t<difficult>0</difficult>", "\t\t<bndbox>"]
        values = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
        lines += [f"\t\t\t<{tag}>{value}</{tag}>" for tag, value in values.items()]
        lines += ["\t\t</bndbox>", "\t</object>"]
    return "\n".join([*lines, "</annotation>", ""])

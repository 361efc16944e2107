"""Images that are complete: what Pillow has decoded of them, TensorFlow decodes too."""

import io
import random
import warnings

import numpy as np
import pytest
from PIL import Image

from scripts.data.image_files import is_complete


def encoded(form: str, mode: str = "RGB", **options) -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((64, 48)).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


KINDS = {
    "baseline": ("jpeg", encoded("JPEG")),
    "progressive": ("jpeg", encoded("JPEG", progressive=True)),
    "restart marks": ("jpeg", encoded("JPEG", restart_marker_blocks=2)),
    "gray": ("jpeg", encoded("JPEG", "L")),
    "cmyk": ("jpeg", encoded("JPEG", "CMYK")),
    "comment": ("jpeg",
                encoded("JPEG", comment=b"\xff\x00\xff\xd9", exif=b"Exif\0\0MM\0*" + bytes(40))),
    "png": ("png", encoded("PNG")),
    "png of 16 bit": ("png", encoded("PNG", "I;16")),
    "png with a palette": ("png", encoded("PNG", "P")),
    "png with alpha": ("png", encoded("PNG", "RGBA")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_complete_until_its_end_is_cut_off(kind):
    form, data = KINDS[kind]
    assert is_complete(data, form)
    assert is_complete(data + b"trailing bytes, as cameras leave them", form)
    assert not any(is_complete(data[:length], form) for length in range(len(data) - 2))


def test_damage_that_hides_the_end():
    data = KINDS["baseline"][1]
    assert not is_complete(data[:-2] + b"\xff\xd5",
                           "jpeg"), "a restart mark in place of the end mark"
    swallowed = bytearray(data)
    swallowed[-20:-16] = b"\xff\xe8\x64\xc5"  # a segment longer than the rest of the file
    assert not is_complete(bytes(swallowed), "jpeg")
    broken = bytearray(KINDS["png"][1])
    broken[len(broken) // 2] ^= 1
    assert not is_complete(bytes(broken), "png")
    assert not is_complete(b"", "jpeg") and not is_complete(b"", "png")


@pytest.mark.slow
def test_tensorflow_decodes_every_complete_image_that_pillow_decodes():
    import tensorflow as tf

    chance, tried = random.Random(7), 0
    for _ in range(4000):
        form, data = KINDS[chance.choice(list(KINDS))]
        damaged = damage(bytearray(data), chance)
        if not is_complete(damaged, form):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(io.BytesIO(damaged))
                image.load()
        except Exception:  # as Pillow's decoders do
            continue
        height_px, width_px, _ = tf.io.decode_image(damaged, channels=3,
                                                    expand_animations=False).shape
        assert (width_px, height_px) == image.size
        tried += 1
    assert tried > 1000


def damage(data: bytearray, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    kind = chance.choice(["flip", "flip", "insert", "delete"])
    if kind == "flip":
        for spot in (at, *chance.sample(range(len(data)), 2)):
            data[spot] = chance.randrange(256)
    elif kind == "insert":
        data[at:at] = chance.randbytes(3)
    else:
        del data[at : at + 3]
    return bytes(data)

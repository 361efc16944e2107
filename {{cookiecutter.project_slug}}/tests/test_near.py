"""Near-duplicates: the same photograph in another form is found, another image of the same
place is not."""

import io
import random

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from scripts.data.duplicates import near_groups, signature
from scripts.data.image_files import inspect_bytes

SIZE = (320, 240)


def scene(seed: int, ground=None, things: int = 40) -> Image.Image:
    """An image full of colored things; `ground` is its color (None: one that depends on the seed).
    """
    chance = random.Random(seed)
    image = Image.new("RGB", SIZE, ground or tuple(chance.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(things):
        left, top = chance.randrange(-20, SIZE[0]), chance.randrange(-20, SIZE[1])
        box = (left, top, left + chance.randrange(10, 90), top + chance.randrange(10, 90))
        draw = chance.choice((pen.ellipse, pen.rectangle))
        draw(box, tuple(chance.randrange(256) for _ in range(3)))
    # photographs are softer
    return ImageEnhance.Color(image.filter(ImageFilter.GaussianBlur(2))).enhance(0.6)


def with_thing(image: Image.Image, left: float, top: float, side: float,
               color="white") -> Image.Image:
    """A square of `side`, all in parts of the image, on a copy of it."""
    drawn, (width, height) = image.copy(), image.size
    corner = (round(left * width), round(top * height))
    ImageDraw.Draw(drawn).rectangle((*corner, corner[0] + side * width, corner[1] + side * width),
                                    color, "black")
    return drawn


def saved(image: Image.Image, form: str = "JPEG", **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize(tuple(round(side * factor) for side in image.size),
                        Image.Resampling.LANCZOS)


def cropped(image: Image.Image, part: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(part * width), 0, width, round((1 - part) * height)))


def groups(*images: Image.Image) -> list[int]:
    return near_groups([signature(image) for image in images])


VARIATIONS = {
    "jpeg 95": lambda image: saved(image, quality=95),
    "jpeg 60": lambda image: saved(image, quality=60),
    "jpeg 30": lambda image: saved(image, quality=30),
    "webp": lambda image: saved(image, "WEBP", quality=70),
    "png": lambda image: saved(image, "PNG"),
    "0.3 times as large": lambda image: saved(scaled(image, 0.3)),
    "0.7 times as large": lambda image: saved(scaled(image, 0.7)),
    "3 times as large": lambda image: saved(scaled(image, 3)),
    "5 % brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.05)),
    "5 % darker": lambda image: saved(ImageEnhance.Brightness(image).enhance(0.95)),
    "1 % cropped": lambda image: saved(cropped(image, 0.01)),
    "2 % cropped": lambda image: saved(cropped(image, 0.02)),
    "cropped, smaller, darker": lambda image: saved(
        scaled(cropped(ImageEnhance.Brightness(image).enhance(0.95), 0.01), 0.5), quality=60
    ),
}
ROOM, WHITE = scene(1), scene(2, "white", 3)
SHADE = Image.linear_gradient("L").resize(SIZE).convert("RGB")
OTHERS = {
    "two images": (scene(3), scene(4)),
    "two on white ground": (scene(5, "white", 3), scene(6, "white", 3)),
    "two in the dark": tuple(ImageEnhance.Brightness(scene(seed)).enhance(0.08) for seed in (7, 8)),
    "a thing appeared, 4 %": (ROOM, with_thing(ROOM, 0.61, 0.52, 0.04)),
    "a thing appeared, 20 %": (ROOM, with_thing(ROOM, 0.3, 0.2, 0.2)),
    "a thing moved, 5 %": (with_thing(WHITE, 0.3, 0.4, 0.05, "red"),
                           with_thing(WHITE, 0.36, 0.4, 0.05, "red")),
    "a thing moved on a shade": (with_thing(SHADE, 0.3, 0.4, 0.05),
                                 with_thing(SHADE, 0.33, 0.42, 0.05)),
    "a lamp of another color": (
        with_thing(WHITE, 0.4, 0.4, 0.2, "#00a000"),
        with_thing(WHITE, 0.4, 0.4, 0.2, "#c04040"),
    ),
    "a thing moved in the dark": tuple(
        ImageEnhance.Brightness(with_thing(ROOM, left, 0.4, 0.06, "red")).enhance(0.08)
                                       for left in (0.3, 0.45)
    ),
    "nearly one color": tuple(Image.blend(Image.new("RGB", SIZE, "gray"), SHADE, part)
                              for part in (0.02, 0.021)),
    "one color": (Image.new("RGB", SIZE, "gray"), Image.new("RGB", SIZE, "gray")),
    "black frames with noise": tuple(Image.effect_noise(SIZE, 4).convert("RGB") for _ in range(2)),
    "mirrored": (ROOM, ROOM.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


@pytest.mark.parametrize("name", VARIATIONS)
@pytest.mark.parametrize("original", [scene(seed) for seed in range(10, 14)])
def test_a_copy_in_another_form_is_found(name, original):
    images = [scene(20), original, scene(21), VARIATIONS[name](original)]
    assert groups(*images) == [0, 1, 2, 1]


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_are_told_apart(name):
    assert groups(*(saved(image, quality=85) for image in OTHERS[name])) == [0, 1]


def test_a_turned_copy_is_the_same_image_whatever_the_setting():
    def data(image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        return buffer.getvalue()

    tags = Image.Exif()
    tags[0x0112] = 6  # stored a quarter turn against the clock
    turned = data(ROOM.transpose(Image.Transpose.ROTATE_90), exif=tags)
    for exif in ("stored", "displayed"):
        found = [inspect_bytes(one, exif, signed=True)[0].signature for one in (data(ROOM), turned)]
        assert near_groups(found) == [0, 0]


def test_a_fixed_camera_is_not_one_group():
    chance, frames = random.Random(1), []
    for _ in range(150):
        frames.append(with_thing(ROOM, chance.random() * 0.9, chance.random() * 0.7, 0.06,
                                 "yellow"))
    copies = [saved(frame, quality=70) for frame in frames[:30]]
    found = groups(*frames, *copies)
    assert [found[150 + index] for index in range(30)] == found[:30]
    assert max(found.count(one) for one in found) <= 10


def test_a_camera_that_sees_nothing_is_one_group():
    assert set(groups(*(saved(ROOM, quality=quality) for quality in range(36, 96)))) == {0}


def test_a_slow_change_does_not_chain_everything():
    evening = [saved(ImageEnhance.Brightness(ROOM).enhance(1 - index / 150))
               for index in range(120)]
    found = groups(*evening)
    assert found[0] != found[-1] and 2 <= len(set(found)) <= 40


def test_the_order_does_not_matter():
    originals = [scene(seed) for seed in range(30, 38)]
    signatures = [signature(saved(one, quality=quality)) for one in originals
                  for quality in (95, 60, 40)]
    signatures += [signature(frame) for frame in (ROOM, ROOM, Image.new("RGB", SIZE))]

    def sets(order):
        found = near_groups([signatures[index] for index in order])
        together = {}
        for index, group in zip(order, found, strict=True):
            together.setdefault(group, set()).add(index)
        return sorted(map(sorted, together.values()))

    order = list(range(len(signatures)))
    expected = sets(order)
    assert [len(one) for one in expected] == [3] * 8 + [2, 1]
    for seed in range(5):
        random.Random(seed).shuffle(order)
        assert sets(order) == expected


def test_the_number_of_a_group_is_its_first_image():
    assert groups(ROOM, WHITE, ROOM, SHADE, WHITE) == [0, 1, 0, 3, 1]


def test_images_without_signature_are_alone():
    assert near_groups([]) == [] and near_groups([b"", b"", signature(ROOM), b""]) == [0, 1, 2, 3]

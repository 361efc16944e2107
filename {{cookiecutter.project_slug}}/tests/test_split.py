"""Who goes to train, validation and test."""

import io
import random
import shutil
from collections import Counter

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from scripts.core.text import DetectorError
from scripts.data.duplicates import near_groups, signature
from scripts.data.image_files import inspect_bytes
from scripts.data.split import Group, assign


def groups(*classes: str) -> list[Group]:
    """One group a text; each letter is a class."""
    return [Group(f"{index:03d}", set(text)) for index, text in enumerate(classes)]


def shares(found: list[Group]) -> Counter:
    return Counter(group.split for group in found)


def test_shares_are_met_for_images_and_for_each_class():
    found = groups(*["a"] * 100, *["b"] * 40, *["ab"] * 40, *[""] * 20)
    assign(found, 0.15, 0.15, seed=1)
    for split, wanted in (("train", 140), ("validation", 30), ("test", 30)):
        assert abs(shares(found)[split] - wanted) <= 2
    for name in "ab":
        images = Counter()
        for group in found:
            images[group.split] += name in group.classes
        assert abs(images["test"] / images.total() - 0.15) < 0.03


@pytest.mark.parametrize(("images", "wanted"), [
    (1, {"train"}), (2, {"train", "test"}), (3, {"train", "test", "validation"}),
])  # fmt: skip
def test_a_rare_class_stands_in_every_split_that_it_can_fill(images, wanted):
    found = groups(*["a"] * 200, *["r"] * images)
    assign(found, 0.1, 0.1, seed=1)
    assert {group.split for group in found if "r" in group.classes} == wanted


def test_the_order_of_files_has_no_say_and_the_seed_has():
    def chosen(seed, backwards=False):
        found = groups(*["a"] * 60)
        assign(found[::-1] if backwards else found, 0.2, 0.2, seed)
        return {group.key: group.split for group in found}

    assert chosen(1) == chosen(1, backwards=True) != chosen(2)


def test_a_share_of_zero_leaves_the_split_empty():
    found = groups(*["a"] * 10)
    assign(found, 0.2, 0.0, seed=1)
    assert set(shares(found)) == {"train", "validation"}


def test_new_groups_go_where_most_is_missing():
    found = groups(*["a"] * 20)
    for group in found[:14]:
        group.split = "train"
    assign(found, 0.15, 0.15, seed=1)
    assert shares(found) == {"train": 14, "validation": 3, "test": 3}


def test_the_split_of_a_source_is_respected_and_validation_carved_out_of_train(project):
    for index in range(20):
        project.add(f"train/t{index}.jpg")
    for index in range(5):
        project.add(f"Test/x{index}.jpg")
    project.organize()
    splits = project.splits()
    assert all(splits[f"x{index}"] == "test" for index in range(5))
    assert Counter(splits.values()) == {"train": 17, "validation": 3, "test": 5}


@pytest.mark.parametrize("name", ["val", "valid", "dev", "Validation"])
def test_validation_folders_have_many_names(project, name):
    for folder in ("train", name, "test"):
        project.add(f"{folder}/images/{folder}.jpg", label=f"{folder}/labels/{folder}.xml")
    project.organize()
    assert project.splits() == {"train": "train", name: "validation", "test": "test"}


def test_merge_validation_pools_it_into_train_first(project):
    for index in range(10):
        project.add(f"train/t{index}.jpg")
        project.add(f"valid/v{index}.jpg")
    project.add("test/x.jpg")
    project.organize(merge_validation=True)
    splits = project.splits()
    assert splits["x"] == "test" and Counter(splits.values())["validation"] == 3
    assert {splits[f"v{index}"] for index in range(10)} == {"train", "validation"}


@pytest.mark.parametrize("folder", ["validation", "train", "images"])
def test_a_source_with_one_folder_is_pooled(project, folder):
    for index in range(20):
        project.add(f"{folder}/{index}.jpg")
    project.organize()
    assert Counter(project.splits().values()) == {"train": 14, "validation": 3, "test": 3}


def test_modes_hash_and_source(project):
    for index in range(10):
        project.add(f"train/t{index}.jpg")
        project.add(f"test/x{index}.jpg")
    project.organize({"mode": "hash"})
    assert Counter(project.splits().values()) == {"train": 14, "validation": 3, "test": 3}
    (project.source / "train").rename(project.source / "photos")
    with pytest.raises(DetectorError, match="there is no train folder"):
        project.organize({"mode": "source"})


def test_what_is_assigned_stays_when_settings_change(project):
    for index in range(20):
        project.add(f"{index}.jpg")
    project.organize()
    before = project.splits()
    project.organize({"seed": 99, "validation": 0.4})
    assert project.splits() == before


def test_equal_images_in_two_splits_of_the_source_stay_for_check_to_name(project):
    data = project.bytes_of("same")
    project.add("train/a.jpg", data=data)
    project.add("train/b.jpg")
    project.add("test/c.jpg", data=data)
    for _ in range(2):
        project.organize()
        assert (project.splits()["a"], project.splits()["c"]) == ("train", "test")


def test_an_image_that_changes_its_folder_stays_where_it_was_first(project):
    for name in ("train/a.jpg", "train/b.jpg", "valid/c.jpg", "test/d.jpg"):
        project.add(name)
    project.organize()
    shutil.rmtree(project.root / "images")
    for suffix in (".jpg", ".xml"):
        (project.source / f"train/a{suffix}").rename(project.source / f"test/a{suffix}")
    project.organize()
    assert project.splits()["a"] == "train" and project.findings() == [("W110", "test/a.jpg", 0)]


def test_a_broken_split_file_is_one_line(project):
    project.add("a.jpg")
    (project.root / "annotations").mkdir()
    (project.root / "annotations/split.csv").write_text("sha256,split\nabc,tset\n")
    with pytest.raises(DetectorError, match="annotations/split.csv:2"):
        project.organize()


def test_one_crowded_image_does_not_tip_the_balance(project):
    project.add("crowd.jpg", [("apple", (1, 1, 2 + index % 30, 9)) for index in range(200)])
    for index in range(39):
        project.add(f"{index}.jpg")
    project.organize()
    assert Counter(project.splits().values()) == {"train": 28, "validation": 6, "test": 6}


def scene(seed: int, quality: int = 90, size: tuple[int, int] = (240, 160)) -> bytes:
    """A drawn scene of colored rectangles, the same for one seed."""
    rng = random.Random(seed)
    image = Image.new("RGB", (240, 160), tuple(rng.randrange(256) for _ in range(3)))
    for _ in range(12):
        x, y = rng.randrange(200), rng.randrange(120)
        color = tuple(rng.randrange(256) for _ in range(3))
        image.paste(color, (x, y, x + rng.randrange(20, 90), y + rng.randrange(20, 60)))
    buffer = io.BytesIO()
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def warnings(project) -> list[tuple[str, str, int]]:
    """What organize found without repairs: the label files of the fixture state another size."""
    return [found for found in project.findings() if not found[0].startswith("R")]


def test_nearly_identical_images_stay_on_one_side(project):
    for index in range(12):
        project.add(f"{index}.jpg", data=scene(index))
        project.add(f"{index}_small.jpg", data=scene(index, 60, (180, 120)))
    project.organize()
    splits = project.splits()
    assert all(splits[str(index)] == splits[f"{index}_small"] for index in range(12))
    assert set(splits.values()) == {"train", "validation", "test"} and warnings(project) == []
    assert sum(code == "R216" for code, _, _ in project.findings()) == 12


def test_a_new_image_goes_where_its_near_duplicate_is(project):
    for index in range(9):
        project.add(f"{index}.jpg", data=scene(index))
    project.organize()
    before = project.splits()
    for index in range(9):
        project.add(f"{index}_small.jpg", data=scene(index, 60, (180, 120)))
    project.organize()
    assert all(project.splits()[f"{index}_small"] == before[str(index)] for index in range(9))


def test_across_a_split_of_the_source_they_are_a_warning(project):
    for index in range(8):
        project.add(f"train/{index}.jpg", data=scene(index))
    project.add("test/t.jpg", data=scene(3, 60, (180, 120)))
    project.add("test/u.jpg", data=scene(99))
    project.organize()
    assert warnings(project) == [("W113", "test/t.jpg", 0)]
    assert project.splits()["t"] == "test" and project.splits()["3"] in ("train", "validation")


def test_frames_of_a_fixed_camera_are_dealt_to_all_splits(project):
    ground = Image.open(io.BytesIO(scene(5))).convert("RGB")
    for index in range(20):
        frame = ground.copy()
        frame.paste((255, 240, 0), (11 * index, 40, 11 * index + 14, 54))
        buffer = io.BytesIO()
        frame.save(buffer, "JPEG", quality=90)
        project.add(f"frame{index:02}.jpg", data=buffer.getvalue())
    project.organize()
    assert Counter(project.splits().values()) == {"train": 14, "validation": 3, "test": 3}


# Near-duplicates: the same photograph in another form is found, another image of the same
# place is not.


SIZE = (320, 240)


def scene_of_near(seed: int, ground=None, things: int = 40) -> Image.Image:
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


def groups_of_near(*images: Image.Image) -> list[int]:
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
ROOM, WHITE = scene_of_near(1), scene_of_near(2, "white", 3)
SHADE = Image.linear_gradient("L").resize(SIZE).convert("RGB")
OTHERS = {
    "two images": (scene_of_near(3), scene_of_near(4)),
    "two on white ground": (scene_of_near(5, "white", 3), scene_of_near(6, "white", 3)),
    "two in the dark": tuple(
        ImageEnhance.Brightness(scene_of_near(seed)).enhance(0.08) for seed in (7, 8)),
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
@pytest.mark.parametrize("original", [scene_of_near(seed) for seed in range(10, 14)])
def test_a_copy_in_another_form_is_found(name, original):
    images = [scene_of_near(20), original, scene_of_near(21), VARIATIONS[name](original)]
    assert groups_of_near(*images) == [0, 1, 2, 1]


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_are_told_apart(name):
    assert groups_of_near(*(saved(image, quality=85) for image in OTHERS[name])) == [0, 1]


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
    found = groups_of_near(*frames, *copies)
    assert [found[150 + index] for index in range(30)] == found[:30]
    assert max(found.count(one) for one in found) <= 10


def test_a_camera_that_sees_nothing_is_one_group():
    assert set(groups_of_near(*(saved(ROOM, quality=quality) for quality in range(36, 96)))) == {0}


def test_a_slow_change_does_not_chain_everything():
    evening = [saved(ImageEnhance.Brightness(ROOM).enhance(1 - index / 150))
               for index in range(120)]
    found = groups_of_near(*evening)
    assert found[0] != found[-1] and 2 <= len(set(found)) <= 40


def test_the_order_does_not_matter():
    originals = [scene_of_near(seed) for seed in range(30, 38)]
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
    assert groups_of_near(ROOM, WHITE, ROOM, SHADE, WHITE) == [0, 1, 0, 3, 1]


def test_images_without_signature_are_alone():
    assert near_groups([]) == [] and near_groups([b"", b"", signature(ROOM), b""]) == [0, 1, 2, 3]

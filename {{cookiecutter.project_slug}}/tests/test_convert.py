"""`invoke convert`, and round trips through all pairs of formats: nothing gets lost."""

import json
import shutil
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from conftest import image_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.core.text import DetectorError
from scripts.data.dataset import Box, Image
from scripts.data.formats.voc import FLAGS, voc_xml
from scripts.data.formats.yolo import name_classes
from scripts.data.labels import read_label_file
from scripts.tools.convert import WRITERS, convert

SUFFIX_OF = {"coco": ".json", "yolo": ".txt", "voc": ".xml"}
NAMES = ["apple", "bell pepper", "Kitchen & dining room table", 'a "quoted" name', "it's", "Äpfel",
         "林檎", "🍎", "a, b", "7 up", "5", "no", "null", "# hash", "- dash", "a: b", "<b>",
         "tab\there", "{x}", "NaN", "a;b", "class_3"]  # fmt: skip


def pixels(box: Box, entry, size: tuple[int, int]) -> Box:
    if not entry.fractions:
        return box
    return replace(
        box, xyxy_px=tuple(value * side for value, side in zip(box.xyxy_px, size * 2, strict=True))
    )


def read_back(folder: Path, to: str, images: list[Image]) -> list[Image]:
    """The images as our readers see them, paired by split and name, in the order of `images`."""
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    labels = [read_label_file((str(path), to)) for path in paths if path.suffix == SUFFIX_OF[to]]
    labels, notes = name_classes(
        labels, [path for path in paths if path.suffix not in SUFFIX_OF.values()], folder
    )
    assert not notes and not [file.error for file in labels if file.error]
    entries = {}
    for file in labels:
        split = next(
            part
            for part in ("train", "validation", "test")
            if part in str(file.path.relative_to(folder))
        )
        for entry in file.entries:
            assert not entry.notes
            entries[split, Path(entry.image or file.path.name).stem] = entry
    assert len(entries) == len(images)
    found = []
    for image in images:
        entry, size = entries[image.split, image.path.stem], (image.width_px, image.height_px)
        assert to == "yolo" or (entry.width_px, entry.height_px) == size
        found.append(replace(image, boxes=tuple(pixels(box, entry, size) for box in entry.boxes)))
    return found


@st.composite
def spans(draw, side):
    """Two edges, low before high: whole, with few decimals or any, often on the border."""
    edge = st.one_of(
        st.sampled_from([0.0, float(side)]),
        st.integers(0, side).map(float),
        st.integers(0, 100 * side).map(lambda value: value / 100),
        st.floats(0, side),
    )
    low, high = sorted((draw(edge), draw(edge)))
    return (low, high) if high - low > 1e-3 else (0.0, float(side))


@st.composite
def boxes(draw, size):
    (xmin, xmax), (ymin, ymax) = draw(spans(size[0])), draw(spans(size[1]))
    flags = {flag: draw(st.booleans()) for flag in FLAGS} if draw(st.booleans()) else {}
    return Box(draw(st.sampled_from(NAMES)), (xmin, ymin, xmax, ymax), **flags)


@st.composite
def data_sets(draw):
    found = []
    for number in range(draw(st.integers(1, 4))):
        size = draw(
            st.sampled_from([(1, 1), (3, 7), (640, 480), (333, 1000), (4608, 3456), (8191, 8191)])
        )
        split = draw(st.sampled_from(["train", "validation", "test"]))
        name = f"{draw(st.sampled_from(['a', 'ä b', 'a#1', 'a.b', '%20']))}-{number}.jpg"
        found.append(
            Image(Path(name), *size, tuple(draw(st.lists(boxes(size), max_size=5))), split=split)
        )
    return found


def ids_of(images: list[Image]) -> dict[str, int]:
    names = {box.class_name for image in images for box in image.boxes}
    return {name: 3 * number for number, name in enumerate(sorted(names), start=1)}


def through(formats: tuple[str, ...], images: list[Image]) -> list[Image]:
    ids = ids_of(images)
    for to in formats:
        folder = Path(tempfile.mkdtemp())
        WRITERS[to](folder, images, ids)
        images = read_back(folder, to, images)
        shutil.rmtree(folder)
    return images


@pytest.mark.parametrize("formats", list(product(WRITERS, WRITERS)), ids="-".join)
@given(images=data_sets())
@settings(max_examples=25, deadline=None)
def test_round_trips_lose_nothing(formats, images):
    for before, after in zip(images, through(formats, images), strict=True):
        assert [replace(box, xyxy_px=(), line=0) for box in after.boxes] == [
            replace(box, xyxy_px=(), line=0) for box in before.boxes
        ]
        for old, new in zip(before.boxes, after.boxes, strict=True):
            assert new.xyxy_px == pytest.approx(old.xyxy_px, abs=1e-6)
            assert new.xyxy_px[0] >= 0 and new.xyxy_px[1] >= 0
            assert new.xyxy_px[2] <= before.width_px and new.xyxy_px[3] <= before.height_px


def test_what_is_outside_or_inverted_is_not_repaired_on_the_way():
    strange = (Box("x", (-5.5, 10, 700.25, 20)), Box("x", (50, 60, 40, 30)), Box("x", (5, 5, 5, 5)))
    (after,) = through(
        ("coco", "yolo", "voc"), [Image(Path("a.jpg"), 640, 480, strange, split="train")]
    )
    for old, new in zip(strange, after.boxes, strict=True):
        assert new.xyxy_px == pytest.approx(old.xyxy_px, abs=1e-6)


@pytest.fixture
def root(tmp_path) -> Path:
    """A project with three images in `images/`."""
    crowd = Box("pear", (0, 0, 30, 20), is_crowd=True)
    add(tmp_path, "train", "a.jpg", (Box("bell pepper", (5, 5, 30, 20.5)), crowd))
    add(tmp_path, "validation", "b.png", ())
    add(tmp_path, "test", "c.jpg", (Box("pear", (1, 1, 60, 40)),))
    return tmp_path


def add(root: Path, split: str, name: str, boxes) -> None:
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(image_bytes(name, form="PNG" if name.endswith("png") else "JPEG"))
    (folder / name).with_suffix(".xml").write_bytes(voc_xml(split, name, 60, 40, boxes))


def files_of(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("to", "files"),
    [
        ("coco", ["annotations/instances_test.json", "annotations/instances_train.json",
                  "annotations/instances_validation.json", "test/c.jpg", "train/a.jpg",
                  "validation/b.png"]),
        ("yolo", ["data.yaml", "flags.tsv", "test/images/c.jpg", "test/labels/c.txt",
                  "train/images/a.jpg",
                  "train/labels/a.txt", "validation/images/b.png", "validation/labels/b.txt"]),
        ("voc", ["test/c.jpg", "test/c.xml", "train/a.jpg", "train/a.xml", "validation/b.png",
                 "validation/b.xml"]),
    ],
)  # fmt: skip
def test_what_convert_writes(root, to, files):
    counts = convert(root, to, None, {})
    assert str(counts).startswith("3 images, 3 boxes, 2 classes")
    assert f"images/converted/{to}" in str(counts)
    out = root / "images" / "converted" / to
    assert files_of(out) == [".convert.json", *files]
    copy = next(out.rglob("a.jpg"))
    assert copy.read_bytes() == (root / "images/train/a.jpg").read_bytes()
    copy.write_bytes(b"edited there")
    assert (root / "images/train/a.jpg").read_bytes() != b"edited there"


def test_numbers_follow_the_label_map(root):
    import yaml

    label_map = {2: "pear", 5: "unused"}
    convert(root, "coco", None, label_map)
    convert(root, "yolo", None, label_map)
    out = root / "images" / "converted"
    text = (out / "coco/annotations/instances_train.json").read_text("utf-8")
    categories = json.loads(text)["categories"]
    assert {value["name"]: value["id"] for value in categories} == {
        "pear": 2, "unused": 5, "bell pepper": 6,
    }
    content = yaml.safe_load((out / "yolo/data.yaml").read_text("utf-8"))
    assert content == {"train": "train/images", "val": "validation/images", "test": "test/images",
                       "nc": 3,
                       "names": ["pear", "unused", "bell pepper"]}  # fmt: skip
    assert (out / "yolo/test/labels/c.txt").read_text().split()[0] == "0"


def test_a_second_run_replaces_only_what_is_ours(root, tmp_path):
    out = tmp_path / "elsewhere" / "set"
    convert(root, "yolo", out, {})
    shutil.copy(out / "train/images/a.jpg", root / "kept.jpg")
    (root / "images/train/a.jpg").unlink()
    (root / "images/train/a.xml").unlink()
    convert(root, "coco", out, {})
    assert files_of(out)[1:] == ["annotations/instances_test.json",
                                 "annotations/instances_validation.json",
                                 "test/c.jpg", "validation/b.png"]  # fmt: skip
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DetectorError, match="1 file of yours would be lost, the first 'notes.txt'"):
        convert(root, "yolo", out, {})
    assert (out / "notes.txt").exists() and not list(out.parent.glob(".partial-*"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda root: (root / "images/test/c.xml").write_text("<annotation>"),
            "not well-formed xml",
        ),
        (lambda root: (root / "images/test/c.xml").unlink(), "no label file"),
        (
            lambda root: (root / "images/test/c.jpg").write_bytes(b"x"),
            "1 image cannot be converted",
        ),
        (
            lambda root: add(root, "test", "c.jpg", (Box("pear", (1, 2, float("nan"), 4)),)),
            "not a number: .*c.xml:",
        ),
        (lambda root: add(root, "test", "c.jpg", (Box("", (1, 2, 3, 4)),)), "no class"),
        (lambda root: shutil.rmtree(root / "images"), "no images: images: run `invoke organize`"),
    ],
)
def test_refusals(root, damage, words):
    damage(root)
    with pytest.raises(DetectorError, match=words):
        convert(root, "coco", None, {})
    assert not (root / "images" / "converted" / "coco").exists()


def test_an_unknown_format_is_refused(root):
    with pytest.raises(DetectorError, match="--to 'Coco' is none of coco, yolo, voc"):
        convert(root, "Coco", None, {})

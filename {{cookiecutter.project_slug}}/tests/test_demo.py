"""The demo source: the images that the project draws itself."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data.demo.objects import FRUIT, PLATE, THINGS
from scripts.data.demo.painting import Stamp
from scripts.data.demo.scene import CLASSES, draw_demo, draw_image, draw_scene
from scripts.data.formats.voc import read_voc

SIZE_PX = 96


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(5, index, SIZE_PX) for index in range(80)]


def test_same_values_give_same_bytes_and_another_seed_others():
    assert draw_image(3, SIZE_PX, 7) == draw_image(3, SIZE_PX, 7)
    assert draw_image(3, SIZE_PX, 7)[1] != draw_image(3, SIZE_PX, 8)[1]
    assert draw_image(3, SIZE_PX, 7)[1] != draw_image(4, SIZE_PX, 7)[1]


def test_boxes_lie_in_the_image_and_fit_the_outline_to_the_pixel(scenes):
    for scene in scenes:
        width_px, height_px = scene.image.size
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            xmin, ymin, xmax, ymax = (int(edge) for edge in box.xyxy_px)
            assert 0 <= xmin < xmax <= width_px and 0 <= ymin < ymax <= height_px
            inner = mask[ymin:ymax, xmin:xmax]
            assert inner.sum() == mask.sum()
            assert inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any()


def test_outline_is_where_the_fruit_is_painted(monkeypatch):
    # A class painted in a color that nothing else has: the box must be where that color is seen.
    def draw_square(stamp):
        stamp.paint(np.maximum(np.abs(stamp.x), np.abs(stamp.y)) - 0.9, (0.0, 1.0, 1.0))

    for name in CLASSES:
        monkeypatch.setitem(FRUIT, name, (draw_square, 1.4))
    found = 0
    for index in range(30):
        scene = draw_scene(1, index, 128)
        if len(scene.boxes) != 1 or scene.boxes[0].occluded:
            continue
        red, green, blue = np.moveaxis(np.asarray(scene.image, np.int16), 2, 0)
        cyan = (red < 60) & (green > 150) & (blue > 150) & scene.masks[0]
        rows, columns = np.flatnonzero(cyan.any(axis=1)), np.flatnonzero(cyan.any(axis=0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.subtract(seen, scene.boxes[0].xyxy_px)).max() <= 2
        found += 1
    assert found >= 2


def test_every_class_occurs_and_some_images_show_none(scenes):
    assert {box.class_name for scene in scenes for box in scene.boxes} == set(CLASSES)
    without = sum(not scene.boxes for scene in scenes)
    assert 1 <= without <= len(scenes) // 5
    assert max(len(scene.boxes) for scene in scenes) <= 5


def test_truncated_and_occluded_fruit_occur_and_are_marked(scenes):
    boxes = [(box, scene.image.size) for scene in scenes for box in scene.boxes]
    assert any(box.occluded for box, _ in boxes) and any(not box.occluded for box, _ in boxes)
    for box, (width_px, height_px) in boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        assert not box.truncated or xmin == 0 or ymin == 0 or xmax == width_px or ymax == height_px
    assert any(box.truncated for box, _ in boxes)


def test_nothing_is_cut_off_by_its_own_stamp():
    rng = np.random.default_rng(0)
    for draw, reach in [*FRUIT.values(), *THINGS, PLATE]:
        for _ in range(25):
            stamp = Stamp(20, reach, rng.uniform(-3, 3), (0.0, 0.6, 0.8), rng)
            draw(stamp)
            border = (stamp.alpha[0], stamp.alpha[-1], stamp.alpha[:, 0], stamp.alpha[:, -1])
            assert max(edge.max() for edge in border) < 0.5, draw.__name__


def test_folder_holds_images_with_their_labels(tmp_path):
    folder = tmp_path / "new" / "ümlaut"
    assert draw_demo(folder, 3, SIZE_PX, 7) == 3
    assert sorted(path.suffix for path in folder.glob("fruit_*")) == [".jpg"] * 3 + [".xml"] * 3
    for path in folder.glob("*.jpg"):
        label = read_voc(path.with_suffix(".xml"))
        with Image.open(path) as image:
            assert image.format == "JPEG" and image.size == (label.width_px, label.height_px)
            assert max(image.size) == SIZE_PX
        assert label.image == path.name


def test_image_does_not_depend_on_the_count_and_leftovers_go(tmp_path):
    def digests():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in tmp_path.glob("fruit_*")}

    draw_demo(tmp_path, 5, SIZE_PX, 7)
    five = digests()
    (tmp_path / "mine.jpg").write_bytes(b"not of the demo")
    assert draw_demo(tmp_path, 2, SIZE_PX, 7) == 2
    assert digests() == {name: digest for name, digest in five.items()
                         if name[:11] in ("fruit_00000", "fruit_00001")}
    assert (tmp_path / "mine.jpg").exists()


def test_second_run_draws_nothing_and_a_damaged_file_is_drawn_again(tmp_path):
    draw_demo(tmp_path, 2, SIZE_PX, 7)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert draw_demo(tmp_path, 2, SIZE_PX, 7) == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    image = tmp_path / "fruit_00001.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    assert draw_demo(tmp_path, 2, SIZE_PX, 7) == 2
    assert image.read_bytes() == whole


def test_worker_processes_draw_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.data.demo.scene.SMALLEST_POOL", 1)
    draw_demo(tmp_path, 2, SIZE_PX, 7)
    name, jpeg, xml = draw_image(1, SIZE_PX, 7)
    assert (tmp_path / f"{name}.jpg").read_bytes() == jpeg
    assert (tmp_path / f"{name}.xml").read_bytes() == xml


@pytest.mark.parametrize(("images", "size_px", "named"),
                         [(0, 384, "demo.images"), (5, 32, "demo.size_px")])
def test_values_that_cannot_be_drawn_are_refused(tmp_path, images, size_px, named):
    with pytest.raises(DetectorError, match=named):
        draw_demo(tmp_path / "out", images, size_px, 7)
    assert not (tmp_path / "out").exists()


def test_smallest_size_is_drawn():
    for index in range(20):
        _, jpeg, _ = draw_image(index, 64, 1)
        assert max(Image.open(io.BytesIO(jpeg)).size) == 64

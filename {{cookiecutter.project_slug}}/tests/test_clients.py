"""The samples in clients/: run as their readers would run them, and compared with our own reader.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_tflite import LABELS, image, tiny_tflite

CLIENT = Path(__file__).resolve().parent.parent / "clients" / "detect.py"
CELLS = {(0, 0): 0, (1, 2): 3, (3, 3): 6, (2, 0): 4}


def test_the_reader_has_under_forty_lines_and_imports_nothing_of_the_project():
    text = CLIENT.read_text("utf-8")
    assert len(text.splitlines()) < 40 and "scripts" not in text and "tensorflow" not in text


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["float32", "int8"])
@pytest.mark.parametrize(
    ("size_px", "turn"), [((32, 32), 1), ((431, 217), 1), ((640, 480), 6), ((20, 90), 1)])
def test_it_finds_what_our_reader_finds(tmp_path, variant, size_px, turn):
    import numpy as np

    from scripts.data.image_files import open_upright
    from scripts.deploy.metadata import with_metadata
    from scripts.deploy.predictions import detection_rows
    from scripts.deploy.reader import TfliteDetector

    model, photo = tmp_path / "détecteur 1.tflite", tmp_path / "ю a.png"
    about = {"name": "n", "description": "d", "author": "a", "license": "l", "provenance": {}}
    model.write_bytes(with_metadata(tiny_tflite(variant), list(LABELS), **about))
    noise = np.random.default_rng(3).integers(0, 40, (*size_px[::-1], 3), np.uint8)
    cells = np.asarray(Image.fromarray(image(CELLS, 96)).resize(size_px, Image.Resampling.NEAREST))
    tags = Image.Exif()
    tags[0x0112] = turn
    Image.fromarray(np.maximum(cells, noise)).save(photo, exif=tags)

    upright = open_upright(photo.read_bytes())
    detector = TfliteDetector(model)
    expected = detection_rows(
        detector.detect(np.asarray(upright)), upright.size, detector.labels, 0.5)
    assert len(expected) >= 3
    done = subprocess.run([sys.executable, CLIENT, model, photo, "0.5"], capture_output=True,
                          text=True,
                          encoding="utf-8", cwd=tmp_path,
                          env={"PYTHONIOENCODING": "utf-8"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], float(row[1])) for row in found] == [
        (row["class"], round(row["score"], 3)) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert [int(edge) for edge in row[2:]] == pytest.approx(other["box_xyxy_px"], abs=0.51)


@pytest.mark.slow
def test_its_resize_is_that_of_training(monkeypatch):
    import numpy as np

    from scripts.deploy.reader import stretch

    monkeypatch.syspath_prepend(CLIENT.parent)
    from detect import detect

    class Recorder:
        """A signature runner that keeps what it is given."""

        def get_input_details(self):
            return {"images": {"shape": np.array([1, 64, 64, 3]), "dtype": np.float32}}

        def __call__(self, images):
            self.pixels = images[0]
            return {"num_detections": np.float32([0])}

    for size_px in ((333, 217), (31, 57), (1, 1), (64, 64), (2, 999), (1201, 900)):
        image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size_px, 3), np.uint8))
        run = Recorder()
        assert list(detect(run, [], image, 0.3)) == []
        assert np.abs(run.pixels - stretch(np.asarray(image), 64)).max() < 1e-3

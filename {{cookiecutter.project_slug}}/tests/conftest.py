"""Fixtures that several tests share."""

import hashlib
import io
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image
from small_project import configure_small, settings_of, settings_text, train_small

from scripts.core.schema import Check, Demo, Source, Split
from scripts.steps.check import check, fix
from scripts.steps.organize import organize

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: what the tests start would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SOURCE = {"kind": "folder", "path": "../source", "format": "auto", "labels": (),
          "unlabeled": "error",
          "exif": "error", "merge_validation": False}  # fmt: skip
SPLIT = {"mode": "auto", "validation": 0.15, "test": 0.15, "seed": 7}
DEMO = Demo(images=4, size_px=64, seed=7)
APPLE = [("apple", (5, 5, 30, 20))]
Corners = tuple[object, object, object, object]


def image_bytes(
    seed: str, size: tuple[int, int] = (60, 40), form: str = "JPEG", exif: int = 0) -> bytes:
    """A small image whose content depends on `seed`; `exif` is the orientation to write into it."""
    tint = hashlib.sha256(seed.encode()).digest()
    image = Image.new("RGB", size, tuple(tint[:3]))
    image.paste(tuple(tint[3:6]), (0, 0, size[0] // 2, size[1] // 2))
    buffer = io.BytesIO()
    tags = Image.Exif()
    tags[0x0112] = exif
    image.save(buffer, form, **({"exif": tags} if exif else {}))
    return buffer.getvalue()


def voc_text(
    name: str, boxes: list[tuple[str, Corners]], size: tuple[int, int] | None = (60, 40)) -> str:
    """A label file as labeling tools write it: one tag a line, the box's <object> first on lines 8,
    17, 26, ..."""
    width, height = size or ("", "")
    lines = ["<annotation>", "<folder>x</folder>", f"<filename>{name}</filename>", "<size>"]
    lines += [
        f"<width>{width}</width>", f"<height>{height}</height></size>", "<segmented>0</segmented>"]
    for class_name, corners in boxes:
        lines += ["<object>", f"<name>{class_name}</name>", "<pose>Unspecified</pose>", "<bndbox>"]
        tags = ("xmin", "ymin", "xmax", "ymax")
        lines += [f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True)]
        lines += ["</bndbox></object>"]
    return "\n".join([*lines, "</annotation>"]).replace("&", "&amp;")


@dataclass
class Project:
    """An empty project with a source folder beside it."""

    root: Path
    source: Path
    bytes_of = staticmethod(image_bytes)
    text_of = staticmethod(voc_text)

    def add(
        self, path: str, boxes: list | None = APPLE, data: bytes | None = None, **options) -> Path:
        """Put an image `path` into the source, and its label file beside it unless `boxes` is None.

        `size` is that of the image, `declared` the size in the label file (None: the same), `label`
        another path for the label file, `text` its whole text.
        """
        target = self.source / path
        size = options.get("size", (60, 40))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if data is not None else image_bytes(path, size))
        if boxes is not None or "text" in options:
            label = self.source / options.get("label", str(Path(path).with_suffix(".xml")))
            label.parent.mkdir(parents=True, exist_ok=True)
            text = options.get("text") or voc_text(
                target.name, list(boxes), options.get("declared", size))
            label.write_text(text, "utf-8")
        return target

    def organize(self, split: dict | None = None, **source):
        """Run the step; `source` and `split` are settings of these tables."""
        return organize(
            self.root, Source(**{**SOURCE, **source}), DEMO, Split(**{**SPLIT, **(split or {})}))

    def check(self, fixing: bool = False, accept: tuple = (), min_box_px: float = 1,
              input_px: int = 256, **source):
        """Run the step, with `--fix` or without; `source` are settings of this table."""
        settings = Source(**{**SOURCE, **source})
        return (fix if fixing else check)(self.root, settings, Check(accept, min_box_px), input_px)

    def findings(self) -> list[tuple[str, str, int]]:
        """Code, file (without the path of the source) and line of what organize found."""
        rows = json.loads((self.root / "annotations/organize.json").read_text("utf-8"))["findings"]
        return [(row["code"], row["file"].removeprefix("../source/"), row["line"]) for row in rows]

    def splits(self) -> dict[str, str]:
        """The split of each image by its name without extension."""
        return {Path(name).stem: name.split("/")[0] for name in self.stored()
                if name.endswith((".jpg", ".png"))}

    def stored(self) -> list[str]:
        """Files in `images/`, without the folder `source`."""
        paths = (self.root / "images").rglob("*.*")
        return sorted(
            path.relative_to(self.root / "images").as_posix() for path in paths if path.is_file())

    def find(self, name: str) -> Path:
        """The one file of a name in `images/`."""
        (path,) = (self.root / "images").rglob(name)
        return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """See `Project`."""
    (tmp_path / "project").mkdir()
    (tmp_path / "source").mkdir()
    return Project(tmp_path / "project", tmp_path / "source")


@pytest.fixture
def clean(project: Project) -> Project:
    """Six good images with a split of their own."""
    for split in ("train", "validation", "test"):
        for index in range(2):
            project.add(f"{split}/{split}{index}.jpg")
    return project


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A project that went through every step up to `train`; tests must leave it as it is."""
    own = tmp_path_factory.getbasetemp()
    # Parallel processes of pytest-xdist share one trained project: the first of them makes it.
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    root = shared / "projet à moi"
    with FileLock(shared / "trained.lock"):
        if not (root / "training/run.json").is_file():
            make_trained(root)
    return root


def make_trained(root: Path) -> None:
    """Run every step up to `train` on a few drawn images in the new folder `root`."""
    from scripts.modeling.zoo import zoo_entry
    from scripts.steps.labelmap import labelmap
    from scripts.steps.pretrained import pretrained
    from scripts.steps.records import records
    from scripts.steps.tables import tables

    (root / "training").mkdir(parents=True)
    (root / "detector.toml").write_text(settings_text(), "utf-8")
    settings = settings_of(root)
    organize(root, settings.source, settings.demo, settings.split)
    labelmap(root, [])
    tables(root)
    records(root)
    pretrained(root, zoo_entry("lite0-256"))
    configure_small(root)
    train_small(root)
    return root


@pytest.fixture
def copy(trained, tmp_path):
    """The trained project elsewhere, to be changed: a moved project is part of every test that uses
    it."""
    return Path(shutil.copytree(trained, tmp_path / "moved"))


@pytest.fixture
def undrawn(monkeypatch):
    """No diagrams: they take most of the time, and only some tests look at them."""
    from markupsafe import Markup

    monkeypatch.setattr("scripts.report.figures.diagram", lambda *_, **__: Markup("<svg></svg>"))


@pytest.fixture
def package(tmp_path):
    """A folder that looks like the unpacked npm package @mediapipe/tasks-vision."""
    from scripts.tools.web import NEEDED

    folder = tmp_path / "package"
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "package.json").write_text('{"name": "@mediapipe/tasks-vision", "version": "1.2.3"}')
    return folder

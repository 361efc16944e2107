"""Files of weights: torch files, archives and addresses; a hostile one can do no harm.

Torch files are read without torch. Archives are fetched once, resumed, and cannot write where they
should not.
"""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from openimages_server import IMPATIENT, Server
from torch_like import write_torch

from scripts.core.text import DetectorError
from scripts.modeling import weight_files
from scripts.modeling.weight_files import is_torch_file, read_state_dict, unpack
from scripts.modeling.weight_sources import cache_folder, cached

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

"""Files of torch are read without torch, and a hostile one cannot run code or read beyond itself.
"""

import os
import pickle
import zipfile

import numpy as np
import pytest
from torch_like import write_torch

from scripts.core.text import DetectorError
from scripts.modeling.weight_files import is_torch_file, read_state_dict

ARRAYS = {"stem.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2), "norm.bias": np.float32([1.5, -2.0])}


@pytest.mark.parametrize("legacy", [True, False])
def test_both_layouts_give_names_and_values_in_order(tmp_path, legacy):
    path = write_torch(tmp_path / "weights.pth", ARRAYS, legacy)
    read = read_state_dict(path)
    assert is_torch_file(path) and list(read) == list(ARRAYS)
    assert all(np.array_equal(read[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("legacy", [True, False])
def test_strides_of_a_transposed_tensor_are_kept(tmp_path, legacy):
    path = write_torch(tmp_path / "weights.pth", {"a": np.arange(6, dtype="f4").reshape(2, 3)}, legacy, stride=(1, 2))
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

"""Whose file it is, the score from which detections are worth showing, and files behind a network.
"""

import io
import json
import zipfile

import pytest

from scripts.core.files import sha256_file
from scripts.core.text import DetectorError
from scripts.deploy.provenance import (
    About,
    advised,
    description,
    note_scores,
    provenance_of,
    read_about,
    with_more_provenance,
)
from scripts.deploy.tflite_file import split_files, with_files
from scripts.evaluation.thresholds import Advice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[project]\nname = "x"\nauthors = [{ name = "Ää Öö" }]\nlicense = "MIT"\n',
         About("x", "Ää Öö", "MIT")),
        ('[project]\nauthors = [{ name = "A" }, { email = "b@example.org" }]\n',
         About("", "A, b@example.org", "")),
        ('[project]\nlicense = { file = "LICENSE.txt" }\n', About(license="LICENSE.txt")),
        ('[project]\nlicense = { text = "Apache-2.0" }\n', About(license="Apache-2.0")),
        ("[tool.ruff]\n", About()),
    ],
)
def test_name_author_and_license_are_those_of_pyproject(tmp_path, text, expected):
    pyproject = tmp_path / "pyproject.toml"
    assert read_about(pyproject) == About()
    pyproject.write_text(text, "utf-8")
    assert read_about(pyproject) == expected


def test_broken_pyproject_is_one_line(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project\n", "utf-8")
    with pytest.raises(
        DetectorError, match="^bad TOML, .*line 1.*: pyproject.toml: correct that line$"):
        read_about(tmp_path / "pyproject.toml")


def test_advice_in_words_and_figures():
    advice = Advice(0.51, 0.9, 0.8, 1.0)
    assert description("lite0-256", "int8", advice) == (
        "Object detector lite0-256 (int8). Show detections from a score of 0.51 on.")
    assert advised(advice) == {"advised_score_threshold": 0.51, "at_advised_threshold": {
        "split": "test", "F1": 0.9, "precision": 0.8, "recall": 1.0}}  # fmt: skip
    assert advised(None)["advised_score_threshold"] is None
    assert description("x", "int8", None) == "Object detector x (int8)."


NETWORK = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 9


def test_scores_are_noted_behind_the_network_and_nothing_else_changes(tmp_path):
    files, scores = {}, {"split": "test", "checkpoint": 0.62, "float32": 0.61, "int8": 0.6}
    for name in ("float32", "int8"):
        data = with_files(
            NETWORK + name.encode(), {"labels.txt": "ю\nb\n", "provenance.json": '{"model": "ж"}'})
        files[name] = tmp_path / name
        files[name].write_bytes(data)
    for name, row in note_scores(files, scores).items():
        data = (tmp_path / name).read_bytes()
        assert data.startswith(
            NETWORK + name.encode() + b"PK"), "the network has every byte that was scored"
        assert (row["sha256"], row["bytes"]) == (sha256_file(tmp_path / name), len(data))
        assert split_files(data)[1]["labels.txt"] == "ю\nb\n"
        assert provenance_of(tmp_path / name) == {"model": "ж", "AP": scores}
    before = {name: path.read_bytes() for name, path in files.items()}
    note_scores(files, scores)
    assert {name: path.read_bytes()
            for name, path in files.items()} == before, "noting twice is noting once"


def test_files_without_provenance_have_none(tmp_path):
    (tmp_path / "bare.tflite").write_bytes(NETWORK)
    assert provenance_of(tmp_path / "bare.tflite") == provenance_of(tmp_path) == provenance_of(
        tmp_path / "no") == {}
    (tmp_path / "labels.tflite").write_bytes(with_files(NETWORK, {"labels.txt": "a\n"}))
    assert provenance_of(tmp_path / "labels.tflite") == {}
    more = with_more_provenance(NETWORK, {"a": 1})
    with zipfile.ZipFile(io.BytesIO(more)) as inside:
        assert json.loads(inside.read("provenance.json")) == {"a": 1}
        assert {entry.compress_type for entry in inside.infolist()} == {zipfile.ZIP_STORED}

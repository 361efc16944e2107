"""`invoke inspect` on files of ours and of others, whole and broken."""

import io
import json
import random
import zipfile

import numpy as np
import pytest
from made_tflite import described, made
from small_project import settings_of

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
from scripts.tools.inspect import inspect, inspection

NAMES = ["person", "traffic light", "кошка"]


def write(folder, data, name="a file.tflite"):
    (folder / name).write_bytes(data)
    return folder / name


def edited(model, edit) -> bytes:
    from made_tflite import edited as change

    return change(model, edit)


def test_a_foreign_file_is_shown_with_all_it_has(tmp_path):
    signature = {"output_3": "boxes", "output_0": "count"}
    model = described(made(quantized=np.uint8, signature=signature), NAMES, [127.5], [127.5])
    path = write(tmp_path, model)
    found = inspection(path)
    (graph,) = found["subgraphs"]
    assert graph["inputs"] == [{
        "index": 0, "name": "image", "shape": [1, 2, 3, 3], "dtype": "uint8",
        "quantization": {"scale": [pytest.approx(1 / 255)], "zero_point": [0], "axis": None}}]
    assert [(one["dtype"], one["shape"]) for one in graph["outputs"]] == [
        ("uint8", [1, 6, 4]), ("uint8", [1, 6]), ("uint8", [1, 6]), ("uint8", [1])]
    kinds = {row["kind"]: row for row in graph["operations"]}
    assert kinds["QUANTIZE"]["runs_in"] == {"float32 to uint8": 4}
    assert kinds["QUANTIZE"]["count"] == 4
    assert kinds["TFLite_Detection_PostProcess"]["custom"] and not kinds["RESHAPE"]["custom"]
    assert found["signatures"][0]["outputs"] == {
        "output_3": "small boxes", "output_0": "small count"}
    assert found["labels"] == {"labelmap.txt": NAMES}
    assert found["weights"]["by_dtype"]["float32"]["bytes"] == 2 * 6 * 4 * 4
    (image,) = found["metadata"]["subgraphMetadata"][0]["inputTensorMetadata"]
    assert image["processUnits"][0] == {
        "optionsType": "NormalizationOptions", "options": {"mean": [127.5], "std": [127.5]}}
    text = inspect(path)
    assert max(map(len, text.split("\n")[1:])) <= 100
    for shown in ("[1, 2, 3, 3]", "scale 0.00392157, zero point 0", "person, traffic light, кошка",
                  "1 custom",
                  "4 float32 to uint8", "output_3 <- small boxes",
                  "NormalizationOptions (mean [127.5], std [127.5])",
                  "output 'number of detections'"):
        assert shown in text
    assert json.loads(inspect(path, as_json=True)) == json.loads(json.dumps(found))


def test_what_a_file_lacks_is_said(tmp_path):
    text = inspect(write(tmp_path, made()))
    assert "signatures: none" in text and "metadata: none" in text and "labels" not in text
    assert "metadata: empty" in inspect(write(tmp_path, described(made(), packed=b"")))
    assert "metadata: damaged" in inspect(write(tmp_path, described(made(), packed=b"\xff" * 40)))
    cut = described(made(), NAMES)
    without = cut[:cut.index(b"PK\x03\x04")]
    assert "named in the metadata, but not in the file: labelmap.txt" in inspect(
        write(tmp_path, without))


def test_several_graphs_free_sides_and_unknown_numbers(tmp_path):
    def change(network):
        second = type(network.subgraphs[0])()
        second.name, second.tensors, second.operators = b"body\x1b[31m", [], []
        second.inputs, second.outputs = [], []
        network.subgraphs.append(second)
        network.operatorCodes[0].builtinCode = 32000

    text = inspect(write(tmp_path, edited(made(free=(1, -1, -1, 3)), change)))
    assert "subgraph 0: main" in text and "subgraph 1: body\\x1b[31m" in text and "\x1b" not in text
    assert "[1, -1, -1, 3]" in text and "operation 32000" in text and "inputs: none" in text


def test_what_operations_compute_in(tmp_path):
    """A float convolution with int8 weights is told from one in int8, and per-channel scales are
    counted."""
    from made_tflite import _Network

    network = _Network()
    weights = network.tensor("w", np.int8, (4, 1, 1, 3), np.ones(12), scale=0.5)
    network.graph.tensors[weights].quantization.scale = [0.5, 0.25, 0.125, 1.0]
    network.graph.tensors[weights].quantization.zeroPoint = [0] * 4
    bias = network.tensor("b", np.int32, (4,), np.ones(4))
    for kind in (np.float32, np.int8):
        sides = [network.tensor("x", kind, (1, 2, 2, depth)) for depth in (3, 4)]
        network.operation("CONV_2D", [sides[0], weights, bias], sides[1:])
    index = network.tensor("best", np.int64, (1,))
    network.operation("ARG_MAX", [sides[1], bias], [index])
    network.graph.inputs, network.graph.outputs = [weights], [index]
    path = write(tmp_path, network.bytes())
    rows = {row["kind"]: row["runs_in"] for row in inspection(path)["subgraphs"][0]["operations"]}
    assert rows["CONV_2D"] == {"float32, int8 weights": 1, "int8": 1}
    assert rows["ARG_MAX"] == {"int8": 1}
    assert "4 scales along axis 0 (0.5, 0.25, 0.125, ...)" in inspect(path)
    assert inspection(path)["weights"]["by_dtype"]["int8"] == {"bytes": 12, "share": 0.4286}


def test_a_file_that_is_cut_off_is_refused_in_one_line(tmp_path):
    model = described(made(), NAMES)
    zip_at = model.index(b"PK\x03\x04")
    for length in [*range(8, zip_at, 97), zip_at + 50, len(model) - 5]:
        with pytest.raises(DetectorError, match="cut off") as refusal:
            inspect(write(tmp_path, model[:length]))
        assert "\n" not in str(refusal.value) and "a file.tflite" in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"abc", b"\x89PNG\r\n\x1a\n" * 50, bytes(4000)])
def test_what_is_no_tflite_is_refused(tmp_path, data):
    with pytest.raises(DetectorError, match="not a .tflite file"):
        inspect(write(tmp_path, data))
    with pytest.raises(DetectorError, match="cannot be opened"):
        inspect(tmp_path / "nowhere.tflite")


def test_garbage_never_ends_in_a_traceback(tmp_path):
    """Bytes changed at random give a text or a refusal."""
    model, dice, shown = described(
        made(signature={"output_3": "boxes"}), NAMES, [0.0], [1.0]), random.Random(7), 0
    for _ in range(400):
        data = bytearray(model)
        for _ in range(dice.choice([1, 3, 30])):
            data[dice.randrange(8, len(data))] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        try:
            text = inspect(write(tmp_path, bytes(data)))
            json.loads(
                inspect(tmp_path / "a file.tflite", as_json=True), parse_constant=pytest.fail)
            assert max(map(len, text.split("\n")[1:])) <= 100 and "\x1b" not in text
            shown += 1
        except DetectorError as refusal:
            assert "\n" not in str(refusal)
    assert 0 < shown < 400


# Whose file it is, the score from which detections are worth showing, and files behind a network.


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


# What `invoke tflite` writes about its files: whose they are, what they score, and that they are
# what was scored.


@pytest.fixture
def made_of_shipped_files(copy, monkeypatch):
    """A small project after `tflite`, and the bytes of each file as LiteRT was given them to be
    scored."""
    from scripts.deploy import reader
    from scripts.steps.evaluate import evaluate
    from scripts.steps.tflite import tflite

    scored, init = {}, reader.TfliteDetector.__init__

    def noting(self, path, threads=2):
        scored[path.name] = path.read_bytes()
        init(self, path, threads)

    monkeypatch.setattr(reader.TfliteDetector, "__init__", noting)
    (copy / "pyproject.toml").write_text(
        '[project]\nname = "obst"\nauthors = [{ name = "Ada Ä" }]\nlicense = "MIT"\n', "utf-8"
    )
    evaluate(copy, "best", 0.01, 100, 1.0)
    # Two steps of training find nothing: what is tested is where the advice goes.
    analysis = json.loads((copy / "eval/analysis.json").read_text("utf-8"))
    analysis["thresholds"]["all"]["best_f1"] = {
        "score": 0.35, "precision": 0.9, "recall": 0.72, "f1": 0.8}
    (copy / "eval/analysis.json").write_text(json.dumps(analysis), "utf-8")
    tflite(copy, "folder", settings_of(copy))
    return copy, scored


@pytest.mark.slow
def test_files_carry_owner_advice_and_scores_and_the_network_that_was_scored(made_of_shipped_files):
    from scripts.core.files import sha256_file
    from scripts.deploy.metadata import read_metadata
    from scripts.deploy.tflite_file import split_files
    from scripts.tools.predict import predict

    root, scored = made_of_shipped_files
    metrics = json.loads((root / "tflite/metrics.json").read_text("utf-8"))
    assert metrics["advised_score_threshold"] == 0.35
    assert metrics["at_advised_threshold"] == {
        "split": "test", "F1": 0.8, "precision": 0.9, "recall": 0.72}
    scores = {name: row["AP"] for name, row in metrics["variants"].items()}
    assert set(scores) == {"float32", "int8"}
    for name, row in metrics["variants"].items():
        path = root / row["file"]
        shipped, before = split_files(path.read_bytes())[0], split_files(scored[path.name])[0]
        assert shipped == before and len(
            shipped) > 1e6, "the network has every byte that was scored"
        assert row["sha256"] == sha256_file(path) and row["bytes"] == path.stat().st_size
        about = read_metadata(path)
        assert [about[key] for key in ("name", "author", "license")] == ["obst", "Ada Ä", "MIT"]
        assert about["description"] == (f"Object detector lite0-256 ({name}). "
                                        "Show detections from a score of 0.35 on.")
        provenance = about["provenance"]
        assert provenance["AP"] == {
            "split": "test", "checkpoint": metrics["checkpoint"]["AP"], **scores}
        assert provenance["variant"] == name and provenance["advised_score_threshold"] == 0.35
        assert provenance["settings"]["train.batch_size"] == 8
        assert provenance["training"]["steps"] == 2
    image = next((root / "images/test").glob("*.jpg"))
    counts = predict([image], root / "tflite/detector_int8.tflite", root / "out")
    assert counts.threshold == 0.35 and counts.reason == "advised by the model"

"""`invoke inspect` on files of ours and of others, whole and broken."""

import json
import random

import numpy as np
import pytest
from made_tflite import described, made

from scripts.core.text import DetectorError
from scripts.tools.inspect import inspect, inspection

NAMES = ["person", "traffic light", "кошка"]


def write(folder, data, name="a file.tflite"):
    (folder / name).write_bytes(data)
    return folder / name


def edited(model, edit) -> bytes:
    from tiny_tflite import edited as change

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

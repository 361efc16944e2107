"""`invoke benchmark`: the table, the clock's own process, and files of others scored as ours are.
"""

import json

import numpy as np
import pytest
from made_tflite import described, made
from PIL import Image

from scripts.core.text import DetectorError
from scripts.deploy.measure import measure
from scripts.tools.benchmark import benchmark_table

TIMES = {"median": 5.0, "p90": 7.25, "lowest_round": 4.1, "highest_round": 6.0}
MEMORY = {"process_bytes": 60_000_000, "model_bytes": 20_000_000}


def figures(**changes):
    row = {"file": "tflite/x.tflite", "bytes": 3_800_000, "AP": 0.601, "AP50": 0.893,
           "passed": True,
           "latency_ms": {"1": TIMES, "2": TIMES}, "memory": MEMORY}
    return row | changes


def report(**changes):
    base = {"split": "test", "ship": "int8", "threads": [1, 2], "rounds": 5, "runs": 30,
            "notes": [], "against": [],
            "machine": {"cores": 2},
            "variants": {"int8": figures(), "float32": figures(AP=None, passed=False)}}
    return base | changes


def test_the_table_has_a_line_a_file_in_aligned_columns():
    other = figures(file="/a/very/long/folder/of/somebody/else/detector.tflite", AP_shared=0.4,
                    shipped_AP_shared=0.5,
                    classes={"only_in_project": ["kiwi"]}, notes=["outputs: told by names"])
    lines = benchmark_table(report(against=[other], notes=["a note"])).split("\n")
    assert max(map(len, lines)) <= 100
    head, ours, rejected, theirs = lines[:4]
    assert ours.split() == [
        "int8", "(ships)", "3.80", "60.1", "89.3", "5.00", "7.25", "5.00", "7.25", "20.0", "60.0"]
    assert rejected.split()[:4] == ["float32", "(rejected)", "3.80", "-"]
    assert theirs.startswith("...") and "else/detector.tflite" in theirs
    assert len({len(line) for line in (head, ours, rejected, theirs)}) == 1
    text = "\n".join(lines)
    assert "150 runs each in 5 rounds, in turns, on 2 cores" in text and "a note" in text
    assert "AP on shared classes 40.0; the shipped file 50.0" in text
    assert "outputs: told by names" in text


def test_a_busy_machine_is_pointed_out():
    assert "something else ran" not in benchmark_table(report())
    unsteady = figures(latency_ms={"1": TIMES, "2": TIMES | {"highest_round": 8.2}})
    text = benchmark_table(report(variants={"int8": figures(), "float32": unsteady}))
    assert "up to 2.0 times the fastest: something else ran" in text.replace("\n", " ")


def test_four_numbers_of_threads_fit_too():
    rows = figures(latency_ms={"1": TIMES, "2": TIMES, "4": TIMES})
    text = benchmark_table(report(threads=[1, 2, 4], variants={"float16": rows, "int8": rows}))
    assert max(map(len, text.split("\n"))) <= 100 and "4 thr." in text


def test_the_clock_measures_a_process_that_holds_only_the_model(tmp_path):
    # What this process holds must not count, now or at its peak.
    ballast = np.ones(300_000_000, np.uint8)
    path, values = tmp_path / "m 1.tflite", tmp_path / "v.npy"
    path.write_bytes(made())
    np.save(values, np.zeros((1, 2, 3, 3), np.uint8))
    small = measure(path, values, 1, 3)
    assert len(small.times_ms) == 20 and all(one > 0 for one in small.times_ms)
    assert 10e6 < small.peak_bytes < 0.7 * ballast.nbytes and small.model_bytes < 30e6


def test_a_model_that_takes_memory_is_seen_to(tmp_path):
    from made_tflite import _Network

    network = _Network()
    side = network.tensor("x", np.uint8, (1, 40_000_000))
    wide = network.tensor("y", np.float32, (1, 40_000_000))
    network.graph.tensors[side].quantization = None
    network.operation("CAST", [side], [wide])
    network.graph.inputs, network.graph.outputs = [side], [wide]
    (tmp_path / "big.tflite").write_bytes(network.bytes())
    np.save(tmp_path / "v.npy", np.zeros((1, 40_000_000), np.uint8))
    assert measure(tmp_path / "big.tflite", tmp_path / "v.npy", 1, 3).model_bytes > 150e6


def test_a_file_that_cannot_run_is_refused_in_one_line(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(made()[:900])
    np.save(tmp_path / "v.npy", np.zeros((1, 2, 3, 3), np.uint8))
    with pytest.raises(DetectorError, match="not a valid Flatbuffer.*bad.tflite") as refusal:
        measure(tmp_path / "bad.tflite", tmp_path / "v.npy", 1, 3)
    assert "\n" not in str(refusal.value)


def test_nothing_measured_yet_is_said(tmp_path):
    from scripts.tools.benchmark import ThirdParty, benchmark

    with pytest.raises(DetectorError, match="no file was measured yet: .*run `invoke tflite`"):
        benchmark(tmp_path, None, ThirdParty(), 1)
    with pytest.raises(DetectorError, match="--rounds 0"):
        benchmark(tmp_path, None, ThirdParty(), 0)


@pytest.fixture
def root(tmp_path, project):
    """A project whose images show the colors of the tiny detector, and that detector as its int8
    file."""
    from made_tflite import CELLS, LABELS, image, tiny_tflite

    from scripts.core.files import sha256_file, write_json
    from scripts.deploy.metadata import with_metadata
    from scripts.steps.labelmap import labelmap
    from scripts.steps.records import records
    from scripts.steps.tables import tables

    step = 96 // CELLS
    for number, split in enumerate(("train", "validation", "test", "test", "test")):
        cells = {(number % CELLS, 1): 0, (2, 3 - number % 3): 1}
        boxes = [(
            LABELS[class_id], (column * step, row * step, (column + 1) * step, (row + 1) * step))
                 for (row, column), class_id in cells.items()]
        path = project.add(f"{split}/{split}{number}.png", boxes, size=(96, 96))
        Image.fromarray(image(cells, 96)).save(path)
    project.organize()
    labelmap(project.root, ["red", "green"])
    tables(project.root)
    records(project.root)
    about = {"name": "n", "description": "d", "author": "a", "license": "l"}
    path = project.root / "tflite/detector_int8.tflite"
    path.parent.mkdir()
    path.write_bytes(with_metadata(tiny_tflite("int8"), list(LABELS), **about, provenance={}))
    row = {"file": "tflite/detector_int8.tflite", "sha256": sha256_file(path), "AP": 0.5,
           "AP50": 0.75, "passed": True}
    gone = row | {"file": "tflite/rejected/detector_float32.tflite", "passed": False}
    write_json(project.root / "tflite/metrics.json",
               {"ship": "int8", "split": "test", "variants": {"int8": row, "float32": gone}})
    return project.root


@pytest.fixture
def settings(tmp_path):
    from small_project import settings_of, settings_text

    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/detector.toml").write_text(settings_text(), "utf-8")
    return settings_of(tmp_path / "settings")


def shuffled(network):
    outputs = list(network.subgraphs[0].outputs)
    network.subgraphs[0].outputs = [outputs[index] for index in (2, 0, 3, 1)]
    network.signatureDefs = None


@pytest.mark.slow
def test_ours_and_a_foreign_file_are_measured_and_scored(root, settings, tmp_path, capsys):
    from made_tflite import edited, tiny_tflite

    from scripts.tools.benchmark import ThirdParty, benchmark

    other = tmp_path / "other.tflite"
    other.write_bytes(edited(tiny_tflite("int8"), shuffled))
    (tmp_path / "names.txt").write_text(" RED\nGreen\nblue\nzebra\nlion\ntiger\nbear\n")
    counts = benchmark(root, settings, ThirdParty([other], tmp_path / "names.txt"), 2)
    written = json.loads((root / "tflite/benchmark.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(counts.report))
    ours, theirs = written["variants"]["int8"], written["against"][0]
    assert (ours["AP"], ours["AP50"]) == (0.5, 0.75), "AP of ours is that of metrics.json"
    for row in (ours, theirs):
        assert set(row["latency_ms"]) == {str(count) for count in written["threads"]}
        assert all(0 < one["lowest_round"] <= one["median"] <= one["highest_round"]
                   and one["median"] <= one["p90"]
                   for one in row["latency_ms"].values())
        assert 0 < row["memory"]["model_bytes"] < row["memory"]["process_bytes"]
    assert theirs["AP50"] == 1.0 and theirs["AP"] > 0.4
    assert theirs["classes"] == {"shared": ["red", "green"],
                                 "only_in_file": ["blue", "zebra", "lion", "tiger", "bear"],
                                 "only_in_project": [], "detections_not_scored": {}}
    text = str(counts)
    assert "classes: 2 shared (red, green)" in text and "TFLite_Detection_PostProcess" in text
    assert "tflite/rejected/detector_float32.tflite is missing and left out" in text


@pytest.mark.slow
def test_a_foreign_file_that_knows_some_classes_is_compared_on_those(root, settings, tmp_path):
    from made_tflite import tiny_tflite

    from scripts.tools.benchmark import ThirdParty, benchmark

    other = tmp_path / "other.tflite"
    other.write_bytes(tiny_tflite("int8"))
    (tmp_path / "names.txt").write_text("red\nlime\nblue\nx\ny\nz\nw\n")
    counts = benchmark(root, settings, ThirdParty([other], tmp_path / "names.txt"), 1)
    theirs = counts.report["against"][0]
    assert theirs["classes"]["only_in_project"] == ["green"]
    assert theirs["classes"]["detections_not_scored"] == {"lime": 3}
    assert theirs["AP"] == pytest.approx(
        theirs["AP_shared"] / 2, abs=1e-5), "what it cannot find counts as lost"
    assert theirs["shipped_AP_shared"] == pytest.approx(theirs["AP_shared"], abs=1e-5)
    assert "3 detections of them are not scored" in str(counts)
    (root / "tflite/detector_int8.tflite").write_bytes(tiny_tflite("int8"))
    (row,) = benchmark(root, settings, ThirdParty(), 1).report["variants"].values()
    assert row["AP"] is None, "a file that was not scored has no AP"


@pytest.mark.slow
def test_a_foreign_file_without_a_class_of_ours_is_refused(root, settings, tmp_path):
    from scripts.tools.benchmark import ThirdParty, benchmark

    path = tmp_path / "other.tflite"
    path.write_bytes(described(made(), ["cat", "dog", "bird"]))
    with pytest.raises(
        DetectorError,
        match=r"none of its 3 classes \(cat, dog, bird\) is one of the project \(red, green\)"):
        benchmark(root, settings, ThirdParty([path]), 1)
    assert not (root / "tflite/benchmark.json").exists()

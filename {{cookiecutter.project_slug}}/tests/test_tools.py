"""doctor and tensorboard: what they report, refuse, and leave running."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_project import calibration_of, configure_small, model_of, settings_of

from scripts.core.text import DetectorError
from scripts.tools import doctor as doctor_module
from scripts.tools.doctor import Finding, doctor, locked_versions
from scripts.tools.tensorboard import free_port

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS = SimpleNamespace(model=SimpleNamespace(id="lite0-256"))


@pytest.fixture
def quick(monkeypatch):
    """Without the checks that import TensorFlow or psutil."""
    for name in ("_processors", "_model", "_memory"):
        monkeypatch.setattr(
            doctor_module, name, lambda *_, name=name: Finding("ok", name.strip("_"), "fine"))


def lock(folder, text, wishes):
    (folder / "requirements.in").write_text(wishes, "utf-8")
    (folder / "requirements.txt").write_text(text, "utf-8")
    return folder / "requirements.txt"


def test_packages_are_held_against_the_lock(tmp_path, quick, capsys):
    import PIL

    text = f"""# header
pillow=={PIL.__version__} \\
    --hash=sha256:00
lxml==0.0.1 \\
    --hash=sha256:00
    # via x
Never_There==1.2 ; python_version >= '3' \\
    --hash=sha256:00
elsewhere==1 ; sys_platform == 'nowhere' \\
    --hash=sha256:00
"""
    wishes = "# why\npillow   # images\nlxml>1\nelsewhere ; sys_platform == 'nowhere'\n"
    path = lock(tmp_path, text, wishes)
    assert locked_versions(path) == {
        "pillow": PIL.__version__, "lxml": "0.0.1", "never-there": "1.2"}
    report = doctor(tmp_path, SETTINGS, path)
    (row,) = [line for line in report.split("\n") if "lxml" in line]
    assert row.startswith("warn") and "the lock has 0.0.1" in row and "pillow" not in report
    path = lock(tmp_path, text, wishes + "never-there\n")
    with pytest.raises(
        DetectorError, match="never-there: pip install --no-deps -r requirements.txt"):
        doctor(tmp_path, SETTINGS, path)
    assert "FAIL  never-there" in capsys.readouterr().out


def test_the_report_is_aligned(tmp_path, quick):
    lines = doctor(tmp_path, SETTINGS, lock(tmp_path, "pytest==0\n", "pytest\n")).split("\n")
    assert len(lines) == 8 and all(line[:6] in ("ok    ", "warn  ") for line in lines)
    column = len("ok    write access  ")
    assert all(line[column - 1] == " " != line[column] for line in lines)


def test_the_lock_of_the_project_covers_its_direct_requirements():
    assert set(doctor_module._direct_requirements(PROJECT / "requirements.in")) <= set(
        locked_versions(PROJECT / "requirements.txt")
    )


def test_no_room_and_no_lock_are_failures(tmp_path, quick, monkeypatch):
    usage = SimpleNamespace(free=2e8)
    monkeypatch.setattr(doctor_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DetectorError, match="packages, disk"):
        doctor(tmp_path, SETTINGS, tmp_path / "requirements.txt")


def test_a_model_that_cannot_be_built_is_a_failure(tmp_path, quick, monkeypatch, capsys):
    def broken(_):
        raise RuntimeError("no\nsuch kernel")

    monkeypatch.setattr(doctor_module, "_model", broken)
    with pytest.raises(DetectorError, match="1 of 8 checks failed: model"):
        doctor(tmp_path, SETTINGS, lock(tmp_path, "pytest==0\n", "pytest\n"))
    assert "RuntimeError: no such kernel" in capsys.readouterr().out


@pytest.mark.slow
def test_little_memory_is_a_warning(monkeypatch):
    psutil = pytest.importorskip("psutil")
    assert doctor_module._memory().state in ("ok", "warn")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e9, total=2e9))
    finding = doctor_module._memory()
    assert (finding.state, finding.found) == ("warn", "1.0 GB free of 2.0 GB")


@pytest.mark.slow
def test_the_chosen_model_runs():
    finding = doctor_module._guarded("model", lambda: doctor_module._model("lite0-256"))
    assert finding.state == "ok" and "one image in" in finding.found
    unknown = doctor_module._guarded("model", lambda: doctor_module._model("lite9"))
    assert unknown.state == "FAIL" and "lite0-256" in unknown.found


def test_a_taken_port_is_passed_over():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        assert taken < free_port(taken) <= taken + 100
    for port in (0, 70000, -1):
        with pytest.raises(DetectorError, match="--port"):
            free_port(port)


@pytest.mark.slow
def test_tensorboard_answers_at_the_printed_address_and_ends_with_ctrl_c(tmp_path):
    pytest.importorskip("tensorboard")
    root = tmp_path / "my, project: 1"
    (root / "training").mkdir(parents=True)
    code = "import sys; from pathlib import Path; " \
           "from scripts.tools.tensorboard import open_tensorboard as run; "
    code += "run(Path(sys.argv[1]), 6016)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, root], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert "no curves yet" in process.stdout.readline()
        address = process.stdout.readline().split()[1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"TensorBoard" in answer.read()
        with urllib.request.urlopen(f"{address}data/plugins_listing", timeout=30) as answer:
            assert {"scalars", "images", "pr_curves"} < set(json.load(answer))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        time.sleep(0.5)
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)
    finally:
        if process.poll() is None:
            # lets it end its server, which a kill would leave behind
            process.send_signal(signal.SIGINT)
            process.wait(20)


# The real steps on 24 drawn images and two training steps: what each file says is what the next
# one does.


@pytest.mark.slow
def test_a_missing_checkpoint_names_those_there_are(trained):
    from scripts.evaluation.detector import checkpoint_path

    assert checkpoint_path(trained / "training", "last").name == "average_weights-2"
    with pytest.raises(DetectorError, match=r"no checkpoint '7' \(steps there: 2\)"):
        checkpoint_path(trained / "training", "7")


@pytest.mark.slow
def test_training_sees_an_image_as_validation_does(trained):
    """Without augmentation the small image kept in memory gives what the library's parser gives,
    boxes too."""
    import numpy as np

    from scripts.modeling.experiment import read_experiment, with_absolute_paths
    from scripts.training import task as detector

    configure_small(trained, INVOKE_TRAIN_AUGMENT="none")
    config = with_absolute_paths(
        read_experiment(trained / "training/experiment.yaml"), trained).task
    configure_small(trained)
    task = detector.DetectorTask(config)
    config.validation_data.input_path = config.train_data.input_path
    theirs = {}
    for images, labels in task.build_inputs(config.validation_data).take(3).as_numpy_iterator():
        for image, boxes, classes in zip(
            images, labels["boxes_px"], labels["classes"], strict=True):
            theirs[len(theirs)] = image, boxes[classes > 0], classes[classes > 0]
    ((images, labels),) = task.build_inputs(config.train_data).take(1).as_numpy_iterator()
    for image, number, boxes, classes in zip(images,
                                             *(labels[k] for k in ("image", "boxes_px", "classes")),
                                             strict=True):
        expected, expected_boxes, expected_classes = theirs[number]
        assert np.allclose(image, expected, atol=0.005)
        assert np.allclose(boxes[classes > 0], expected_boxes, atol=0.01)
        assert list(classes[classes > 0]) == list(expected_classes)


@pytest.mark.slow
def test_equalized_weights_compute_the_same(trained):
    import numpy as np

    from scripts.deploy.quantization import equalize, stream_reach

    model = model_of(trained)
    images = calibration_of(trained, model.input_px, 4)
    before = [part.numpy() for part in model.predict(np.stack(images))]
    spread_before = [
        np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, images)]
    equalize(model, images)
    after = [part.numpy() for part in model.predict(np.stack(images))]
    spread_after = [np.ptp(np.log(reach)) for reach in stream_reach(model.network.backbone, images)]
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(before, after, strict=True))
    assert sum(spread_after) < 0.8 * sum(spread_before), "channels reach more equally far"


@pytest.mark.slow
def test_evaluate_export_and_tflite_agree_on_disk(copy):
    from scripts.core.files import sha256_file
    from scripts.steps.evaluate import evaluate
    from scripts.steps.export import export
    from scripts.steps.tflite import tflite

    settings = settings_of(copy)
    evaluate(copy, "best", 0.01, 100, 1.0)
    export(copy, "best", 0.01)
    tflite(copy, "fruit", settings)
    metrics = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))
    assert set(metrics["variants"]) == {"float32", "int8"}
    for row in metrics["variants"].values():
        assert sha256_file(copy / row["file"]) == row["sha256"] and row["passed"]
    assert (copy / "tflite/labels.txt").read_text("utf-8").split() == [
        "apple", "banana", "orange", "strawberry"]


@pytest.mark.slow
def test_a_file_that_lost_too_much_is_put_aside(copy):
    from scripts.steps import tflite
    from scripts.steps.evaluate import evaluate

    evaluate(copy, "best", 0.01, 100, 1.0)
    metrics = json.loads((copy / "eval/metrics.json").read_text("utf-8")) | {"AP": 0.9}
    (copy / "eval/metrics.json").write_text(json.dumps(metrics), "utf-8")
    settings = settings_of(copy, INVOKE_TFLITE_VARIANTS="float32", INVOKE_TFLITE_SHIP="float32",
                           INVOKE_TFLITE_MAX_AP_DROP="0.01")
    with pytest.raises(DetectorError, match="tflite/rejected/detector_float32.tflite"):
        tflite.tflite(copy, "fruit", settings)
    assert not (copy / "tflite/detector_float32.tflite").exists()
    row = json.loads((copy / "tflite/metrics.json").read_text("utf-8"))["variants"]["float32"]
    assert not row["passed"] and row["file"] == "tflite/rejected/detector_float32.tflite"

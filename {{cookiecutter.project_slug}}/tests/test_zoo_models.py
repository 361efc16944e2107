"""Every complete model goes the whole way on a few drawn images: weights, two steps, SavedModel,
int8 file."""

import shutil
from pathlib import Path

import pytest
from small_project import calibration_of, settings_text

from scripts.modeling.zoo import ENTRIES

pytestmark = pytest.mark.slow
SMALL = {"INVOKE_SOURCE_KIND": "demo", "INVOKE_SOURCE_LABELS": "[]", "INVOKE_DEMO_IMAGES": "8",
         "INVOKE_DEMO_SIZE_PX": "128", "INVOKE_TRAIN_EPOCHS": "1", "INVOKE_TRAIN_MINUTES": "0",
         "INVOKE_TRAIN_BATCH_SIZE": "3", "INVOKE_OVERRIDES": "{}"}  # fmt: skip


def settings_of(root, model_id="lite0-256"):
    from scripts.core.settings import load_settings

    return load_settings(root, SMALL | {"INVOKE_MODEL_ID": model_id})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A project with records; tests copy it."""
    from scripts.steps.labelmap import labelmap
    from scripts.steps.organize import organize
    from scripts.steps.records import records
    from scripts.steps.tables import tables

    root = tmp_path_factory.mktemp("drawn")
    (root / "detector.toml").write_text(settings_text(), "utf-8")
    settings = settings_of(root)
    organize(root, settings.source, settings.demo, settings.split)
    labelmap(root, [])
    tables(root)
    records(root)
    return root


def int8_file(root, model, path):
    from scripts.deploy.conversion import convert
    from scripts.deploy.quantization import equalize

    images = calibration_of(root, model.input_px, 2)
    equalize(model, images)
    path.write_bytes(convert(model, "int8", 0.001, images))
    return path


# One of each kind of backbone, and not the default: that is what all other tests use.
MODELS = [
    entry.id if entry.id == "mnv2-256" else pytest.param(entry.id, marks=pytest.mark.release)
    for entry in ENTRIES.values()
    if not entry.experimental
]


@pytest.mark.parametrize("model_id", MODELS)
def test_a_complete_model_goes_the_whole_way(drawn, tmp_path, model_id):
    from scripts.core.layout import Layout
    from scripts.deploy.reader import SavedModelDetector, TfliteDetector
    from scripts.evaluation.detections import decode_rgb, record_images
    from scripts.evaluation.detector import checkpoint_path, load_model
    from scripts.steps.configure import configure
    from scripts.steps.export import export
    from scripts.steps.pretrained import pretrained
    from scripts.steps.train import train

    root = Path(shutil.copytree(drawn, tmp_path / "project"))
    entry, settings = ENTRIES[model_id], settings_of(root, model_id)
    counts = pretrained(root, entry)
    assert counts.matched.taken == counts.matched.expected > 200
    taken = counts.matched.taken
    assert f"{taken} of {taken} tensors of {model_id} (backbone)" in str(counts)
    configure(root, settings)
    assert train(root, model_id, settings.runtime).steps == 2
    rgb = decode_rgb(next(record_images(Layout(root).records("test"))).encoded)
    export(root, "last", 0.001)
    assert len(SavedModelDetector(root / "inference/saved_model").detect(rgb).scores) > 0
    model = load_model(Layout(root).experiment, checkpoint_path(root / "training", "last"))
    detector = TfliteDetector(int8_file(root, model, tmp_path / "int8.tflite"))
    assert detector.input_px == entry.input_px
    assert len(detector.detect(rgb).scores) > 0

"""Every complete model goes the whole way on a few drawn images: weights, two steps, SavedModel,
int8 file."""

import shutil
from pathlib import Path

import pytest

from scripts.modeling.zoo import ENTRIES

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parent.parent
SMALL = {"INVOKE_SOURCE_KIND": "demo", "INVOKE_SOURCE_LABELS": "[]", "INVOKE_DEMO_IMAGES": "8",
         "INVOKE_DEMO_SIZE_PX": "128", "INVOKE_TRAIN_EPOCHS": "1", "INVOKE_TRAIN_MINUTES": "0",
         "INVOKE_TRAIN_BATCH_SIZE": "3", "INVOKE_OVERRIDES": "{}"}  # fmt: skip


def settings_of(root, model_id="lite0-256"):
    from scripts.core.settings import load_settings

    return load_settings(root, SMALL | {"INVOKE_MODEL_ID": model_id})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A project with records; tests copy it."""
    from scripts.data.box_table import write_tables
    from scripts.data.examples import write_records
    from scripts.data.label_map import build_label_map
    from scripts.steps.organize import organize

    root = tmp_path_factory.mktemp("drawn")
    shutil.copy(PROJECT / "detector.toml", root)
    settings = settings_of(root)
    organize(root, settings.source, settings.demo, settings.split)
    build_label_map(root, [], demo=True)
    write_tables(root)
    write_records(root)
    return root


def int8_file(root, model, path):
    from scripts.deploy.conversion import calibration_images, convert
    from scripts.deploy.quantization import equalize

    images = calibration_images(root, model.input_px, 2)
    equalize(model, images)
    path.write_bytes(convert(model, "int8", 0.001, images))
    return path


@pytest.mark.parametrize("model_id", [entry.id for entry in ENTRIES.values() if not entry.experimental])
def test_a_complete_model_goes_the_whole_way(drawn, tmp_path, model_id):
    from scripts.deploy.reader import SavedModelDetector, TfliteDetector
    from scripts.evaluation.detections import decode_rgb, record_images
    from scripts.evaluation.detector import load_model
    from scripts.steps.configure import configure
    from scripts.steps.export import export
    from scripts.steps.pretrained import prepare_weights
    from scripts.steps.train import train

    root = Path(shutil.copytree(drawn, tmp_path / "project"))
    entry, settings = ENTRIES[model_id], settings_of(root, model_id)
    counts = prepare_weights(entry, root)
    assert counts.matched.taken == counts.matched.expected > 200
    assert f"{counts.matched.taken} of {counts.matched.taken} tensors of {model_id} (backbone)" in str(counts)
    configure(root, settings)
    assert train(root, model_id, settings.runtime).steps == 2
    rgb = decode_rgb(next(iter(record_images(root, "test"))).encoded)
    export(root, "last", 0.001)
    assert len(SavedModelDetector(root / "inference/saved_model").detect(rgb).scores) > 0
    detector = TfliteDetector(int8_file(root, load_model(root, "last"), tmp_path / "int8.tflite"))
    assert detector.input_px == entry.input_px
    assert len(detector.detect(rgb).scores) > 0

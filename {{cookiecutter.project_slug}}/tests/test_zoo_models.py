"""Every complete model goes the whole way on a few drawn images: weights, two steps, SavedModel,
int8 file."""

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from openimages_server import Server
from small_project import calibration_of, settings_text

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.modeling.zoo import ENTRIES, ArchiveWeights, zoo_entry

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


@pytest.mark.slow
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


# COCO weights from an archive of the structure that Model Garden publishes, made here and served
# on loopback.


DICE = np.random.default_rng(7)
INPUT_PX = 256


def model_gardens_model():
    """RetinaNet on MobileNetV2 as coco_mobilenetv2_tpu.yaml describes it, with nothing of this
    project in it."""
    import tf_keras
    from official.vision.configs import retinanet
    from official.vision.modeling import factory

    config = retinanet.RetinaNet()
    config.override({
        "num_classes": 91, "input_size": [INPUT_PX, INPUT_PX, 3], "min_level": 3, "max_level": 7,
        "anchor": {"num_scales": 3, "aspect_ratios": [0.5, 1.0, 2.0], "anchor_size": 3.0},
        "backbone": {"type": "mobilenet", "mobilenet": {"model_id": "MobileNetV2",
                                                        "filter_size_scale": 1.0}},
        "decoder": {"type": "fpn", "fpn": {"num_filters": 128, "use_separable_conv": True,
                                           "use_keras_layer": True}},
        "head": {"num_convs": 4, "num_filters": 128, "use_separable_conv": True},
        "norm_activation": {"activation": "relu6", "norm_momentum": 0.99, "norm_epsilon": 0.001},
    }, is_strict=True)
    specs = tf_keras.layers.InputSpec(shape=[None, INPUT_PX, INPUT_PX, 3])
    return factory.build_retinanet(input_specs=specs, model_config=config)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(Model Garden's model with weights of its own, an archive of its checkpoint as its trainer
    writes it)."""
    import tensorflow as tf
    import tf_keras

    model = model_gardens_model()
    for variable in model.variables:
        if variable.dtype.is_floating:
            variable.assign(variable + DICE.uniform(0.05, 0.15, variable.shape))
    folder = tmp_path_factory.mktemp("published")
    items = {"model": model, "optimizer": tf_keras.optimizers.legacy.SGD(0.1),
             **model.checkpoint_items}
    checkpoint = tf.train.Checkpoint(global_step=tf.Variable(277200, dtype=tf.int64), **items)
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "ckpt"), max_to_keep=1,
                                         checkpoint_name="ckpt")
    assert Path(manager.save(checkpoint_number=277200)).name == "ckpt-277200"
    archive = folder / "served/mobilenetv2_ssd_i256_ckpt.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder / "ckpt", "mobilenetv2_ssd_i256_ckpt")
    return model, archive


@pytest.fixture
def served(published, tmp_path, monkeypatch):
    """(Model Garden's model, the entry of the zoo whose archive is on loopback, the server)."""
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    model, archive = published
    server = Server(archive.parent)
    entry = replace(zoo_entry("mnv2-256-coco"),
                    weights=ArchiveWeights(f"{server.url}/{archive.name}"))
    yield model, entry, server
    server.close()


def task_of(entry, root):
    """The task that `train` runs for three classes."""
    from types import SimpleNamespace

    from scripts.modeling.experiment import DataFacts, build_experiment, with_absolute_paths
    from scripts.training.task import DetectorTask

    train = SimpleNamespace(batch_size=2, learning_rate=0.001, augment="none", seed=7, epochs=1,
                            minutes=0.0,
                            patience=0)
    weights = Layout(root).shown(Layout(root).pretrained(entry.id))
    facts = DataFacts(3, 4, 2, 5, "train.record-*", "validation.record-*", weights)
    experiment = build_experiment(entry, train, {}, facts, 2)
    return DetectorTask(with_absolute_paths(experiment, root).task)


@pytest.mark.slow
def test_an_archive_is_fetched_resumed_and_every_tensor_taken(served, tmp_path):
    from scripts.steps.pretrained import pretrained

    _, entry, server = served
    server.fail("ckpt", "truncated", None)
    counts = pretrained(tmp_path, entry)
    assert "@" in server.requests[1]
    assert counts.matched.taken == counts.matched.expected > 300 and not counts.matched.reasons
    assert "(backbone, decoder and head)" in str(counts) and "was not fetched" in str(counts)
    pretrained(tmp_path / "another project", entry)
    assert len(server.requests) == 2, "one cache for all projects"
    facts = json.loads(Layout(tmp_path).pretrained_facts(entry.id).read_text("utf-8"))
    assert facts["origin"] == entry.weights.url
    assert facts["parts"] == ["backbone", "decoder", "head"]


@pytest.mark.slow
def test_training_begins_with_all_of_it_but_the_classifier(served, tmp_path):
    """What differs from the published weights is the classifier, and the first layer by exactly the
    normalization."""
    from scripts.modeling.backbone import IMAGENET_DEVIATION, IMAGENET_MEAN
    from scripts.modeling.hooks import first_pair
    from scripts.modeling.weights import transferable_parts
    from scripts.steps.pretrained import pretrained

    theirs, entry, _ = served
    pretrained(tmp_path, entry)
    task = task_of(entry, tmp_path)
    ours = task.build_model()
    task.initialize(ours)
    kernel, mean = first_pair(ours.backbone)[0].kernel, first_pair(ours.backbone)[1].moving_mean
    for part in ("backbone", "decoder"):
        for one, other in zip(getattr(ours, part).variables, getattr(theirs, part).variables,
                              strict=True):
            assert (one is kernel or one is mean) or np.array_equal(one, other), one.name
    for name in ("_cls_convs", "_cls_norms", "_box_convs", "_box_norms"):
        for one, other in zip(variables(getattr(ours.head, name)),
                              variables(getattr(theirs.head, name)), strict=True):
            assert np.array_equal(one, other), one.name
    for one, other in zip(ours.head._box_regressor.variables, theirs.head._box_regressor.variables,
                          strict=True):
        assert np.array_equal(one, other), one.name
    assert set(transferable_parts(ours)) == {"backbone", "decoder", "head"}
    assert ours.head._classifier.bias.shape == (9 * 4,)
    assert theirs.head._classifier.bias.shape == (9 * 91,)
    image = DICE.uniform(0, 255, (1, INPUT_PX, INPUT_PX, 3)).astype("f4")
    normalized = (image / 255 - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_DEVIATION)
    pairs = ((first_pair(ours.backbone), image / 127.5 - 1),
             (first_pair(theirs.backbone), normalized))
    seen, was_seen = (norm(convolution(pixels)).numpy()[0, :-1, :-1]
                      for (convolution, norm), pixels in pairs)
    assert np.allclose(seen, was_seen, atol=1e-3 * np.abs(was_seen).max())


def variables(nested):
    """All variables of layers in lists of lists."""
    found = []
    for part in nested:
        found += variables(part) if isinstance(part, list) else part.variables
    return found


@pytest.mark.slow
def test_a_folder_and_a_prefix_work_as_model_weights_too(served, published, tmp_path):
    from scripts.steps.pretrained import pretrained

    _, entry, server = served
    folder = published[1].parent.parent / "ckpt"
    for own in (str(folder), str(folder / "ckpt-277200"), str(published[1]),
                f"{server.url}/{published[1].name}"):
        counts = pretrained(tmp_path, entry, own)
        assert counts.matched.taken == counts.matched.expected and own in str(counts)


@pytest.mark.slow
@pytest.mark.parametrize("model_id", ["avg-256-coco", "lite0-256"])
def test_weights_of_another_model_are_refused_with_tensors_and_shapes(
    published, tmp_path, model_id):
    from scripts.steps.pretrained import pretrained

    reason = rf"only \d+ of \d+ tensors of {model_id} fit \(.*\[.*ckpt.tar.gz.*model.id"
    with pytest.raises(DetectorError, match=reason):
        pretrained(tmp_path, zoo_entry(model_id), str(published[1]))
    assert not (tmp_path / "pre_trained_model").exists()


@pytest.mark.slow
def test_an_archive_without_a_checkpoint_is_refused(served, tmp_path):
    from scripts.steps.pretrained import pretrained

    _, entry, server = served
    with tarfile.open(server.folder / "empty.tar.gz", "w:gz") as tar:
        note = tarfile.TarInfo("README")
        tar.addfile(note, io.BytesIO())
    with pytest.raises(DetectorError, match="no checkpoint"):
        pretrained(tmp_path, entry, f"{server.url}/empty.tar.gz")


@pytest.mark.slow
def test_features_of_mobilenet_v2_are_those_of_imagenets_pixels(tmp_path):
    """Normalization and epsilon of torchvision are folded: away from the border every feature is
    the same."""
    import tensorflow as tf

    from scripts.modeling.backbone import IMAGENET_DEVIATION, IMAGENET_MEAN, InvertedBottleneckNet
    from scripts.modeling.weight_files import read_state_dict
    from scripts.modeling.weight_sources import package_file
    from scripts.modeling.weights import load_state_dict
    from scripts.steps.pretrained import pretrained

    entry = zoo_entry("mnv2-256")
    pretrained(tmp_path, entry)
    ours = InvertedBottleneckNet(model_id=entry.backbone)
    prefix = str(Layout(tmp_path).pretrained(entry.id))
    tf.train.Checkpoint(backbone=ours).read(prefix).assert_consumed()
    theirs = InvertedBottleneckNet(model_id=entry.backbone, norm_epsilon=1e-5)
    load_state_dict(theirs, read_state_dict(package_file(entry.weights)))
    image = DICE.uniform(0, 255, (1, 256, 256, 3)).astype("f4")
    seen = ours(image / 127.5 - 1, training=False)
    was_seen = theirs((image / 255 - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_DEVIATION),
                      training=False)
    for level, border in (("2", 8), ("3", 12)):
        one, other = (features[level].numpy()[0] for features in (seen, was_seen))
        inside = (slice(border, -border),) * 2
        assert np.allclose(one[inside], other[inside], atol=1e-4)
        assert not np.allclose(one, other, atol=1e-4), "the padding is the one difference"


@pytest.mark.slow
def test_own_training_goes_on_with_other_classes(tmp_path):
    """A checkpoint of this project's own kind is taken whole, except for what knows the classes."""
    import tensorflow as tf

    from scripts.modeling.experiment import build_network
    from scripts.steps.pretrained import pretrained

    entry = zoo_entry("lite0-256")
    network, _ = build_network(entry, 5)
    tf.train.Checkpoint(model=network, **network.checkpoint_items).write(
        str(tmp_path / "best_ckpt-100"))
    counts = pretrained(tmp_path, entry, "best_ckpt-100")
    assert counts.matched.taken == counts.matched.expected
    assert counts.matched.parts == ("backbone", "decoder", "head")

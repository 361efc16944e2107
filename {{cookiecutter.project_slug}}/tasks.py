"""From labeled images to a detector on a phone: one task a step, in the order in which they run.

`invoke tflite` runs every step that has a reason to run; `invoke status` shows them. All settings
are in detector.toml. This file only wires: what a step does is in scripts/steps/, what the other
commands do in scripts/tools/. The imports stand inside the tasks, so that a command loads only what
it needs; they also say which code a step watches (scripts/core/imports.py).
"""

from pathlib import Path

from invoke import Collection, task

from scripts.core.step import Step, Tool, open_project
from scripts.core.text import parse_count
from scripts.data.source import DECODED_SUFFIXES
from scripts.tools import status as overview

ROOT = Path(__file__).resolve().parent
SETTINGS = open_project(ROOT)

SPLITS = ("train", "validation", "test")
FOLDERS = [f"images/{split}" for split in SPLITS]
LABELS = [f"images/{split}/*.xml" for split in SPLITS]
OPENIMAGES = [f"images/source/openimages/{split}" for split in SPLITS]
CHECKPOINTS = ["training/run.json", "training/best", "training/ema_checkpoints"]
# Without the label files: what they say reaches `records` through the tables.
IMAGES = [f"images/{split}/*{ending}" for split in SPLITS for suffix in sorted(DECODED_SUFFIXES)
          for ending in (suffix, suffix.upper())]


def source_files(root, settings):
    """Return what organize reads: outside the project, or what download fetched."""
    source = settings.source
    if source.kind == "openimages":
        tables = ("boxes.csv", "class-descriptions-boxable.csv")
        return [*(root / "images/source/openimages" / name for name in tables),
                *(root / folder for folder in OPENIMAGES)]
    outside = source.kind == "folder" and source.path
    return [root / Path(source.path).expanduser()] if outside else []


def weight_files(root, settings):
    """Return the user's own pre-trained weights on this machine."""
    if not settings.model.weights:
        return []
    from scripts.modeling.weight_sources import local_files

    return local_files(root, settings.model.weights)


def openimages_settings(settings):
    """Return what download depends on: nothing else while the images come from elsewhere."""
    return ["source.labels", "openimages"] if settings.source.kind == "openimages" else []


@task(klass=Step, settings=["source.kind", openimages_settings],
      outputs=["images/source/openimages/*", *OPENIMAGES], tells=["list", "stats_only"],
      optional=["list"],
      help={"list": "show classes with this in their name and their boxes; alone: all classes",
            "stats-only": "count images and boxes that pass the filters, fetch none"})
def download(c, list="", stats_only=False):
    """01 Get images of Open Images, if source.kind = "openimages"."""
    labels, settings = SETTINGS.source.labels, SETTINGS.openimages
    if SETTINGS.source.kind != "openimages" and not (list or stats_only):
        return f"nothing to download: source.kind is {SETTINGS.source.kind}"
    from scripts.steps.download import download as run
    from scripts.steps.download import list_classes, show_stats

    if stats_only:
        return show_stats(ROOT, labels, settings)
    if list:
        return list_classes(ROOT, "" if list is True else list, labels, settings)
    return run(ROOT, labels, settings)


@task(klass=Step, pre=[download], inputs=[source_files], settings=["source", "demo", "split"],
      outputs=["annotations/organize.json", "annotations/split.csv"], present=["images/train"])
def organize(c):
    """02 Copy labeled images into images/train, images/validation and images/test."""
    from scripts.steps.organize import organize as run

    return run(ROOT, SETTINGS.source, SETTINGS.demo, SETTINGS.split)


@task(klass=Step, pre=[organize], inputs=[*FOLDERS, "annotations/organize.json"],
      settings=["source.kind", "source.labels", "source.exif", "check", "model.id"],
      outputs=["annotations/check.json"], tells=["explain"], edits=["fix"], optional=["explain"],
      help={"fix": "repair in images/ what needs no person",
            "explain": "say what a code means; alone: list all codes"})
def check(c, fix=False, explain=""):
    """03 Find what would ruin training; errors stop here."""
    from scripts.modeling.zoo import zoo_entry

    if explain:
        from scripts.data.explanations import explain as tell

        return tell("" if explain is True else explain)
    if fix:
        from scripts.steps.check import fix as run
    else:
        from scripts.steps.check import check as run
    return run(ROOT, SETTINGS.source, SETTINGS.check, zoo_entry(SETTINGS.model.id).input_px)


@task(klass=Step, pre=[check], settings=["source.kind", "source.path", "source.labels"],
      inputs=[*LABELS, "annotations/check.json"],
      outputs=["annotations/label_map.pbtxt", "annotations/labelmap.json"])
def labelmap(c):
    """04 Number the classes in annotations/label_map.pbtxt."""
    from scripts.steps.labelmap import labelmap as run

    return run(ROOT, SETTINGS.source.labels)


@task(klass=Step, pre=[labelmap],
      inputs=[*FOLDERS, "annotations/organize.json", "annotations/label_map.pbtxt"],
      outputs=["annotations/*_labels.csv", "annotations/csv.json"])
def csv(c):
    """05 Write annotations/{train,validation,test}_labels.csv."""
    from scripts.steps.tables import tables

    return tables(ROOT)


@task(klass=Step, pre=[csv],
      inputs=["annotations/*_labels.csv", "annotations/label_map.pbtxt", *IMAGES],
      outputs=["annotations/*.record-*"])
def records(c):
    """06 Write the TFRecords that training reads."""
    from scripts.steps.records import records as run

    return run(ROOT)


@task(klass=Step, settings=["model"], inputs=[weight_files], code_noted=True,
      outputs=["pre_trained_model/*/*"])
def pretrained(c):
    """07 Convert the pre-trained weights of the chosen model."""
    from scripts.modeling.zoo import zoo_entry
    from scripts.steps.pretrained import pretrained as run

    return run(ROOT, zoo_entry(SETTINGS.model.id), SETTINGS.model.weights)


@task(klass=Step, pre=[records], settings=["model.id", "train", "overrides"], code_noted=True,
      inputs=["annotations/*_labels.csv", "annotations/label_map.pbtxt", "annotations/*.record-*"],
      outputs=["training/experiment.yaml", "training/configured.json"])
def configure(c):
    """08 Write training/experiment.yaml, the Model Garden experiment."""
    from scripts.steps.configure import configure as run

    return run(ROOT, SETTINGS)


@task(klass=Step, pre=[configure, pretrained], settings=["model.id", "train.patience"],
      inputs=["training/experiment.yaml", "annotations/train.record-*",
              "annotations/validation.record-*", "annotations/label_map.pbtxt",
              "pre_trained_model"],
      outputs=["training/run.json", "training/best"], code_noted=True,
      help={"finish": "accept the best checkpoint so far as the result"})
def train(c, finish=False):
    """09 Train, or go on where training stopped."""
    from scripts.steps.train import train as run

    return run(ROOT, SETTINGS.model.id, SETTINGS.runtime, SETTINGS.train.patience, finish)


@task(klass=Step, pre=[train], settings=["evaluate", "export.checkpoint"],
      inputs=[*CHECKPOINTS, "annotations/test.record-*", "annotations/validation.record-*",
              "annotations/label_map.pbtxt"],
      outputs=["eval/metrics.json", "eval/analysis.json", "eval/detections.json",
               "eval/groundtruth.json", "eval/table.txt", "eval/errors.json", "eval/errors.csv"])
def evaluate(c):
    """10 Score the checkpoint on the test images."""
    from scripts.steps.evaluate import evaluate as run

    settings = SETTINGS.evaluate
    return run(ROOT, SETTINGS.export.checkpoint, settings.score_threshold, settings.max_detections,
               settings.miss_cost)


@task(klass=Step, pre=[evaluate], settings=["evaluate.score_threshold", "export"],
      inputs=[*CHECKPOINTS, "annotations/label_map.pbtxt"],
      outputs=["inference/saved_model", "inference/labels.txt"])
def export(c):
    """11 Export a SavedModel to inference/saved_model."""
    from scripts.steps.export import export as run

    return run(ROOT, SETTINGS.export.checkpoint, SETTINGS.evaluate.score_threshold)


@task(klass=Step, pre=[export], settings=["evaluate", "export", "tflite", "model.id"],
      inputs=[*CHECKPOINTS, "annotations/*.record-*", "annotations/label_map.pbtxt",
              "eval/metrics.json", "eval/analysis.json", "eval/detections.json", "pyproject.toml"],
      outputs=["tflite/*.tflite", "tflite/labels.txt", "tflite/metrics.json"])
def tflite(c):
    """12 Convert to .tflite, measure every file, ship the one that passes."""
    from scripts.steps.tflite import tflite as run

    return run(ROOT, ROOT.name, SETTINGS)


STEPS = [download, organize, check, labelmap, csv, records, pretrained, configure, train, evaluate,
         export, tflite]


@task(klass=Tool, default=True, help={"json": "print JSON for programs"})
def status(c, json=False):
    """Show every step: done, stale, never run or interrupted, and why."""
    return overview.show_status(STEPS, json)


@task(klass=Tool, help={"step": "name of a step, such as records"})
def why(c, step):
    """Say why a step would run."""
    return overview.show_why(STEPS, step)


@task(klass=Tool, help={"step": "name of a step, such as records"})
def forget(c, step):
    """Make a step run again; of train, set its run aside in training/previous."""
    return overview.forget(STEPS, step)


@task(klass=Tool)
def worker(c):
    """Join the training of several machines as number runtime.task_index; the first one types
    `invoke train`."""
    from scripts.steps.train import join

    return join(ROOT, SETTINGS.runtime)


@task(klass=Tool, help={"experimental": "also those whose COCO weights come from an address that "
                                        "no test has fetched"})
def models(c, experimental=False):
    """List the models: size, weights and license, published AP, int8 file and its time."""
    from scripts.modeling.zoo import models_table

    return models_table(SETTINGS.model.id, experimental)


@task(klass=Tool)
def doctor(c):
    """Test the installation: versions, memory, disk, and the chosen model once."""
    from scripts.tools.doctor import doctor as run

    return run(ROOT, SETTINGS, ROOT / "requirements.txt")


@task(klass=Tool, positional=["path"], iterable=["also"],
      help={"path": "image, video or folder of them",
            "also": "one more of them; may be given again",
            "model": "variant such as float16, a .tflite file, or the folder of a SavedModel",
            "out": "folder for predictions.json, predictions.csv and drawn copies",
            "threshold": "lowest score that is shown, 0 to 1; if not given, what the model advises",
            "every": "look at every Nth frame of a video"})
def predict(c, path, also=None, model="", out="inference/predictions", threshold="", every="1"):
    """Detect objects in images and videos and draw them."""
    from scripts.tools.predict import find_model
    from scripts.tools.predict import predict as run

    files = [Path(file) for file in (path, *(also or ()))]
    return run(files, find_model(ROOT, model, SETTINGS.tflite.ship), ROOT / out, threshold, every)


@task(klass=Tool, positional=["path"],
      help={"path": "a .tflite file, of this project or any other",
            "json": "print JSON for programs"})
def inspect(c, path, json=False):
    """Show what is in a .tflite: inputs, outputs, operations, weights, metadata, labels."""
    from scripts.tools.inspect import inspect as run

    return run(Path(path), json)


@task(klass=Tool, iterable=["against"],
      help={"against": "a third-party .tflite, scored and timed too; may be given again",
            "labels": "its class names, one a line, if they are not inside",
            "mean": "its normalization, if not inside", "std": "the same",
            "rounds": "how often all files are measured in turns"})
def benchmark(c, against, labels="", mean="", std="", rounds="5"):
    """Measure size, time, memory and AP of every .tflite, in turns."""
    from scripts.tools.benchmark import ThirdParty
    from scripts.tools.benchmark import benchmark as run

    names = Path(labels) if labels else None
    third_party = ThirdParty([Path(file) for file in against], names, mean, std)
    return run(ROOT, SETTINGS, third_party, parse_count(rounds, "rounds", "5"))


@task(klass=Tool, help={"bundle": "the unpacked npm package @mediapipe/tasks-vision",
                        "model": "variant such as float16, or a .tflite file",
                        "out": "folder to write"})
def web(c, bundle="", model="", out="inference/web"):
    """Write a page that runs the detector in a browser, on images or the camera."""
    from scripts.tools.predict import find_model
    from scripts.tools.web import make_web

    path = find_model(ROOT, model, SETTINGS.tflite.ship)
    return make_web(path, Path(bundle) if bundle else None, ROOT / out)


@task(klass=Tool, optional=["flagged"],
      help={"count": "how many images",
            "flagged": "only those that check names; with a code: for that code",
            "split": "train, validation or test", "seed": "another number shows others",
            "out": "the PNG to write"})
def preview(c, count="24", flagged="", split="", seed="0", out="annotations/preview.png"):
    """Draw images of images/ with their boxes on one sheet."""
    from scripts.core.layout import Layout
    from scripts.data.label_map import class_numbers
    from scripts.tools.preview import preview as run

    return run(ROOT, ROOT / out, parse_count(count, "count", "24"), flagged, split,
               parse_count(seed, "seed", "7", least=0), class_numbers(Layout(ROOT).label_map))


@task(klass=Tool, pre=[records, pretrained],
      help={"split": "list only train, validation or test",
            "count": "entries of the list; 0: a tenth of the boxes"})
def suspects(c, split="", count="0"):
    """List labels that look wrong to the trained detector, for people to work through."""
    from scripts.tools.suspects import find_suspects

    entries = parse_count(count, "count", "50", least=0)
    return find_suspects(ROOT, SETTINGS.export.checkpoint, split, entries)


@task(klass=Tool, help={"to": "coco, yolo or voc",
                        "out": "folder to write; images/converted/FORMAT if not given"})
def convert(c, to="", out=""):
    """Write the images of images/ with labels in another format, for other tools."""
    from scripts.core.layout import Layout
    from scripts.data.label_map import read_label_map
    from scripts.tools.convert import convert as run

    path = Layout(ROOT).label_map
    ids = read_label_map(path) if path.is_file() else {}
    return run(ROOT, to, ROOT / out if out else None, ids)


@task(klass=Tool, help={"json": "print JSON for programs"})
def runs(c, json=False):
    """List the trainings that were evaluated, with their figures, from eval/runs."""
    from scripts.tools.compare import list_runs

    return list_runs(ROOT, json)


@task(klass=Tool, positional=["a", "b"],
      help={"a": "a run of `invoke runs`: its name, the beginning of it, `last` or `previous`",
            "b": "the same"})
def compare(c, a, b):
    """Say whether run B is better than run A, worse or not distinguishable: `invoke compare
    previous last`."""
    from scripts.tools.compare import compare as run

    return run(ROOT, a, b)


@task(klass=Tool)
def report(c):
    """Write eval/report.html, a page that shows what was learned, and inference/MODEL_CARD.md."""
    from scripts.tools.report import make_report

    rows = [row for row in overview.status(STEPS) if row.state in ("stale", "interrupted")]
    return make_report(ROOT, [(row.name, row.reason) for row in rows])


@task(klass=Tool, help={"port": "first port to try"})
def tensorboard(c, port="6006"):
    """Show training and evaluation curves in the browser."""
    from scripts.tools.tensorboard import open_tensorboard

    open_tensorboard(ROOT, parse_count(port, "port", "6006"))


ns = Collection(*STEPS, status, why, forget, worker, models, doctor, convert, preview, suspects,
                predict, inspect, benchmark, web, report, runs, compare, tensorboard)

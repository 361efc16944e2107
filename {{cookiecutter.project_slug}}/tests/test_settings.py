"""detector.toml: what it may say, what the environment may say, and what a user reads when it is
wrong."""

import re
import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from small_project import settings_text

from scripts.core.schema import fit
from scripts.core.settings import TABLES, load_settings
from scripts.core.text import DetectorError

PROJECT = Path(__file__).parent.parent


class Project:
    def __init__(self, root: Path):
        self.root, self.text = root, settings_text()

    def load(self, **variables: str):
        (self.root / "detector.toml").write_bytes(self.text.encode("utf-8"))
        return load_settings(self.root, variables)

    def refusal(self, **variables: str) -> str:
        with pytest.raises(DetectorError) as error:
            self.load(**variables)
        assert "\n" not in str(error.value)
        return str(error.value)

    def set(self, old: str, new: str):
        assert old in self.text
        self.text = self.text.replace(old, new)

    def line(self, start: str) -> int:
        lines = enumerate(self.text.splitlines(), 1)
        return next(number for number, line in lines if line.startswith(start))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_every_key_has_a_field_and_every_field_a_key():
    written = tomllib.loads((PROJECT / "detector.toml").read_text(encoding="utf-8"))
    assert list(written) == [*TABLES, "overrides"]
    for table, kind in TABLES.items():
        assert list(written[table]) == [field.name for field in fields(kind)], table


def test_every_setting_is_explained():
    """A setting has its comment on its line or on the line above."""
    lines = (PROJECT / "detector.toml").read_text(encoding="utf-8").splitlines()
    bare = [line for above, line in zip(["", *lines], lines, strict=False)
            if re.match(r"\w+ =", line) and "    # " not in line and not above.startswith("#")]
    assert bare == []


@pytest.mark.parametrize("table, kind", TABLES.items())
def test_examples_in_messages_are_allowed_themselves(table, kind):
    for each in fields(kind):
        fit(each.metadata["rule"].example, each.type, each.metadata["rule"])


def test_values_and_subsets(project):
    project.set("[overrides]", '[overrides]\n"task.losses.box_loss_weight" = 10\n'
                               "task.model.min_level = 3")
    settings = project.load()
    assert settings.train.minutes == settings.value("train.minutes") == 4.0
    assert settings.check.min_box_px == 1.0 and type(settings.check.min_box_px) is float
    assert settings.subset(["split.seed", "export", "overrides"]) == {
        "split.seed": 7, "export.checkpoint": "best",
        "overrides.task.losses.box_loss_weight": 10, "overrides.task.model.min_level": 3,
    }
    with pytest.raises(KeyError, match="train.minute"):
        settings.subset(["train.minute"])
    with pytest.raises(FrozenInstanceError):
        settings.train.minutes = 3.0


@pytest.mark.parametrize(
    "old, new, where, words",
    [
        # a misspelt key, a misspelt table, a table that does not exist at all, a key outside of
        # tables
        ("minutes =", "minuts =", "minuts",
         ["unknown setting train.minuts", "did you mean minutes?"]),
        ("[train]", "[trian]", "[trian]", ["unknown table [trian]", "did you mean [train]?"]),
        ("[overrides]", "[xyz]", "[xyz]", ["unknown table [xyz]", "known are [source]"]),
        ("[source]", "kind = 1\n[source]", "kind = 1", ["unknown table [kind]"]),
        # text for a number, a number for text, a fraction for a whole number, true for a number
        ("batch_size = 8", 'batch_size = "8"', "batch_size",
         ['train.batch_size = "8"', "a whole number, 1 or more"]),
        ('path = ""', "path = 3", "path", ["source.path = 3", "text in quotes"]),
        ("batch_size = 8", "batch_size = 8.5", "batch_size", ["a whole number"]),
        ("batch_size = 8", "batch_size = true", "batch_size", ["train.batch_size = true"]),
        ("merge_validation = false", "merge_validation = 0", "merge_validation", ["true or false"]),
        ("labels = []", 'labels = "a"', "labels", ["a list of texts"]),
        ("labels = []", 'labels = ["a", "a"]', "labels", ["each once"]),
        # out of range, no number at all, not among the choices
        ("validation = 0.15", "validation = 0.0", "validation", ["between 0 and 1, both excluded"]),
        ("max_ap_drop = 0.01", "max_ap_drop = 1.5", "max_ap_drop", ["between 0 and 1"]),
        ("minutes = 4.0", "minutes = inf", "minutes", ["a number, 0 or more"]),
        ("minutes = 4.0", "minutes = nan", "minutes", ["a number, 0 or more"]),
        ('kind = "demo"', 'kind = "foldr"', "kind", ['did you mean "folder"?']),
        ('checkpoint = "best"', 'checkpoint = "newest"', "checkpoint",
         ['such as checkpoint = "best"']),
        # fine alone, not together
        ("epochs = 0", "epochs = 2", "epochs", ["exactly one of them above 0"]),
        ("minutes = 4.0", "minutes = 0", "epochs", ["exactly one of them above 0"]),
        ("validation = 0.15", "validation = 0.9", "validation", ["leaves nothing to train on"]),
        ('strategy = "one_device"', 'strategy = "mirrored"', "minutes",
         ["several devices is not measured"]),
        ('worker_hosts = ""', 'worker_hosts = "a:1,b:1"', "worker_hosts", ["names 2 machines"]),
        ("task_index = 0", "task_index = 1", "task_index",
         ["task_index = 1 with 0 worker_hosts", "from 0"]),
        ('"float16", "int8"]', '"float16"]', "ship",
         ['tflite.ship = "int8" is not among the variants']),
    ],
)
def test_wrong_line_is_named(project, old, new, where, words):
    project.set(old, new)
    message = project.refusal()
    assert f"detector.toml:{project.line(where)}: " in message
    for word in words:
        assert word in message


def test_missing_key_comes_with_a_line_to_paste(project):
    project.set("patience = 0\n", "")
    line = project.line("[train]")
    assert project.refusal() == (
        f"missing train.patience: detector.toml:{line}: add under [train], a line each: "
        "`patience = 0`"
    )


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\xef\xbb\xbf[source]", "byte order mark: detector.toml:1:1: "),
        ("[source]".encode("utf-16"), "byte order mark: detector.toml:1:1: "),
        (b"# one\n# \xe9", "not UTF-8: detector.toml:2:3: "),
        (b"[train]\nminutes = four\n", "detector.toml:2:11: "),
        (b"[train]\nminutes = ", "detector.toml:2:"),
        (b'[train]\naugment = "flip', "detector.toml:2:"),
    ],
)
def test_file_that_is_no_toml(tmp_path, data, message):
    (tmp_path / "detector.toml").write_bytes(data)
    with pytest.raises(DetectorError, match=re.escape(message)) as error:
        load_settings(tmp_path, {})
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(DetectorError, match="run invoke inside the project"):
        load_settings(tmp_path, {})


def test_carriage_returns_are_fine(project):
    project.text = project.text.replace("\n", "\r\n")
    assert project.load().train.seed == 7


@pytest.mark.parametrize(
    "variable, text, name, value",
    [
        ("INVOKE_TRAIN_MINUTES", "2", "train.minutes", 2.0),
        ("INVOKE_SPLIT_TEST", "0.3", "split.test", 0.3),
        ("INVOKE_SOURCE_MERGE_VALIDATION", "true", "source.merge_validation", True),
        # texts with and without quotes, and one that looks like a number
        ("INVOKE_SOURCE_KIND", "folder", "source.kind", "folder"),
        ("INVOKE_SOURCE_KIND", '"folder"', "source.kind", "folder"),
        ("INVOKE_SOURCE_PATH", r"C:\my images", "source.path", r"C:\my images"),
        ("INVOKE_SOURCE_PATH", "2024", "source.path", "2024"),
        ("INVOKE_SOURCE_PATH", "a\nb = 1", "source.path", "a\nb = 1"),
        ("INVOKE_EXPORT_CHECKPOINT", "1200", "export.checkpoint", "1200"),
        # lists as in TOML, with commas, with one name, empty
        ("INVOKE_SOURCE_LABELS", '["a", "b"]', "source.labels", ["a", "b"]),
        ("INVOKE_SOURCE_LABELS", '"a", "b"', "source.labels", ["a", "b"]),
        ("INVOKE_SOURCE_LABELS", "red apple, été", "source.labels", ["red apple", "été"]),
        ("INVOKE_SOURCE_LABELS", "1,2", "source.labels", ["1", "2"]),
        ("INVOKE_SOURCE_LABELS", "a", "source.labels", ["a"]),
        ("INVOKE_SOURCE_LABELS", "", "source.labels", []),
        ("INVOKE_OVERRIDES", '{"a.b" = 3}', "overrides.a.b", 3),
    ],
)
def test_environment_wins(project, variable, text, name, value):
    assert project.load(**{variable: text}).value(name) == value


def test_budget_of_the_environment_replaces_the_one_of_the_file(project):
    train = project.load(INVOKE_TRAIN_EPOCHS="2").train
    assert (train.epochs, train.minutes) == (2, 0.0)
    assert "exactly one" in project.refusal(INVOKE_TRAIN_EPOCHS="2", INVOKE_TRAIN_MINUTES="3")


@pytest.mark.parametrize(
    "variable, text, words",
    [
        ("INVOKE_TRAIN_EPOCH", "2", "did you mean INVOKE_TRAIN_EPOCHS?"),
        ("INVOKE_TRAINING_SEED", "2", "did you mean INVOKE_TRAIN_SEED?"),
        ("INVOKE_TRAIN_EPOCHS", "two",
         'train.epochs = "two": environment variable INVOKE_TRAIN_EPOCHS: wanted a'),
        ("INVOKE_SOURCE_MERGE_VALIDATION", "False", "wanted true or false"),
        ("INVOKE_TFLITE_VARIANTS", "int8,int4", "INVOKE_TFLITE_VARIANTS"),
        ("INVOKE_TRAIN_MINUTES", "3\nseed = 1", "wanted a number"),
        ("INVOKE_SOURCE_KIND", "a\nb", "one of demo, folder"),
        ("INVOKE_OVERRIDES", "a", "write a table such as"),
    ],
)
def test_environment_is_checked(project, variable, text, words):
    assert words in project.refusal(**{variable: text})


@pytest.mark.parametrize("name", ["RUN_ECHO", "TASKS_DEDUPE", "SUDO_USER", "RUNTIME_CONFIG",
                                  "DEBUG"])
def test_names_that_invoke_reads_itself_are_left_alone(project, name):
    project.load(**{f"INVOKE_{name}": "1"}, PATH="/bin")

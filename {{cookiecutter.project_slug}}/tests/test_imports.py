"""What a step watches: the code that its task imports, directly or not, and none of its words."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from small_project import settings_text

from scripts.core import step
from scripts.core.imports import read_module
from scripts.core.settings import load_settings
from scripts.core.state import write_record
from scripts.tools import status as overview

PROJECT = Path(__file__).parent.parent


class Watched:
    """A copy of the project whose steps were all done, as far as their records say."""

    def __init__(self, root: Path):
        self.root = root
        shutil.copytree(PROJECT / "scripts", root / "scripts",
                        ignore=shutil.ignore_patterns("__pycache__", "templates"))
        (root / "detector.toml").write_text(settings_text(), encoding="utf-8")
        (root / "images/train").mkdir(parents=True)
        (root / "images/train/a.jpg").write_bytes(b"a")
        (root / "tasks.py").write_bytes((PROJECT / "tasks.py").read_bytes())
        spec = importlib.util.spec_from_file_location("tasks_of_a_copy", root / "tasks.py")
        tasks = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tasks)
        self.steps = tasks.STEPS
        project = step.current()
        for task in self.steps:
            write_record(task.record_path(project), "done", task.observe(project), text="")
        project.remember()

    def add(self, module: str, text: str) -> set[str]:
        """Add a text to a module; return the steps that would run for that reason."""
        path = self.root / "scripts" / module
        before = path.read_bytes()
        path.write_bytes(before + text.encode())
        step.configure(self.root, load_settings(self.root, {}))
        rows = overview.status(self.steps)
        path.write_bytes(before)
        reason = f"scripts/{module} changed"
        return {row.name for row in rows if row.state == "stale" and row.reason == reason}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    return Watched(tmp_path_factory.mktemp("watched"))


@pytest.mark.parametrize(("module", "stale"), [
    ("steps/tables.py", "csv"),
    ("data/formats/yolo.py", "organize"), ("data/demo/painting.py", "organize"),
    ("data/formats/voc.py", "organize check labelmap csv records evaluate tflite"),
    ("data/rules.py", "check"),
    ("data/box_table.py", "csv records evaluate tflite"),
    ("modeling/backbone.py", "evaluate export tflite"),
    ("training/losses.py", "evaluate export tflite"),
    ("evaluation/errors.py", "evaluate"),
    ("evaluation/intervals.py", "evaluate tflite"),
    ("deploy/gate.py", "tflite"),
    # Its constants go into models.
    ("core/schema.py", "check evaluate export tflite"),
    # No step imports these, or only those whose code is no reason.
    ("report/card.py", ""), ("tools/predict.py", ""), ("modeling/weight_sources.py", ""),
    # No step computes with these.
    ("core/text.py", ""), ("core/step.py", ""), ("core/files.py", ""),
])
def test_a_line_of_code_makes_those_stale_that_import_it(watched, module, stale):
    assert watched.add(module, "\nADDED = 1\n") == set(stale.split())


def test_words_make_nothing_stale(watched):
    assert watched.add("data/formats/voc.py", "\n\n# Words.\n\n'''More words.'''\n") == set()
    assert all(row.state == "done" for row in overview.status(watched.steps))


def test_a_module_that_is_no_python_is_changed_code(watched):
    """The step that imports it will say what is wrong; `invoke status` must not."""
    assert watched.add("deploy/gate.py", "\n(\n") == {"tflite"}


def test_training_only_mentions_changed_code(watched):
    path = watched.root / "scripts/training/runner.py"
    before = path.read_bytes()
    path.write_bytes(before + b"\nADDED = 1\n")
    step.configure(watched.root, load_settings(watched.root, {}))
    rows = {row.name: row for row in overview.status(watched.steps)}
    path.write_bytes(before)
    assert rows["train"].state == rows["configure"].state == "done"
    assert rows["train"].reason == ("scripts/training/runner.py changed, which does not count; "
                                    "invoke forget train makes it run")


CODE = '''
def add(a, b=1):
    from scripts.core import text
    return a + b
'''


@pytest.mark.parametrize(("text", "same"), [
    ("# a comment" + CODE, True),
    ('"""A docstring."""' + CODE, True),
    (CODE.replace("    from", '    """Add."""\n\n    from'), True),
    (CODE.replace("a + b", "(a +\n            b)  # two lines"), True),
    (CODE.replace("b=1", "b=1.0"), False),
    (CODE.replace("a + b", "a - b"), False),
    (CODE.replace("return a", "a"), False),
])
def test_what_counts_as_a_change(tmp_path, text, same):
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    old.write_text(CODE)
    new.write_text(text)
    assert (read_module(old)[0] == read_module(new)[0]) is same
    assert read_module(new)[1] == ["scripts.core", "scripts.core.text"]

"""Answers of any kind are refused in one line of ours, or stand in the project as data."""

import json
import subprocess
import sys
import tomllib

import pytest

from tools.bake import TEMPLATE, copy_template

CODE = "'''+str(__import__('pathlib').Path('hacked').touch())+'''"

REFUSED = [
    # (answers, what the line has to name)
    ({"project_name": 'The "best" one'}, "project_name: 'The \"best\" one' contains '\"'"),
    ({"project_name": "two\nlines"}, r"project_name: 'two\nlines' contains '\n'"),
    ({"project_name": "   "}, "project_name: '   ' is empty"),
    ({"author": "back\\slash"}, r"author: 'back\\slash' contains '\\'"),
    ({"author": ""}, "author: '' is empty"),
    ({"project_slug": "../x"}, "project_slug: '../x' is not a folder name"),
    ({"project_slug": "Fruit"}, "project_slug: 'Fruit' is not a folder name"),
    ({"project_slug": "a" * 65}, "is not a folder name"),
    ({"project_slug": "a b"}, "project_slug: 'a b' is not a folder name"),
    ({"labels": "Apple,,Pear"}, "labels: 'Apple,,Pear' has an empty name"),
    ({"labels": "Apple, Pear, "}, "has an empty name"),
    ({"labels": "Apple, apple"}, "names 'apple' twice"),
    ({"labels": "caf\u00e9, cafe\u0301"}, "twice"),
    ({"labels": 'Apple, "Pear"'}, "contains '\"'"),
    ({"labels": "Apple\u2028Pear"}, r"contains '\u2028'"),
    ({"labels": CODE + '"'}, "contains '\"'"),
]

KEPT = [
    # (answers, where they have to be found as they are)
    ({"labels": "Apple, \U0001f34e Äpfel"}, ["Apple", "\U0001f34e Äpfel"]),
    ({"labels": "Granny Smith's, <b>&"}, ["Granny Smith's", "<b>&"]),
    ({"labels": " Apple ,Pear "}, ["Apple", "Pear"]),
    ({"labels": ""}, []),
    ({"labels": CODE}, [CODE]),
]


def cookiecutter(tmp_path, *arguments: str, typed: str = "") -> tuple[int, str]:
    """Run the command line as a user does, into the folder `out`; return its exit code and all it
    printed."""
    source = copy_template(tmp_path / "template")
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps({"replay_dir": str(tmp_path / "replay"), "cookiecutters_dir": str(tmp_path)}))
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable, "-m", "cookiecutter", "--config-file", str(config), str(source), *arguments]
    done = subprocess.run(
        command, cwd=out, input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8"
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(("answers", "line"), REFUSED)
def test_a_bad_answer_is_refused_in_the_first_line_and_leaves_nothing(tmp_path, answers, line):
    ((field, value),) = answers.items()
    code, printed = cookiecutter(tmp_path, "--no-input", f"{field}={value}")
    first = printed.splitlines()[0]
    assert first.startswith(f"{field}: ") and line in first and "Example: " in first
    assert code == 1
    assert list(tmp_path.glob("out/*")) == []
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("answers", "labels"), KEPT)
def test_an_odd_answer_is_data(bake, answers, labels):
    project = bake(**answers)
    assert tomllib.loads(project.read("detector.toml"))["source"]["labels"] == labels
    assert not project.has_file("hacked")


def test_jinja_typed_at_the_prompt_is_refused(tmp_path):
    """At the prompt cookiecutter takes an answer as it is, but an update of the project would
    render it."""
    code, printed = cookiecutter(tmp_path, typed="{{ 7 * 7 }}\nfruit\n" + "\n" * 5)
    assert code == 1
    assert "project_name: '{{ 7 * 7 }}' contains '{'" in printed
    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.parametrize(
    ("name", "slug"),
    [("My Détecteur", "my-detecteur"), ("  Fruit   2 ", "fruit-2"), ("\U0001f34e", "detector"),
     ("O'Brien", "o-brien")],
)
def test_the_folder_is_named_after_the_project(bake, name, slug):
    project = bake(project_name=name)
    assert project.folder.name == slug
    assert tomllib.loads(project.read("pyproject.toml"))["project"]["name"] == slug


def test_a_name_that_cannot_start_a_folder_is_refused(tmp_path):
    code, printed = cookiecutter(tmp_path, "--no-input", "project_name=3 fruits")
    assert code == 1
    assert printed.startswith("project_slug: '3-fruits' is not a folder name")


def test_choices_are_checked_again_for_replayed_answers(tmp_path):
    """`cookiecutter --replay` does not look at the choices."""
    answers = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    answers |= {"project_slug": "fruit", "source": "moon", "model": "lite0-256", "license": "MIT"}
    replay = tmp_path / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": answers}))
    code, printed = cookiecutter(tmp_path, "--replay-file", str(replay))
    assert code == 1
    assert printed.startswith("source: 'moon' is none of demo, folder, openimages. Example: demo")


def test_open_images_without_a_class_is_refused(tmp_path):
    code, printed = cookiecutter(tmp_path, "--no-input", "source=openimages", "labels= ")
    assert code == 1
    assert printed.startswith(
        "labels: ' ' names no class, and source=openimages downloads by class. Example: Apple")

"""A baked project has exactly the files of the template, rendered where they should be."""

import fnmatch
import re
import subprocess
import tomllib
from pathlib import PurePosixPath

import pytest

from tests.harness import CHOSEN, PROJECT, QUESTIONS
from tools.bake import TEMPLATE
from tools.demo import bake_demo

LICENSE = "{% if cookiecutter.license != 'none' %}LICENSE{% endif %}"
RENDERED = {"README.md", "detector.toml", "pyproject.toml", LICENSE}
CHOICES = [(key, choice) for key, choices in CHOSEN.items() for choice in choices]


def template_files() -> set[str]:
    """Return the project's files that git tracks or would track, relative to the project's folder.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=TEMPLATE / PROJECT, capture_output=True, text=True,
                          check=True, encoding="utf-8")
    return {
        name for name in done.stdout.split("\0") if name and (TEMPLATE / PROJECT / name).exists()}


def test_the_tree_is_the_templates_tree(bake):
    expected = template_files() - {LICENSE} | {"LICENSE"}
    assert bake().files() == expected


def test_all_but_four_files_are_copied_byte_for_byte(bake):
    project = bake()
    for name in template_files() - RENDERED:
        assert (project.folder / name).read_bytes() == (
            TEMPLATE / PROJECT / name).read_bytes(), name


def test_patterns_match_the_files_to_copy_and_no_folder():
    """cookiecutter deletes a folder that matches when it bakes over a project, and its data with
    it."""
    patterns = QUESTIONS["_copy_without_render"]
    for name in template_files():
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns) == (
            name not in RENDERED), name
        for folder in list(PurePosixPath(name).parents)[:-1]:
            assert not any(fnmatch.fnmatch(str(folder), pattern) for pattern in patterns), folder


def test_nothing_of_the_template_is_left_unrendered(bake):
    project = bake()
    for name in project.files():
        text = (project.folder / name).read_bytes().decode("utf-8", errors="replace")
        assert not re.search(r"\{\{\s*cookiecutter", text), name
        if not name.startswith("scripts/report/templates/"):  # those the project renders itself
            assert not re.search(r"\{%-? *(if|else|endif|for|set)\b", text), name


def test_no_python_file_holds_jinja():
    for name in template_files():
        if name.endswith(".py"):
            assert "cookiecutter" not in (TEMPLATE / PROJECT / name).read_text(
                encoding="utf-8"), name


def test_the_same_answers_give_the_same_bytes(bake):
    first, second = bake(), bake()
    for name in first.files():
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name


@pytest.mark.parametrize(("key", "choice"), CHOICES)
def test_each_choice_gives_a_project_that_loads(bake, key, choice):
    needed = {"labels": "Apple"} if choice == "openimages" else {}
    project = bake(**{key: choice}, **needed)
    settings = tomllib.loads(project.read("detector.toml"))
    tomllib.loads(project.read("pyproject.toml"))
    if key == "source":
        assert settings["source"]["kind"] == choice
    if key == "model":
        assert settings["model"]["id"] == choice
    assert project.has_file("LICENSE") == (choice != "none")
    listed = project.invoke("--list")
    assert listed.returncode == 0, listed.stderr
    assert "tflite" in listed.stdout


def test_the_license_is_the_chosen_one(bake):
    mit = bake(license="MIT", author="Ada Lovelace").read("LICENSE")
    assert mit.startswith("MIT License\n\nCopyright (c) Ada Lovelace\n")
    apache = bake(license="Apache-2.0").read("LICENSE")
    assert "Version 2.0, January 2004" in apache.splitlines()[1]
    assert "MIT" not in apache.replace("LIMIT", "").replace("PERMIT", "")


def test_a_fresh_project_passes_its_own_lint(bake):
    done = bake().run("-m", "ruff", "check", ".")
    assert done.returncode == 0, done.stdout


def test_every_question_is_asked_in_words():
    asked = {key for key in QUESTIONS if not key.startswith("_")}
    assert set(QUESTIONS["__prompts__"]) == asked
    assert len(asked) <= 8
    for key, choice in CHOICES:
        assert choice in QUESTIONS["__prompts__"][key]


def test_pyproject_parses_before_it_is_rendered():
    text = (TEMPLATE / PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["name"] == "{{ cookiecutter.project_slug }}"


def test_baking_again_updates_code_and_keeps_data(bake, tmp_path):
    project = bake_demo(tmp_path / "build")
    (project / "images" / "train").mkdir(parents=True, exist_ok=True)
    (project / "images" / "train" / "mine.jpg").write_bytes(b"mine")
    (project / ".steps").mkdir()
    (project / ".steps" / "organize.json").write_text("{}")
    (project / "tasks.py").write_text("broken(")
    (project / "scripts" / "left_from_an_older_template.py").write_text("broken(")
    again = bake_demo(tmp_path / "build")
    assert again == project and list((tmp_path / "build").iterdir()) == [project]
    assert (project / "images" / "train" / "mine.jpg").read_bytes() == b"mine"
    assert (project / ".steps" / "organize.json").exists()
    assert (project / "tasks.py").read_bytes() == (TEMPLATE / PROJECT / "tasks.py").read_bytes()
    assert not (project / "scripts" / "left_from_an_older_template.py").exists()

"""The baked project works where its owner puts it."""

import shutil
import subprocess

import pytest

from tests.harness import Baked

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m")
FAST_TESTS = (*PYTEST, "not slow")
# The tests of a file share what it trained.
BY_FILE = ("-n", "2", "--dist", "loadfile")
SLOW_TESTS = (*PYTEST, "slow and not release", *BY_FILE)
RELEASE_TESTS = (*PYTEST, "release", *BY_FILE)
# Few and small images: these tests look at the wiring, not at the images.
FEW = {"INVOKE_DEMO_IMAGES": "24", "INVOKE_DEMO_SIZE_PX": "96"}


def git(folder, *arguments: str) -> str:
    """Run git without the user's own configuration and return what it printed."""
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c",
               "commit.gpgsign=false", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def vision(bake, tmp_path) -> Baked:
    """Return the project as `other repo/vision` of a repository that has scripts, tests, tasks and
    settings itself."""
    other = tmp_path / "other repo"
    for folder in ("scripts/core", "tests"):
        (other / folder).mkdir(parents=True)
    broken = "raise RuntimeError('this file belongs to the other repository')\n"
    for name in (
        "tasks.py", "scripts/__init__.py", "scripts/core/__init__.py", "tests/conftest.py"):
        (other / name).write_text(broken)
    (other / "tests" / "test_step.py").write_text(broken)
    (other / "pyproject.toml").write_text(
        '[project]\nname = "other"\nversion = "1"\n[tool.pytest.ini_options]\nx = "y"\n'
    )
    shutil.copytree(bake().folder, other / "vision")
    git(other, "init", "--quiet")
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "all")
    return Baked(other / "vision")


@pytest.mark.release
def test_its_own_fast_tests_pass(bake):
    done = bake().run(*FAST_TESTS, timeout_s=1800)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_its_own_slow_tests_pass(bake):
    done = bake().run(*SLOW_TESTS, timeout_s=5000)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.release
def test_its_tests_before_a_release_pass(bake):
    done = bake().run(*RELEASE_TESTS, timeout_s=5000)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_tasks_are_found_inside_another_repository(vision):
    listed = vision.invoke("--list")
    assert listed.returncode == 0, listed.stderr
    assert "organize" in listed.stdout and "tflite" in listed.stdout


def test_a_code_is_explained_in_a_new_project_without_getting_images(bake):
    project = bake()
    told = project.invoke("check", "--explain", "E005")
    assert told.returncode == 0 and told.stdout.startswith(
        "E005  error  box is outside the image"), told.stderr
    assert project.invoke("check", "--explain").stdout.startswith("E001")
    refused = project.invoke("check", "--explain=E05")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: 'E05' is no code, the nearest is 'E0")
    assert not project.has_file("annotations/organize.json")


def test_a_step_runs_inside_another_repository_and_leaves_git_clean(vision):
    first = vision.invoke("check", **FEW)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "check: ran" in first.stdout
    again = vision.invoke("check", **FEW)
    assert again.returncode == 0
    assert "check: up to date" in again.stdout and " ran " not in again.stdout
    assert git(vision.folder.parent, "status", "--porcelain") == ""


def test_a_step_runs_from_a_folder_of_the_project(vision):
    done = Baked(vision.folder / "images").invoke("organize", **FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(vision.folder.glob("images/train/*.xml"))


def test_its_fast_tests_pass_inside_another_repository(vision):
    done = vision.run(*FAST_TESTS, timeout_s=1800)
    assert done.returncode == 0, done.stdout + done.stderr

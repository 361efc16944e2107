"""`Step` with arguments: one that only tells something, and one that edits what the step reads."""

import sys

import pytest
from invoke import Collection, Config, Exit, task
from test_step import settings_text

from scripts.core import folder_lock, step
from scripts.core.settings import load_settings
from scripts.core.step import Step, StepExecutor
from scripts.tools import status as overview


class Pair:
    """A project of two steps: `fetch` writes images/a.txt, `look` reads it, repairs it with
    `--fix`, or explains."""

    def __init__(self, root):
        self.root, self.ran = root, []
        self.write("detector.toml", settings_text())

        @task(klass=Step, present=["images/a.txt"])
        def fetch(c):
            self.ran.append("fetch")
            self.write("images/a.txt", "bad")

        @task(klass=Step, pre=[fetch], inputs=["images"], outputs=["annotations/look.txt"],
              tells=["explain"], edits=["fix"], optional=["explain"])
        def look(c, fix=False, explain=""):
            if explain:
                return f"what {explain} means"
            self.ran.append("look")
            if fix:
                self.write("images/a.txt", "good")
            self.write("annotations/look.txt", (root / "images/a.txt").read_text())

        @task(klass=Step, pre=[look], inputs=["annotations/look.txt"])
        def tell(c):
            self.ran.append("tell")

        self.steps = [fetch, look, tell]

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def run(self, *calls: tuple[str, dict]) -> list[str]:
        """What ran of an invoke command, each call a task with its arguments."""
        self.ran.clear()
        folder_lock.release(self.root / ".steps/lock")
        step.configure(self.root, load_settings(self.root, {}))
        StepExecutor(Collection(*self.steps), Config()).execute(*calls)
        return self.ran.copy()

    def states(self) -> list[str]:
        step.configure(self.root, load_settings(self.root, {}))
        return [row.state for row in overview.status(self.steps)]


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path / "project")
    yield pair
    folder_lock.release(pair.root / ".steps/lock")


def test_a_question_is_answered_without_the_steps_before(pair, capsys):
    assert pair.run(("look", {"fix": False, "explain": "E1"})) == []
    assert capsys.readouterr().out == "what E1 means\n" and not (pair.root / "images").exists()
    assert pair.states() == ["never", "never", "never"]


def test_a_question_beside_a_step_leaves_out_nothing_of_the_step(pair):
    assert pair.run(("look", {"fix": False, "explain": "E1"}), ("tell", {})) == ["fetch", "look", "tell"]


def test_a_question_leaves_the_state_of_the_step_alone(pair):
    pair.run(("tell", {}))
    assert pair.run(("look", {"fix": False, "explain": "E1"})) == [] and pair.states() == ["done"] * 3


def test_a_step_that_edits_what_it_reads_is_done_afterwards(pair):
    pair.run(("tell", {}))
    assert pair.run(("look", {"fix": True, "explain": ""})) == ["look"]
    assert pair.states()[:2] == ["done", "done"]
    assert pair.run(("tell", {})) == ["tell"]


def test_a_reader_that_has_seen_enough_is_no_traceback(monkeypatch):
    """`invoke status | head -3` closes the pipe while we write."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with pytest.raises(Exit) as left, step.errors_in_one_line("status"):
        raise BrokenPipeError
    assert left.value.code == 1 and not left.value.message
    print("goes nowhere", flush=True)

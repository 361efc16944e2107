"""`Step` with arguments: one that only tells something, and one that edits what the step reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Collection, Config, Exit, task
from small_project import settings_text

from scripts.core import folder_lock, step
from scripts.core.settings import load_settings
from scripts.core.step import Step, StepExecutor
from scripts.core.text import DetectorError
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
    assert pair.run(("look", {"fix": False, "explain": "E1"}), ("tell", {})) == [
        "fetch", "look", "tell"]


def test_a_question_leaves_the_state_of_the_step_alone(pair):
    pair.run(("tell", {}))
    assert pair.run(("look", {"fix": False, "explain": "E1"})) == []
    assert pair.states() == ["done"] * 3


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


# One process at a time works in a folder, whatever happens to the one before.


PROJECT = Path(__file__).parent.parent

CHILD = """
import sys
from pathlib import Path
import filelock
from scripts.core.folder_lock import acquire
from scripts.core.text import DetectorError

print("ready", flush=True)
for _ in sys.stdin:
    try:
        acquire(Path(sys.argv[1]))
        print("held", flush=True)
    except DetectorError as error:
        print(error, flush=True)
"""


@pytest.fixture
def children(tmp_path):
    """Six processes; each tries to take the lock whenever a line is written to it."""
    command = [sys.executable, "-c", CHILD, str(tmp_path / ".steps/lock")]
    started = [subprocess.Popen(command, cwd=PROJECT, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."})
               for _ in range(6)]
    assert all(child.stdout.readline() == "ready\n" for child in started)
    yield started
    for child in started:
        child.kill()
        child.communicate()


def test_of_processes_that_start_together_one_holds_it_until_it_is_killed(children, tmp_path):
    path = tmp_path / ".steps/lock"
    while len(children) > 1:
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.stdout.readline() for child in children]
        (holder,) = [child for child, answer in zip(children, answers, strict=True)
                     if answer == "held\n"]
        refused = [answer for answer in answers if answer != "held\n"]
        assert set(refused) <= {f"another invoke (pid {holder.pid}) is working here: .steps/lock: "
                                "wait until it ends\n"}
        assert folder_lock.owner_of(path) == holder.pid
        holder.kill()
        holder.communicate()
        assert folder_lock.owner_of(path) is None
        children.remove(holder)


def test_the_process_that_holds_it_may_take_it_again(tmp_path):
    path = tmp_path / "new/folder/lock"
    assert folder_lock.acquire(path) and not folder_lock.acquire(path)
    assert folder_lock.owner_of(path) is None, "this process is no other"
    folder_lock.release(path)
    assert folder_lock.acquire(path)
    folder_lock.release(path)


def test_a_child_of_the_process_does_not_hold_it(tmp_path):
    path = tmp_path / "lock"
    folder_lock.acquire(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder_lock.release(path)
    code = "import sys; from pathlib import Path; from scripts.core.folder_lock import acquire; "
    subprocess.run([sys.executable, "-c", code + "acquire(Path(sys.argv[1]))", path], check=True,
                   cwd=PROJECT, env=os.environ | {"PYTHONPATH": "."})
    child.communicate(b"\n")


def test_a_holder_that_left_no_number_is_named_without_one(tmp_path):
    from filelock import FileLock

    path = tmp_path / "lock"
    with FileLock(path), pytest.raises(DetectorError, match="^another invoke is working here: "):
        folder_lock.acquire(path)

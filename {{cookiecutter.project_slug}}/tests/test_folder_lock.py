"""One process at a time works in a folder, whatever happens to the one before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.core import folder_lock
from scripts.core.text import DetectorError

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

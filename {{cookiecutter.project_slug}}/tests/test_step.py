"""`Step` alone: when a task runs, when it does not, and what it says about it."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke import Context, Exit, task
from small_project import settings_text

from scripts.core import folder_lock, step
from scripts.core.settings import load_settings
from scripts.core.state import Digests
from scripts.core.step import Step, Tool
from scripts.core.text import DetectorError
from scripts.tools import status as overview

PROJECT = Path(__file__).parent.parent


class Chain:
    """A project of two steps: `join` joins the texts of images/, `shout` writes the result in
    capitals. They name the modules of their code, and never import them."""

    def __init__(self, root: Path, capsys):
        self.root, self.capsys, self.ran, self.imports = root, capsys, [], False
        self.failure: BaseException | None = None
        self.write("detector.toml", settings_text())
        self.write("images/train/a.txt", "a")
        self.write("images/train/ö 1.txt", "o")
        self.write("scripts/records/join.py", "from scripts.records.words import x\n")
        self.write("scripts/records/words.py", "x = 1\n")
        self.write("scripts/training/loop.py", "x = 1\n")
        self.join, self.shout = self.tasks()

    def tasks(self):
        @task(klass=Step, inputs=["images/**/*.txt"], settings=["split.seed", "demo"],
              outputs=["annotations/joined.txt"])
        def join(c, fix=False):
            if self.imports:
                from scripts.records.join import x  # noqa: F401
            self.ran.append("join")
            if self.failure:
                raise self.failure
            texts = [path.read_text() for path in sorted((self.root / "images").rglob("*.txt"))]
            self.write("annotations/joined.txt", "".join(texts).strip())
            return f"{len(texts)} texts"

        @task(klass=Step, pre=[join], inputs=["annotations/joined.txt"], outputs=["eval"],
              code_noted=True)
        def shout(c):
            if self.imports:
                from scripts.training.loop import x  # noqa: F401
            self.ran.append("shout")
            text = (self.root / "annotations/joined.txt").read_text()
            self.write("eval/shouted.txt", text.upper())

        return join, shout

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, **arguments) -> list[str]:
        """Run both as a new process would and return the names of those whose body ran."""
        self.configure()
        self.ran.clear()
        self.join(Context(), **arguments)
        self.shout(Context())
        return self.ran.copy()

    def configure(self):
        step.configure(self.root, load_settings(self.root, {}))

    def set(self, old: str, new: str):
        text = (self.root / "detector.toml").read_text(encoding="utf-8")
        assert old in text
        self.write("detector.toml", text.replace(old, new))

    def status(self) -> dict[str, tuple[str, str]]:
        self.configure()
        rows = overview.status([self.join, self.shout])
        return {row.name: (row.state, row.reason) for row in rows}

    def printed(self) -> str:
        return self.capsys.readouterr().out


@pytest.fixture
def chain(tmp_path, capsys):
    chain = Chain(tmp_path / "projet été", capsys)
    yield chain
    folder_lock.release(chain.root / ".steps/lock")


@pytest.fixture
def done(chain):
    assert chain.run() == ["join", "shout"]
    chain.printed()
    return chain


def test_first_run_runs_and_says_what_it_did(chain):
    assert chain.status() == {"join": ("never", "never ran"), "shout": ("never", "never ran")}
    assert chain.run() == ["join", "shout"]
    assert re.fullmatch(r"join: ran \d+\.\d s: 2 texts\nshout: ran \d+\.\d s\n", chain.printed())
    assert chain.status()["join"] == ("done", "2 texts")


def test_second_run_does_nothing(done):
    assert done.run() == []
    assert done.printed() == "join: up to date\nshout: up to date\n"


def test_touch_runs_nothing(done):
    for path in done.root.rglob("*.txt"):
        os.utime(path)
    assert done.run() == []


def test_edited_input_runs_what_depends_on_it(done):
    done.write("images/train/a.txt", "b")
    assert done.status()["join"] == ("stale", "images/train/a.txt changed")
    assert done.status()["shout"] == ("stale", "join would run first")
    assert done.run() == ["join", "shout"]


def test_edit_of_same_size_and_time_is_seen(done):
    """Right after a run, time stamps are too coarse to be trusted."""
    path = done.root / "images/train/a.txt"
    before = path.stat()
    path.write_text("b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert done.run() == ["join", "shout"]


def test_swapped_files_of_same_size_and_age_are_seen(done):
    first, second = done.root / "images/train/a.txt", done.root / "images/train/ö 1.txt"
    for path in (first, second):
        os.utime(path, ns=(10**18, 10**18))
    time.sleep(2.1)  # so that the stamps are old enough to be remembered
    assert done.run() == []
    first.rename(first.with_name("x"))
    second.rename(first)
    first.with_name("x").rename(second)
    assert done.run() == ["join", "shout"]


def test_added_and_deleted_inputs_are_named(done):
    for name in "cdefg":
        done.write(f"images/test/{name}.txt", name)
    (done.root / "images/train/ö 1.txt").unlink()
    reason = "5 files added: images/test/c.txt, images/test/d.txt, images/test/e.txt and 2 more; "
    assert done.status()["join"] == ("stale", reason + "images/train/ö 1.txt deleted")
    assert done.run() == ["join", "shout"]


def test_what_is_no_data_does_not_count(done):
    done.write("images/README.md", "words")
    done.write("eval/README.md", "words")
    done.write("images/train/.partial-1-2.txt", "unfinished")
    assert done.run() == []


@pytest.mark.parametrize("harm, reason", [("edit", "changed"), ("delete", "deleted")])
def test_output_that_is_not_as_it_was_left_is_made_again(done, harm, reason):
    path = done.root / "annotations/joined.txt"
    path.write_text("?") if harm == "edit" else path.unlink()
    assert done.status()["join"] == ("stale", f"annotations/joined.txt {reason}")
    # Its content is the old one again, so nothing after it runs.
    assert done.run() == ["join"]
    assert path.read_text() == "ao"


def test_present_output_may_change_and_must_not_vanish(done):
    @task(klass=Step, present=["images/train"])
    def organize(c):
        done.ran.append("organize")

    organize(Context())
    done.write("images/train/a.txt", "edited by the user")
    done.configure()
    organize(Context())
    assert done.ran.count("organize") == 1
    shutil.rmtree(done.root / "images/train")
    done.configure()
    why = overview.show_why([organize], "organize")
    assert why == "organize: would run\n  images/train deleted"


def test_setting_that_it_reads(done):
    done.set("test = 0.15\nseed = 7", "test = 0.15\nseed = 8")
    assert done.status()["join"] == ("stale", "split.seed 7 -> 8")
    assert done.run() == ["join"]


def test_setting_of_a_table_that_it_reads(done):
    done.set("size_px = 384", "size_px = 64")
    assert done.status()["join"] == ("stale", "demo.size_px 384 -> 64")


def test_setting_that_it_does_not_read(done):
    done.set("validation = 0.15", "validation = 0.25")
    assert done.run() == []


def test_changed_code_runs_the_step_and_nothing_after_it(done):
    done.write("scripts/records/words.py", "x = 2\n")
    assert done.status()["join"] == ("stale", "scripts/records/words.py changed")
    assert done.run() == ["join"]


def test_comments_and_docstrings_in_code_run_nothing(done):
    done.write("scripts/records/words.py", '"""Words."""\n\n# one\nx = 1  # two\n\n"""Three."""\n')
    assert done.run() == []


def test_noted_code_runs_nothing_and_is_mentioned(done):
    done.write("scripts/training/loop.py", "x = 2\n")
    state, reason = done.status()["shout"]
    assert state == "done" and reason.startswith("scripts/training/loop.py changed, which does not")
    assert done.run() == []


def test_argument_runs_the_body_even_when_up_to_date(done):
    assert done.run(fix=False) == []
    assert done.run(fix=True) == ["join"]


def test_refusal_is_one_line_and_runs_again(done):
    done.write("images/train/a.txt", "b")
    done.failure = DetectorError("box outside: a.xml:3: run invoke check --fix")
    with pytest.raises(Exit) as refusal:
        done.run()
    message = "error: box outside: a.xml:3: run invoke check --fix"
    assert (refusal.value.code, refusal.value.message) == (1, message)
    state, reason = done.status()["join"]
    assert state == "stale" and reason.startswith("failed last time: box outside")
    done.failure = None
    assert done.run() == ["join", "shout"]


@pytest.mark.parametrize(("number", "advice"), [(28, "free some space"), (13, "allow writing")])
def test_a_full_or_closed_disk_is_one_line(done, number, advice):
    done.failure = OSError(number, os.strerror(number), "images/a.jpg")
    done.write("images/train/a.txt", "b")
    message = f"error: {os.strerror(number)}: images/a.jpg: {advice}"
    with pytest.raises(Exit, match=message) as refused:
        done.join(Context())
    assert refused.value.code == 1


def test_defect_keeps_its_traceback_and_is_shown_as_interrupted(done):
    done.write("images/train/a.txt", "b")
    done.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        done.run()
    assert done.status()["join"] == ("interrupted", "interrupted")
    done.failure = None
    assert done.run() == ["join", "shout"]


def test_input_edited_while_the_body_runs_is_found_next_time(done):
    @task(klass=Step, inputs=["images/train/a.txt"])
    def slow(c):
        done.write("images/train/a.txt", "edited meanwhile")

    slow(Context())
    done.configure()
    assert "images/train/a.txt changed" in overview.show_why([slow], "slow")


def test_moved_project_runs_nothing(done):
    moved = done.root.with_name("somewhere else")
    folder_lock.release(done.root / ".steps/lock")
    shutil.move(done.root, moved)
    done.root = moved
    assert done.run() == []


def test_copied_project_runs_nothing(done):
    copy = done.root.with_name("copy")
    shutil.copytree(done.root, copy, ignore=shutil.ignore_patterns("lock"))
    done.root = copy
    assert done.run() == []


def test_source_inside_the_project_moves_with_it(done):
    @task(klass=Step, inputs=[lambda root, settings: [root / "images/train"]])
    def read(c):
        done.ran.append("read")

    read(Context())
    folder_lock.release(done.root / ".steps/lock")
    moved = done.root.with_name("moved")
    shutil.move(done.root, moved)
    done.root = moved
    done.configure()
    assert overview.show_why([read], "read") == "read: up to date"


def test_source_outside_the_project(done, tmp_path):
    outside = tmp_path / "my [images]*"

    @task(klass=Step, inputs=[lambda root, settings: [outside]])
    def read(c):
        done.ran.append("read")

    outside.mkdir()
    (outside / "1.txt").write_text("1")
    read(Context())
    (outside / "2.txt").write_text("2")
    done.configure()
    why = overview.show_why([read], "read")
    assert why == f"read: would run\n  {outside.as_posix()}/2.txt added"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_and_circles_end(done, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/z.txt").write_text("z")
    (done.root / "images/big").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/circle").symlink_to(tmp_path / "disk")
    assert done.status()["join"] == ("stale", "images/big/z.txt added")


def test_digest_is_remembered_once_the_time_stamp_is_old_enough(tmp_path):
    """Content changes here with size and times as they were: that is believed of a file that was
    left alone for 2 s."""
    memory, file = tmp_path / "digests.json", tmp_path / "a"
    file.write_text("1")
    before = {}
    for age_s in (1, 10):
        stamp = (1, time.time_ns() - age_s * 10**9, 0)
        digests = Digests(tmp_path, memory)
        before[age_s] = digests.of({"a": stamp})
        digests.save()
        file.write_text("2" if age_s == 1 else "3")
        assert (Digests(tmp_path, memory).of({"a": stamp}) == before[age_s]) is (age_s == 10)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_digest_of_a_name_that_is_not_unicode_is_remembered(tmp_path):
    name = os.fsdecode(b"\xff")
    (tmp_path / name).write_text("1")
    digests = Digests(tmp_path, tmp_path / "digests.json")
    seen = digests.of({name: (1, 0, 0)})
    digests.save()
    (tmp_path / name).write_text("2")
    assert Digests(tmp_path, tmp_path / "digests.json").of({name: (1, 0, 0)}) == seen


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_file_name_that_is_not_unicode(done):
    with open(os.fsencode(done.root / "images/train") + b"/\xff.txt", "w") as file:
        file.write("!")
    assert done.run() == ["join", "shout"]
    assert done.run() == []


def test_why_lists_all_reasons(done):
    done.write("images/train/a.txt", "b")
    done.set("size_px = 384", "size_px = 64")
    done.configure()
    steps = [done.join, done.shout]
    assert overview.show_why(steps, "join") == (
        "join: would run\n  demo.size_px 384 -> 64\n  images/train/a.txt changed"
    )
    assert overview.show_why(steps, "shout") == "shout: would run\n  join would run first"


def test_forget_makes_it_run(done):
    steps = [done.join, done.shout]
    assert overview.forget(steps, "join") == "join: forgotten, it runs next time"
    assert overview.forget(steps, "join") == "join: nothing to forget, it never ran"
    assert done.run() == ["join"]
    with pytest.raises(DetectorError, match="did you mean join"):
        overview.forget(steps, "jion")


def test_status_as_json(done):
    done.configure()
    shown = json.loads(overview.show_status([done.join, done.shout], as_json=True))
    assert shown == {"steps": [{"name": "join", "state": "done", "reason": "2 texts"},
                               {"name": "shout", "state": "done", "reason": ""}]}


def test_tool_prints_its_result_and_its_error_is_one_line(chain, capsys):
    @task(klass=Tool)
    def say(c, word="yes"):
        if word == "no":
            raise DetectorError("no: here: say yes")
        return word

    say(Context())
    assert capsys.readouterr().out == "yes\n"
    with pytest.raises(Exit) as refusal:
        say(Context(), word="no")
    assert (refusal.value.code, refusal.value.message) == (1, "error: no: here: say yes")


def test_damaged_state_counts_as_never_ran(done):
    done.write(".steps/join.json", '{"schema"')
    done.write(".steps/digests.json", "[")
    assert done.run() == ["join"]


def test_only_known_signs_in_patterns():
    with pytest.raises(ValueError, match="images/{train,test}"):
        @task(klass=Step, inputs=["images/{train,test}"])
        def wrong(c):
            pass


def test_a_second_look_reads_no_content(done, monkeypatch):
    for number in range(30):
        done.write(f"images/train/{number}.txt", "x")
        os.utime(done.root / f"images/train/{number}.txt", ns=(10**18, 10**18))
    time.sleep(2.1)  # so that the stamps are old enough to be remembered
    done.run()
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (
        read.append(str(file.name)) or digest(file, kind)))
    assert done.run() == [] and not [name for name in read if "images" in name]
    (done.root / "images/train/7.txt").write_text("y")
    assert done.run() != [] and [name for name in read if name.endswith("images/train/7.txt")]


def test_a_full_disk_names_where_the_copy_was_to_go():
    full = OSError(errno.ENOSPC, "No space left on device", "source/a.jpg", None,
                   "images/train/.partial-1-0.jpg")
    with pytest.raises(Exit) as caught, step.errors_in_one_line("organize"):
        raise full
    words = "error: No space left on device: images/train: free some space, then the same command"
    assert caught.value.message == words


def test_a_full_disk_that_tensorflow_met_is_one_line_and_its_other_errors_are_not():
    class OpError(Exception):
        """TensorFlow's errors are no OSError; they quote the system's words."""

    message = "error: No space left on device: .*: free some space, then the same command"
    with pytest.raises(Exit, match=message):
        with step.errors_in_one_line("evaluate"):
            raise OpError("{{function_node x}} eval/tensorboard/events.v2; No space left on "
                          "device\n\tFlushing")
    with pytest.raises(OpError), step.errors_in_one_line("evaluate"):
        raise OpError("shapes do not match")


TASKS = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
from invoke import task
from scripts.core.step import Step, open_project

ROOT = Path(__file__).parent
settings = open_project(ROOT)

@task(klass=Step, inputs=["in.txt"], outputs=["out.txt"])
def sleep(c):
    "Sleep as many seconds as in.txt says."
    (ROOT / "started").touch()
    time.sleep(float((ROOT / "in.txt").read_text()))
    (ROOT / "out.txt").write_text("done")
"""


class Sleeper:
    """A project with one step, run by the real invoke."""

    def __init__(self, root: Path):
        self.root = root
        (root / "tasks.py").write_text(TASKS)
        (root / "detector.toml").write_text(settings_text(), encoding="utf-8")

    def start(self, seconds: float) -> subprocess.Popen:
        (self.root / "in.txt").write_text(str(seconds))
        (self.root / "started").unlink(missing_ok=True)
        process = self.invoke()
        for _ in range(200):
            if (self.root / "started").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        return process

    def invoke(self, *arguments: str, **variables: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "invoke", *(arguments or ["sleep"])]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=os.environ | variables)

    def state(self) -> str:
        return json.loads((self.root / ".steps/sleep.json").read_text())["state"]


@pytest.fixture
def sleeper(tmp_path):
    return Sleeper(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_killed_step_is_interrupted_and_runs_again(sleeper):
    process = sleeper.start(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sleeper.state() == "running"
    output, errors = sleeper.start(0).communicate()
    assert output.startswith("sleep: ran") and not errors
    assert folder_lock.owner_of(sleeper.root / ".steps/lock") is None


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_is_one_line_and_130(sleeper):
    process = sleeper.start(60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines() == ["sleep: interrupted: the same command starts it again"]


def test_second_invoke_is_refused(sleeper):
    first = sleeper.start(60)
    second = sleeper.invoke()
    _, errors = second.communicate()
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert errors == (f"error: another invoke (pid {first.pid}) is working here: .steps/lock: "
                      "wait until it ends\n")


def test_bad_settings_are_one_line(sleeper):
    process = sleeper.invoke("--list", INVOKE_TRAIN_MINUTS="3")
    _, errors = process.communicate()
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: unknown variable INVOKE_TRAIN_MINUTS")

"""`Step`: an invoke task that runs only when what it reads, was told or wrote is not as it left it.

The one place of `scripts/` that knows invoke. In tasks.py:

    settings = open_project(ROOT)

    @task(klass=Step, pre=[organize], inputs=["images/**/*.xml"], settings=["source.labels"],
          outputs=["annotations/*_labels.csv"], room="records")
    def csv(c):
        ...
"""

import errno
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit
from invoke.executor import Executor
from invoke.tasks import Call, Task

from scripts.core import lock
from scripts.core import state as record
from scripts.core.settings import Settings, load_settings
from scripts.core.state import Digests, Tree
from scripts.core.text import DetectorError

STATE = ".steps"

DISK_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "make it writable",
    errno.EACCES: "allow writing and reading there",
}

SOME_DISK = "the disk of the project or of temporary files"

Inputs = str | Callable[[Path, Settings], Sequence[Path]]
Names = str | Callable[[Settings], Sequence[str]]


@dataclass(frozen=True)
class Project:
    """The project that this process works in."""

    root: Path
    settings: Settings
    tree: Tree
    digests: Digests

    def look(self, patterns: Sequence[str | Path]) -> dict[str, str]:
        """Return label -> digest of the files that `patterns` name."""
        return self.digests.of(self.tree.match(patterns))


_current: list[Project] = []


def configure(root: Path, settings: Settings) -> Project:
    """Make `root` the project that all steps of this process belong to."""
    root = root.resolve()
    project = Project(root, settings, Tree(root), Digests(root, root / STATE / "digests.json"))
    _current[:] = [project]
    return project


def open_project(root: Path) -> Settings:
    """Load the settings of `root` and configure the steps; what tasks.py calls first.

    Raises invoke's Exit (`error: ...`, code 1) for settings that are refused.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name that the terminal cannot show must not stop a step
            stream.reconfigure(errors="backslashreplace")
    with polite("settings"):
        return configure(root, load_settings(root)).settings


def current() -> Project:
    """Return the configured project."""
    return _current[0]


@contextmanager
def polite(name: str) -> Iterator[None]:
    """Turn a refusal, and a disk that takes no more, into `error: ...` with exit code 1, and Ctrl-C
    into 130."""
    try:
        yield
    except DetectorError as error:
        raise Exit(f"error: {error}", code=1) from error
    except BrokenPipeError as error:  # such as `invoke status | head -3`: nobody reads on
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        raise Exit(code=1) from error
    except OSError as error:
        if error.errno not in DISK_ADVICE:
            raise
        # A copy names its source first; what is full or closed is where it was to go.
        target = Path(error.filename2).parent if error.filename2 else error.filename
        where = target or SOME_DISK
        raise Exit(f"error: {error.strerror}: {where}: {DISK_ADVICE[error.errno]}, then the same command", 1) from error
    except Exception as error:
        full = os.strerror(errno.ENOSPC)
        if full not in str(error):  # TensorFlow writes by itself: its errors are no OSError, they quote the system's
            raise
        advice = f"{DISK_ADVICE[errno.ENOSPC]}, then the same command"
        raise Exit(f"error: {full}: {SOME_DISK}: {advice}", code=1) from error
    except KeyboardInterrupt as stop:
        advice = str(stop) or "the same command starts it again"
        raise Exit(f"{name}: interrupted: {advice}", code=130) from stop


class Tool(Task):
    """A task that always runs and is no step of the pipeline: status, predict, tensorboard."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; a result that is not None is printed."""
        with polite(self.name):
            result = super().__call__(*args, **kwargs)
            if result is not None:
                print(result, flush=True)
            return result


class Step(Task):
    """A task of the pipeline.

    inputs: patterns below the project (`images/**/*.xml`; a folder means all in it), or functions of (root, settings)
        that return paths, for sources outside. settings: names of tables or dotted names, or functions of the
        settings that return such. outputs: patterns of what it writes and nobody else changes. present: patterns of
        what it writes and others may change: each has to match something. room: folder of scripts/ whose code counts.
        room_noted: one whose changes status only mentions.
    tells: arguments with which the step only says something: it then runs alone, without the steps before it.
    edits: arguments with which the step itself changes what it reads.
    """

    def __init__(
        self,
        body: Callable,
        *,
        inputs: Sequence[Inputs] = (),
        settings: Sequence[Names] = (),
        outputs: Sequence[str] = (),
        present: Sequence[str] = (),
        room: str | None = None,
        room_noted: str | None = None,
        tells: Sequence[str] = (),
        edits: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(body, **options)
        for pattern in [*inputs, *outputs, *present]:
            if isinstance(pattern, str) and set(pattern) & set("{}[]\\"):
                raise ValueError(f"step {self.name}: only * ? ** and / mean something in a pattern: {pattern}")
        self.inputs, self.settings, self.outputs, self.present = inputs, settings, outputs, present
        self.room, self.room_noted = room, room_noted
        self.tells, self.edits = tells, edits

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body if there is a reason, or if an argument other than its default asks for it.
        """
        with polite(self.name):
            if self.only_tells(kwargs):
                print(super().__call__(*args, **kwargs), flush=True)
                return None
            project = current()
            lock.acquire(project.root / STATE / "lock")
            before = self.observe(project)
            if self._asked(args[1:], kwargs) or record.reasons(self.record(project), before):
                return self._run(project, before, args, kwargs)
            project.digests.save()
            print(f"{self.name}: up to date", flush=True)
            return None

    def _run(self, project: Project, before: record.Observation, args: tuple, kwargs: dict) -> Any:
        """Run the body and record what it read, as it was before, and what it wrote, as it is now.
        """
        path = self.record_path(project)
        record.write(path, "running")
        started_s = time.perf_counter()
        try:
            result = super().__call__(*args, **kwargs)
        except DetectorError as error:
            record.write(path, "failed", text=str(error))
            raise
        finally:
            project.tree.refresh()
        seconds = time.perf_counter() - started_s
        edited = any(kwargs.get(name) for name in self.edits)
        after = self.observe(project, None if edited else before)
        text = "" if result is None else str(result)
        record.write(path, "done", after, seconds=round(seconds, 1), text=text)
        project.digests.save()
        print(f"{self.name}: ran {seconds:.1f} s" + (f": {text}" if text else ""), flush=True)
        return result

    def observe(self, project: Project, before: record.Observation | None = None) -> record.Observation:
        """Return what the step would see now; of what it reads, what it saw `before` when that is
        given.

        An input edited while the body ran is so found changed the next time.
        """
        outputs = project.look(self.outputs)
        absent = [pattern for pattern in self.present if not project.tree.match([pattern])]
        if before is not None:
            return replace(before, outputs=outputs, absent=absent)
        patterns: list[str | Path] = []
        for each in self.inputs:
            patterns += [each] if isinstance(each, str) else each(project.root, project.settings)
        names: list[str] = []
        for each in self.settings:
            names += [each] if isinstance(each, str) else each(project.settings)
        return record.Observation(
            settings=project.settings.subset(names),
            inputs=project.look(patterns),
            outputs=outputs,
            code=project.look([f"scripts/{self.room}/**/*.py"] if self.room else []),
            noted_code=project.look([f"scripts/{self.room_noted}/**/*.py"] if self.room_noted else []),
            absent=absent,
        )

    def only_tells(self, kwargs: dict) -> bool:
        """Say if these arguments ask for an answer and not for work: `invoke check --explain E005`.
        """
        return any(kwargs.get(name) for name in self.tells)

    def record_path(self, project: Project) -> Path:
        """Return the path of the state file."""
        return project.root / STATE / f"{self.name}.json"

    def record(self, project: Project) -> dict[str, Any] | None:
        """Return what was recorded, None if the step never ran."""
        return record.read(self.record_path(project))

    def _asked(self, args: tuple, kwargs: dict) -> bool:
        """Say if the user gave an argument: `invoke check --fix` works even when check is up to
        date."""
        given = inspect.signature(self.body).bind(None, *args, **kwargs).arguments
        parameters = inspect.signature(self.body).parameters
        # Empty stands for absent: invoke passes [] for a list that was not given.
        return any((value or None) != (parameters[name].default or None) for name, value in list(given.items())[1:])


class StepExecutor(Executor):
    """invoke's executor, except that a step which only tells something does not run the steps
    before it.

    invoke.yaml names it: without it, `invoke check --explain E005` in a new project would first get
    all images.
    """

    def expand_calls(self, calls: list) -> list:
        """Return the calls with those that have to come before each."""
        expanded = []
        for call in calls:
            if isinstance(call, Call) and isinstance(call.task, Step) and call.task.only_tells(call.kwargs):
                expanded.append(call)
            else:
                expanded += super().expand_calls([call])
        return expanded

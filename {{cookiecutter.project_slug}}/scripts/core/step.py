"""`Step`: an invoke task that runs only when what it reads, was told or wrote is not as it left it.

The one place of `scripts/` that knows invoke. In tasks.py:

    SETTINGS = open_project(ROOT)

    @task(klass=Step, pre=[labelmap], inputs=["images/**/*.xml"], settings=["source.labels"],
          outputs=["annotations/*_labels.csv"])
    def csv(c):
        from scripts.steps.tables import tables

        return tables(ROOT)
"""

import errno
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit
from invoke.executor import Executor
from invoke.tasks import Call, Task

from scripts.core import folder_lock
from scripts.core.imports import Modules, imported_names
from scripts.core.settings import Settings, load_settings
from scripts.core.state import Digests, Observation, Tree, read_record, reasons, write_record
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
    """The project that this process works in, and what was found out about its files."""

    root: Path
    settings: Settings
    tree: Tree
    digests: Digests
    modules: Modules

    def look(self, patterns: Sequence[str | Path]) -> dict[str, str]:
        """Return label -> digest of the files that `patterns` name."""
        return self.digests.of(self.tree.match(patterns))

    def take_lock(self) -> bool:
        """See `folder_lock.acquire`."""
        return folder_lock.acquire(self.root / STATE / "lock")

    def remember(self) -> None:
        """Keep the digests for the next process."""
        self.digests.save()
        self.modules.digests.save()


_current: list[Project] = []


def configure(root: Path, settings: Settings) -> Project:
    """Make `root` the project that all steps of this process belong to."""
    root = root.resolve()
    project = Project(root, settings, Tree(root), Digests(root, root / STATE / "digests.json"),
                      Modules(root, root / STATE / "code.json"))
    _current[:] = [project]
    return project


def open_project(root: Path) -> Settings:
    """Load the settings of `root` and configure the steps; what tasks.py calls first.

    Raises:
        Exit: invoke's (`error: ...`, code 1), for settings that are not allowed.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show must not stop a step.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with errors_in_one_line("settings"):
        return configure(root, load_settings(root)).settings


def current() -> Project:
    """Return the configured project."""
    return _current[0]


@contextmanager
def errors_in_one_line(name: str) -> Iterator[None]:
    """End with `error: ...` and code 1 on an error of the user or a full disk, with 130 on Ctrl-C.

    Any other exception is a defect and keeps its traceback.
    """
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
        raise _disk_exit(error.errno, error.strerror, target or SOME_DISK) from error
    except Exception as error:
        # TensorFlow's own errors of a full disk are no OSError, they quote the system's words.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise _disk_exit(errno.ENOSPC, os.strerror(errno.ENOSPC), SOME_DISK) from error
    except KeyboardInterrupt as stop:
        advice = str(stop) or "the same command starts it again"
        raise Exit(f"{name}: interrupted: {advice}", code=130) from stop


def _disk_exit(number: int, words: str, where: str | Path) -> Exit:
    return Exit(f"error: {words}: {where}: {DISK_ADVICE[number]}, then the same command", code=1)


class Tool(Task):
    """A task that always runs and is no step of the pipeline: status, predict, tensorboard."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; a result that is not None is printed."""
        with errors_in_one_line(self.name):
            result = super().__call__(*args, **kwargs)
            if result is not None:
                print(result, flush=True)
            return result


class Step(Task):
    """A task of the pipeline. Its key holds settings, files and the code that its body imports.

    Args:
        inputs: patterns below the project (`images/**/*.xml`; a folder means all in it), or
            functions of (root, settings) that return paths, for sources outside.
        settings: names of tables, dotted names, or functions of the settings that return such.
        outputs: patterns of what it writes and nobody else changes.
        present: patterns of what it writes and others may change: each has to match something.
        code_noted: changes of its code are no reason to run, `invoke status` mentions them.
        tells: arguments with which the step only says something: it then runs alone, without the
            steps before it.
        edits: arguments with which the step itself changes what it reads.
    """

    def __init__(self, body: Callable, *, inputs: Sequence[Inputs] = (),
                 settings: Sequence[Names] = (), outputs: Sequence[str] = (),
                 present: Sequence[str] = (), code_noted: bool = False,
                 tells: Sequence[str] = (), edits: Sequence[str] = (), **options: Any) -> None:
        super().__init__(body, **options)
        for pattern in [*inputs, *outputs, *present]:
            if isinstance(pattern, str) and set(pattern) & set("{}[]\\"):
                raise ValueError(f"step {self.name}: only * ? ** and / mean something in a "
                                 f"pattern: {pattern}")
        self.inputs, self.settings, self.outputs, self.present = inputs, settings, outputs, present
        self.code_noted, self.tells, self.edits = code_noted, tells, edits

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body if there is a reason, or if an argument other than its default is given."""
        with errors_in_one_line(self.name):
            if self.only_tells(kwargs):
                print(super().__call__(*args, **kwargs), flush=True)
                return None
            project, given = current(), self._is_given(args[1:], kwargs)
            before = self.observe(project)
            if (given or self._reasons(project, before)) and project.take_lock():
                # Until this process had the lock, another one may have worked here.
                project.tree.refresh()
                before = self.observe(project)
            if given or self._reasons(project, before):
                return self._run(project, before, args, kwargs)
            project.remember()
            print(f"{self.name}: up to date", flush=True)
            return None

    def _run(self, project: Project, before: Observation, args: tuple, kwargs: dict) -> Any:
        """Run the body; record what it read, as it was before, and what it wrote, as it is now."""
        path = self.record_path(project)
        write_record(path, "running")
        started_s = time.perf_counter()
        try:
            result = super().__call__(*args, **kwargs)
        except DetectorError as error:
            write_record(path, "failed", text=str(error))
            raise
        finally:
            project.tree.refresh()
        seconds = time.perf_counter() - started_s
        edited = any(kwargs.get(name) for name in self.edits)
        after = self.observe(project, None if edited else before)
        text = "" if result is None else str(result)
        write_record(path, "done", after, seconds=round(seconds, 1), text=text)
        project.remember()
        print(f"{self.name}: ran {seconds:.1f} s" + (f": {text}" if text else ""), flush=True)
        return result

    def observe(self, project: Project, before: Observation | None = None) -> Observation:
        """Return what the step would see now.

        With `before`, what it reads is taken from there: an input that was edited while the body
        ran is then found changed the next time.
        """
        outputs = project.look(self.outputs)
        absent = [pattern for pattern in self.present if not project.tree.match([pattern])]
        if before is not None:
            return replace(before, outputs=outputs, absent=absent)
        patterns: list[str | Path] = []
        for item in self.inputs:
            patterns += [item] if isinstance(item, str) else item(project.root, project.settings)
        names: list[str] = []
        for item in self.settings:
            names += [item] if isinstance(item, str) else item(project.settings)
        code = project.modules.closure(imported_names(self.body.__code__))
        return Observation(
            settings=project.settings.subset(names), inputs=project.look(patterns),
            outputs=outputs, code={} if self.code_noted else code,
            noted_code=code if self.code_noted else {}, absent=absent)

    def only_tells(self, kwargs: Mapping[str, Any]) -> bool:
        """Say if these arguments ask for an answer and no work: `invoke check --explain E005`."""
        return any(kwargs.get(name) for name in self.tells)

    def record_path(self, project: Project) -> Path:
        """Return the path of the state file."""
        return project.root / STATE / f"{self.name}.json"

    def record(self, project: Project) -> dict[str, Any] | None:
        """Return what was recorded, None if the step never ran."""
        return read_record(self.record_path(project))

    def _reasons(self, project: Project, now: Observation) -> list[str]:
        return reasons(self.record(project), now)

    def _is_given(self, args: tuple, kwargs: dict) -> bool:
        """Say if the user gave an argument: `invoke check --fix` works even when up to date."""
        signature = inspect.signature(self.body)
        values = list(signature.bind(None, *args, **kwargs).arguments.items())[1:]
        # Empty stands for absent: invoke passes [] for a list that was not given.
        return any((value or None) != (signature.parameters[name].default or None)
                   for name, value in values)


class StepExecutor(Executor):
    """invoke's executor, except that a step that only tells something runs without those before it.

    invoke.yaml names it: without it, `invoke check --explain E005` in a new project would first get
    all images.
    """

    def expand_calls(self, calls: list) -> list:
        """Return the calls, each with those that have to come before it."""
        expanded = []
        for call in calls:
            alone = (isinstance(call, Call) and isinstance(call.task, Step)
                     and call.task.only_tells(call.kwargs))
            expanded += [call] if alone else super().expand_calls([call])
        return expanded

"""`invoke status`, `invoke why STEP` and `invoke forget STEP`."""

import difflib  # only on the way to a refusal
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from scripts.core import lock
from scripts.core import state as record
from scripts.core.step import STATE, Project, Step, current
from scripts.core.text import DetectorError


@dataclass(frozen=True)
class StepStatus:
    """One row of the table. `state` is done, stale, never or interrupted."""

    name: str
    state: str
    reason: str


def status(steps: Sequence[Step], project: Project | None = None) -> list[StepStatus]:
    """Return the state of every step, in the order given, without running anything."""
    project = project or current()
    own = {step.name: _own_reasons(step, project) for step in steps}
    rows = [_row(step, own, project) for step in steps]
    project.digests.save()
    return rows


def show_status(steps: Sequence[Step], as_json: bool = False) -> str:
    """Return the table of steps as text, or as JSON for programs."""
    rows = status(steps)
    if as_json:
        return json.dumps({"steps": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
    name_width = max(len(row.name) for row in rows)
    return "\n".join(f"{row.name:{name_width}}  {row.state:11}  {row.reason}".rstrip() for row in rows)


def show_why(steps: Sequence[Step], name: str) -> str:
    """Return why a step would run: all reasons, a line each. Raises DetectorError for an unknown
    name."""
    step, project = find(steps, name), current()
    reasons = _own_reasons(step, project)
    first = [f"{other.name} would run first" for other in _upstream(step) if _own_reasons(other, project)]
    project.digests.save()
    if not reasons and not first:
        return f"{name}: up to date"
    return "\n".join([f"{name}: would run", *(f"  {reason}" for reason in [*reasons, *first])])


def forget(steps: Sequence[Step], name: str) -> str:
    """Drop the state of a step, so that it runs next time; files stay. Raises DetectorError for an
    unknown name."""
    step, project = find(steps, name), current()
    lock.acquire(project.root / STATE / "lock")
    path = step.record_path(project)
    if not path.exists():
        return f"{name}: nothing to forget, it never ran"
    path.unlink()
    return f"{name}: forgotten, it runs next time"


def find(steps: Sequence[Step], name: str) -> Step:
    """Return the step of that name. Raises DetectorError with the nearest one."""
    for step in steps:
        if step.name == name:
            return step
    close = difflib.get_close_matches(name, [step.name for step in steps], 1)
    advice = f"did you mean {close[0]}?" if close else "steps are " + ", ".join(step.name for step in steps)
    raise DetectorError(f"no step is named {name}: {STATE}: {advice}")


def _own_reasons(step: Step, project: Project) -> list[str]:
    try:
        return record.reasons(step.record(project), step.observe(project))
    except DetectorError as error:  # a source that cannot be read must not hide the other steps
        return [str(error)]


def _upstream(step: Step) -> Iterable[Step]:
    """Return the steps that run before this one, first ones first, each once."""
    found: dict[str, Step] = {}
    for task in step.pre:
        task = getattr(task, "task", task)  # invoke's call(task, ...) wraps it
        if isinstance(task, Step):
            found |= {other.name: other for other in [*_upstream(task), task]}
    return list(found.values())


def _row(step: Step, own: dict[str, list[str]], project: Project) -> StepStatus:
    reasons = own[step.name]
    if reasons:
        return _stale_row(step, reasons, project)
    for other in _upstream(step):
        if own.get(other.name):
            return StepStatus(step.name, "stale", f"{other.name} would run first")
    saved = step.record(project) or {}
    noted = record.code_changes(saved.get("noted_code", {}), step.observe(project).noted_code)
    advice = f"does not count; invoke forget {step.name} makes it run"
    return StepStatus(step.name, "done", f"{noted[0]}, which {advice}" if noted else saved.get("text", ""))


def _stale_row(step: Step, reasons: list[str], project: Project) -> StepStatus:
    words = {"never ran": "never", "interrupted": "interrupted"}
    state = words.get(reasons[0], "stale")
    if state == "interrupted":
        owner = lock.owner_of(project.root / STATE / "lock")
        return StepStatus(step.name, state, f"running now (pid {owner})" if owner else "interrupted")
    return StepStatus(step.name, state, "; ".join(reasons))

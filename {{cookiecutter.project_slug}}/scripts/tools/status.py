"""`invoke status`, `invoke why STEP` and `invoke forget STEP`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scripts.core import folder_lock
from scripts.core.state import file_changes, reasons
from scripts.core.step import STATE, Project, Step, current
from scripts.core.text import DetectorError, aligned, nearest


@dataclass(frozen=True)
class StepStatus:
    """One row of the table. `state` is done, stale, never or interrupted."""

    name: str
    state: str
    reason: str


def status(steps: Sequence[Step]) -> list[StepStatus]:
    """Return the state of every step, in the order given, without running anything."""
    project = current()
    reasons_of = {step.name: _reasons(step, project) for step in steps}
    rows = [_row(step, reasons_of, project) for step in steps]
    project.remember()
    return rows


def show_status(steps: Sequence[Step], as_json: bool = False) -> str:
    """Return the table of steps as text, or as JSON for programs."""
    rows = status(steps)
    if as_json:
        listed = [asdict(row) for row in rows]
        return json.dumps({"steps": listed}, indent=1, ensure_ascii=False)
    return aligned([(row.name, row.state, row.reason) for row in rows], texts=3)


def show_why(steps: Sequence[Step], name: str) -> str:
    """Return all reasons why a step would run, a line each.

    Raises:
        DetectorError: for an unknown name.
    """
    step, project = find(steps, name), current()
    lines = [*_reasons(step, project), *(f"{other.name} would run first"
                                         for other in _upstream(step) if _reasons(other, project))]
    project.remember()
    if not lines:
        return f"{name}: up to date"
    return "\n".join([f"{name}: would run", *(f"  {line}" for line in lines)])


def forget(steps: Sequence[Step], name: str) -> str:
    """Drop the record of a step, so that it runs next time; files stay, but for those of `train`.

    The training that `training/` holds moves to `training/previous`: a new one then starts there.

    Raises:
        DetectorError: for an unknown name.
    """
    step, project = find(steps, name), current()
    project.take_lock()
    path = step.record_path(project)
    text = f"{name}: nothing to forget, it never ran"
    if path.exists():
        path.unlink()
        text = f"{name}: forgotten, it runs next time"
    if name != "train":
        return text
    from scripts.steps.train import set_aside  # TensorFlow: no other command here waits for it

    return "\n".join(filter(None, [text, set_aside(project.root)]))


def find(steps: Sequence[Step], name: str) -> Step:
    """Return the step of that name.

    Raises:
        DetectorError: with the nearest name, for an unknown one.
    """
    known = {step.name: step for step in steps}
    if name in known:
        return known[name]
    close = nearest(name, known)
    advice = f"did you mean {close}?" if close else "steps are " + ", ".join(known)
    raise DetectorError(f"no step is named {name}: {STATE}: {advice}")


def _reasons(step: Step, project: Project) -> list[str]:
    try:
        return reasons(step.record(project), step.observe(project))
    except DetectorError as error:  # a source that cannot be read must not hide the other steps
        return [str(error)]


def _upstream(step: Step) -> list[Step]:
    """Return the steps that run before this one, first ones first, each once."""
    found: dict[str, Step] = {}
    for task in step.pre:
        task = getattr(task, "task", task)  # invoke's call(task, ...) wraps it
        if isinstance(task, Step):
            found |= {other.name: other for other in [*_upstream(task), task]}
    return list(found.values())


def _row(step: Step, reasons_of: dict[str, list[str]], project: Project) -> StepStatus:
    own = reasons_of[step.name]
    # Reasons of its own come first, then what the steps before it would do.
    if own == ["never ran"]:
        return StepStatus(step.name, "never", "never ran")
    if own == ["interrupted"]:
        # A step without an end is running now, or its process was killed.
        owner = folder_lock.owner_of(project.root / STATE / "lock")
        who = f" (pid {owner})" if owner else ""
        return StepStatus(step.name, "interrupted",
                          "interrupted" if owner is None else f"running now{who}")
    if own:
        return StepStatus(step.name, "stale", "; ".join(own))
    for other in _upstream(step):
        if reasons_of.get(other.name):
            return StepStatus(step.name, "stale", f"{other.name} would run first")
    saved = step.record(project) or {}
    text = saved.get("text", "")
    # Changed code of a training is told and does not make it run again.
    noted = list(file_changes(saved.get("noted_code", {}), step.observe(project).noted_code))
    if noted:
        text = f"{noted[0]}, which does not count; invoke forget {step.name} makes it run"
    return StepStatus(step.name, "done", text)

"""The curves of a training, from TensorBoard's event files and from `training/run.json`."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.report.html import Html
from scripts.report.material import Material, missing_text
from scripts.report.plots import ACCENT, TEXT, diagram, figure, legend, series_colour

EVENTS = {"train": "training/train", "validation": "training/validation"}
LOSSES = ("total_loss", "cls_loss", "box_loss")
AP_NAMES = ("AP", "AP50")


@dataclass(frozen=True)
class Curves:
    """`scalars` are (part, tag) -> {step: value}; `times` the wall times of the first and last event, s since 1970."""

    scalars: dict[tuple[str, str], dict[int, float]]
    times: tuple[float, float] | None

    @property
    def when(self) -> str:
        """From when to when there were events, in UTC; "" without any."""
        if not self.times:
            return ""
        first, last = (datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M") for time_s in self.times)
        return f"{first} to {last} UTC"


def read_curves(root: Path) -> Curves:
    """All scalars below EVENTS. A training that was continued wrote several files: a later one replaces what follows
    its first step, as TensorBoard shows it.
    """
    scalars: dict[tuple[str, str], dict[int, float]] = {}
    times: list[float] = []
    for part, folder in EVENTS.items():
        for path in sorted((root / folder).glob("events.out.tfevents.*")):
            found: dict[str, dict[int, float]] = {}
            for wall_time_s, step, name, value in _scalars(path):
                found.setdefault(name, {})[step] = value
                times.append(wall_time_s)
            for name, values in found.items():
                earlier = scalars.get((part, name), {})
                kept = {step: value for step, value in earlier.items() if step < min(values)}
                scalars[part, name] = kept | values
    return Curves(scalars, (min(times), max(times)) if times else None)


def _scalars(path: Path) -> Iterator[tuple[float, int, str, float]]:
    """Wall time, step, tag and value of each scalar, without TensorFlow, whose import takes seconds."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.util.tensor_util import make_ndarray

    for record in _records(path):
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                yield event.wall_time, event.step, value.tag, float(make_ndarray(value.tensor))


def _records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length uint64, its checksum, data, checksum. Ends at one that is cut off.

    Checksums are not looked at: in Python they take a second a megabyte, and pictures are among the events.
    """
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = struct.unpack("<Q", head[:8])[0]
            data = file.read(length)
            if len(data) < length or len(file.read(4)) < 4:
                return
            yield data


def training_parts(material: Material, curves: Curves) -> list[Html | str]:
    """Diagrams of the losses and of AP on validation, and what the run says of itself."""
    from scripts.report.html import paragraph

    run = material.run
    if run is None:
        return [paragraph(missing_text("No training", "run"))]
    ap = average_precision(run, curves)
    parts = [_losses(curves), _validation_ap(ap, run)]
    shown = [part for part in parts if part is not None]
    if not shown:
        return [paragraph("No curves yet: training/ holds no evaluation. They appear while `invoke train` runs.")]
    return [Html('<div class="plots">'), *shown, Html("</div>")]


def average_precision(run: dict, curves: Curves) -> dict[str, dict[int, float]]:
    """AP and AP50 on validation by step: the events, and `evaluations` of the run, which hold AP alone."""
    found = {name: {step: value for step, value in curves.scalars.get(("validation", name), {}).items() if value >= 0}
             for name in AP_NAMES}
    found["AP"] |= {row["step"]: row["AP"] for row in run.get("evaluations", ()) if row["AP"] is not None}
    return {name: dict(sorted(values.items())) for name, values in found.items() if values}


def _losses(curves: Curves) -> Html | None:
    drawn = [(f"{name} ({part})", curves.scalars[part, name], part)
             for name in LOSSES for part in EVENTS if curves.scalars.get((part, name))]
    if not drawn:
        return None

    def draw(axes) -> None:
        for number, (_, values, part) in enumerate(drawn):
            mark = "o" if part == "validation" else None
            axes.plot(list(values), list(values.values()), color=series_colour(number), marker=mark, markersize=4)
        axes.set(xlabel="training steps", ylabel="loss", ylim=(0, None), xlim=(0, None))

    return figure(diagram("losses", "Losses by training step", draw), "Losses", legend([name for name, *_ in drawn]))


def _validation_ap(ap: dict[str, dict[int, float]], run: dict) -> Html | None:
    if not ap:
        return None
    best_step = checkpoint_step(run.get("best_checkpoint"))

    def draw(axes) -> None:
        for number, values in enumerate(ap.values()):
            axes.plot(list(values), [100 * value for value in values.values()], color=series_colour(number), marker="o",
                      markersize=4)
        if best_step is not None:
            axes.axvline(best_step, color=ACCENT, linewidth=1, linestyle=":")
            axes.annotate("best", (best_step, 0), xytext=(-3, 3), textcoords="offset points", color=TEXT, ha="right")
        axes.set(xlabel="training steps", ylabel="points", ylim=(0, 100), xlim=(0, None))

    title = "AP on the validation pictures"
    return figure(diagram("validation", title, draw), title, legend(list(ap)))


def checkpoint_step(name: str | None) -> int | None:
    """The step at the end of a checkpoint's name, None if there is none."""
    end = (name or "").rsplit("-", 1)[-1]
    return int(end) if end.isdigit() else None

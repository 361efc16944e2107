"""Diagrams as SVG, drawn by matplotlib and colored by the page, so that they fit light and dark.

No text of the user's enters a diagram: matplotlib would read `$` in a class name as a formula.
Names stand in the page's own legends.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from scripts.core.text import counted
from scripts.data.dataset import Image
from scripts.report.material import Curves, checkpoint_step

WIDTH_IN, HEIGHT_IN = 4.4, 2.75
SERIES = 8
"""Colors that the page has for series; the next series begin again, dashed."""

MOST_CURVES = 8
CELLS = 16
"""Cells a side in the map of places."""

SIZE_BINS = 20
ASPECT_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
LOSSES = ("total_loss", "cls_loss", "box_loss")

# matplotlib knows no CSS variables: these colors stand for them and are replaced in the finished
# SVG.
TEXT, LINE, ACCENT = "#000001", "#000002", "#000003"
_VARIABLES = {TEXT: "var(--quiet)", LINE: "var(--line)", ACCENT: "var(--accent)"}
_VARIABLES |= {f"#0000{number + 16:02x}": f"var(--series-{number})" for number in range(SERIES)}
_STYLE = {
    "svg.fonttype": "none", "font.size": 9, "text.color": TEXT, "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": TEXT, "ytick.labelcolor": TEXT,
    "grid.color": LINE,
    "axes.grid": True, "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "lines.linewidth": 1.6, "text.parse_math": False, "axes.axisbelow": True,
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A diagram with its title, the names of its series in the order of their colors, and a remark.
    """

    title: str
    svg: Markup
    series: tuple[str, ...] = ()
    remark: str = ""


def series_color(number: int) -> str:
    """Return the color that stands for that of series `number`, counted from 0."""
    return f"#0000{number % SERIES + 16:02x}"


def diagram(name: str, description: str, draw: Callable) -> Markup:
    """Return what `draw(axes)` draws as an `<svg>`; the same drawing gives the same text.

    Args:
        name: keeps the marks inside it apart from those of other diagrams.
        description: is read out by screen readers.
        draw: gets the axes of matplotlib.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_the_page(buffer.getvalue(), description)


def _for_the_page(svg: str, description: str) -> Markup:
    """The `<svg>` without what names a server or restyles the page, without fonts, with the page's
    colors."""
    width, height, body = re.search(
        r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*)</svg>', svg, re.S).groups()
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    # of groups: the same in every diagram
    body = re.sub(r' id="(?!m[0-9a-f]{10}|p[0-9a-f]{10})[^"]*"', "", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub("#0000[0-9a-f]{2}", lambda found: _VARIABLES.get(found[0], found[0]), body)
    start = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        width, height, description)
    return start + Markup(re.sub(r"\s+", " ", body) + "</svg>")


# Training: the scalars of TensorBoard's event files and `training/run.json`.


def training_plots(run: dict, curves: Curves) -> list[Plot]:
    """Diagrams of the losses and of AP on validation; empty before there is anything to draw."""
    return [plot for plot in (_losses(curves), _validation_ap(run, curves)) if plot]


def average_precision(run: dict, curves: Curves) -> dict[str, dict[int, float]]:
    """Return AP and AP50 on validation by step, 0..1, from the events and from the run's
    `evaluations`, which hold AP alone."""
    found = {}
    for name in ("AP", "AP50"):
        values = curves.scalars.get(("validation", name), {})
        found[name] = {step: value for step, value in values.items() if value >= 0}  # -1: undefined
    evaluations = run.get("evaluations", ())
    found["AP"] |= {row["step"]: row["AP"] for row in evaluations if row["AP"] is not None}
    return {name: dict(sorted(values.items())) for name, values in found.items() if values}


def _losses(curves: Curves) -> Plot | None:
    drawn = [(f"{name} ({part})", curves.scalars[part, name], part)
             for name in LOSSES for part in ("train", "validation")
             if curves.scalars.get((part, name))]
    if not drawn:
        return None

    def draw(axes) -> None:
        for number, (_, values, part) in enumerate(drawn):
            # Validation has a point an evaluation: without a mark the first one would not be seen.
            mark = "o" if part == "validation" else None
            axes.plot(list(values), list(values.values()), color=series_color(number), marker=mark,
                      markersize=4)
        axes.set(xlabel="training steps", ylabel="loss", ylim=(0, None), xlim=(0, None))

    return Plot("Losses", diagram("losses", "Losses by training step", draw),
                tuple(name for name, *_ in drawn))


def _validation_ap(run: dict, curves: Curves) -> Plot | None:
    ap = average_precision(run, curves)
    if not ap:
        return None
    best_step = checkpoint_step(run.get("best_checkpoint"))

    def draw(axes) -> None:
        for number, values in enumerate(ap.values()):
            axes.plot(list(values), [100 * value for value in values.values()],
                      color=series_color(number), marker="o", markersize=4)
        if best_step is not None:
            axes.axvline(best_step, color=ACCENT, linewidth=1, linestyle=":")
            axes.annotate("best", (best_step, 0), xytext=(-3, 3), textcoords="offset points",
                          color=TEXT, ha="right")
        axes.set(xlabel="training steps", ylabel="points", ylim=(0, 100), xlim=(0, None))

    title = "AP on the validation images"
    return Plot(title, diagram("validation", title, draw), tuple(ap))


# The test images: precision and recall of `eval/analysis.json`.


def score_plots(analysis: dict, names: list[str]) -> list[Plot]:
    """Precision over recall by class, and precision, recall and F1 over the score.

    `names` are the classes, those to draw first in front: the page has room for MOST_CURVES.
    """
    names = [name for name in names if analysis["pr"].get(name) and analysis["pr"][name]["recall"]]
    shown = names[:MOST_CURVES]
    remark = ""
    if len(shown) < len(names):
        remark = f"{len(shown)} of {len(names)} classes: those with the lowest AP50."
    pr = diagram("pr", "Precision over recall",
                 lambda axes: _draw_pr(axes, [analysis["pr"][name] for name in shown]))
    by_score = diagram("by-score", "Precision, recall and F1 by score",
                       lambda axes: _draw_by_score(axes, analysis["curves"]["all"]))
    return [Plot("Precision over recall, IoU 0.5", pr, tuple(shown), remark),
            Plot("All classes, by lowest score shown", by_score, ("precision", "recall", "F1"))]


def _draw_pr(axes, curves: list[dict]) -> None:
    for number, curve in enumerate(curves):
        points = zip(curve["recall"], curve["precision"], strict=True)
        drawn = [(recall, precision) for recall, precision in points if precision is not None]
        axes.plot(*zip(*drawn, strict=True), color=series_color(number),
                  linestyle="-" if number < SERIES else "--")
    _percent_axes(axes, "recall", "precision")


def _draw_by_score(axes, curves: dict) -> None:
    for number, measure in enumerate(("precision", "recall", "f1")):
        values = [np.nan if value is None else value for value in curves[measure]]
        axes.plot(curves["score"], values, color=series_color(number))
    _percent_axes(axes, "score", "")


def _percent_axes(axes, x_label: str, y_label: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)


# The data: sizes, shapes and places of the labeled boxes.


def box_plots(tables: dict[str, list[Image]]) -> list[Plot]:
    """Histograms of sizes and shapes by split, and where the centers lie; empty without a box."""
    boxes = [_box_arrays(images) for images in tables.values()]
    edges, image_sides = (np.concatenate(arrays) for arrays in zip(*boxes, strict=True))
    if not len(edges):
        return []
    sides = [box_edges[:, 2:] - box_edges[:, :2] for box_edges, _ in boxes]
    # The side of a square of the same area, as a fraction of that of the image.
    sizes = [np.sqrt(np.prod(split_sides / split_images, axis=1))
             for split_sides, (_, split_images) in zip(sides, boxes, strict=True)]
    aspects = [split_sides[:, 0] / split_sides[:, 1] for split_sides in sides]
    size_plot = diagram("sizes", "Sizes of the boxes", lambda axes: _draw_sizes(axes, sizes))
    aspect_plot = diagram("aspects", "Shapes of the boxes",
                          lambda axes: _draw_aspects(axes, aspects))
    splits = tuple(tables)
    return [Plot("Size", size_plot, splits), Plot("Shape", aspect_plot, splits),
            _places(edges, image_sides)]


def _box_arrays(images: list[Image]) -> tuple[np.ndarray, np.ndarray]:
    """The boxes' edges xyxy in pixels [n, 4], and width and height of their images [n, 2]."""
    edges = [box.xyxy_px for image in images for box in image.boxes]
    sides = [(image.width_px, image.height_px) for image in images for _ in image.boxes]
    return np.array(edges, float).reshape(-1, 4), np.array(sides, float).reshape(-1, 2)


def _draw_histograms(axes, values: list[np.ndarray], bins: np.ndarray) -> None:
    for number, of_split in enumerate(values):
        if len(of_split):
            inside = np.clip(of_split, bins[0], bins[-1])
            shares = 100 * np.histogram(inside, bins)[0] / len(inside)
            axes.stairs(shares, bins, color=series_color(number), linewidth=1.6)
    axes.set(xlim=(bins[0], bins[-1]), ylim=(0, None), ylabel="% of the boxes")


def _draw_sizes(axes, sizes: list[np.ndarray]) -> None:
    _draw_histograms(axes, sizes, np.linspace(0, 1, SIZE_BINS + 1))
    axes.set(xlabel="side of the box / side of the image")


def _draw_aspects(axes, aspects: list[np.ndarray]) -> None:
    bins = np.geomspace(ASPECT_TICKS[0], ASPECT_TICKS[-1], SIZE_BINS + 1)
    axes.set_xscale("log")
    axes.set_xticks(ASPECT_TICKS, [f"{tick:g}" for tick in ASPECT_TICKS])
    axes.minorticks_off()
    _draw_histograms(axes, aspects, bins)
    axes.set(xlabel="width / height")


def _places(edges: np.ndarray, image_sides: np.ndarray) -> Plot:
    """How many boxes have their center in each of CELLS x CELLS cells of their image."""
    x, y = np.clip((edges[:, :2] + edges[:, 2:]) / 2 / image_sides, 0, 1).T
    cells = np.histogram2d(y, x, bins=CELLS, range=[(0, 1), (0, 1)])[0].astype(int)
    most = int(cells.max())

    def draw(axes) -> None:
        from matplotlib.patches import Rectangle

        for row, column in np.argwhere(cells):
            axes.add_patch(Rectangle((column, row), 0.94, 0.94, facecolor=ACCENT, linewidth=0,
                                     alpha=cells[row, column] / most))
        axes.set(xlim=(0, CELLS), ylim=(CELLS, 0), aspect="equal")
        axes.set(xticks=[0, CELLS], yticks=[0, CELLS])
        axes.set_xticklabels(["left", "right"])
        axes.set_yticklabels(["top", "bottom"])
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.spines[:].set_color(LINE)

    remark = f"The fullest cell holds {counted(most, 'box', 'boxes')}."
    return Plot("Where their centers lie",
                diagram("places", "Where the centers of the boxes lie", draw), (), remark)

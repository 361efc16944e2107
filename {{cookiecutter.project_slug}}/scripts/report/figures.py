"""Diagrams as SVG, drawn by matplotlib and colored by the page, so that they fit light and dark.

No text of the user's enters a diagram: matplotlib would read `$` in a class name as a formula.
Names stand in the page's own legends, which `legend` makes.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from scripts.core.text import counted
from scripts.data.dataset import SPLITS
from scripts.data.findings import CATALOG
from scripts.report.html import Html, paragraph, table, tag
from scripts.report.material import (
    AP_NAMES,
    EVENTS,
    LOSSES,
    Curves,
    LabeledBox,
    Material,
    missing_text,
)

WIDTH_IN, HEIGHT_IN = 4.4, 2.75
LETTERS_PT = 9
SERIES = 8
"""Colors that the page has for series; the next series begin anew, dashed."""

# matplotlib knows no CSS variables: these stand for them and are replaced in the finished SVG.
TEXT, LINE, ACCENT = "#000001", "#000002", "#000003"
_VARIABLES = {TEXT: "var(--quiet)", LINE: "var(--line)", ACCENT: "var(--accent)"}
_VARIABLES |= {f"#0000{number + 16:02x}": f"var(--series-{number})" for number in range(SERIES)}
_STYLE = {
    "svg.fonttype": "none", "font.size": LETTERS_PT, "text.color": TEXT, "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": TEXT, "ytick.labelcolor": TEXT, "grid.color": LINE,
    "axes.grid": True, "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "lines.linewidth": 1.6, "text.parse_math": False, "axes.axisbelow": True,
}  # fmt: skip


def series_color(number: int) -> str:
    """The stand-in for the color of series `number`, counted from 0."""
    return f"#0000{number % SERIES + 16:02x}"


def line_style(number: int) -> str:
    """Solid, or dashed once the colors are used up."""
    return "-" if number < SERIES else "--"


def diagram(name: str, description: str, draw: Callable, height_in: float = HEIGHT_IN) -> Html:
    """What `draw(axes)` draws, as an `<svg>`; `name` keeps its inner marks apart from those of
    other diagrams.

    The same drawing gives the same text. `description` is read out by screen readers.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_the_page(buffer.getvalue(), description)


def _for_the_page(svg: str, description: str) -> Html:
    """The `<svg>` without what names a server or restyles the page, without fonts, with the page's
    colors."""
    width, height, body = re.search(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*)</svg>', svg, re.S).groups()
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r' id="(?!m[0-9a-f]{10}|p[0-9a-f]{10})[^"]*"', "", body)  # of groups: the same in every diagram
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub("#0000[0-9a-f]{2}", lambda found: _VARIABLES.get(found[0], found[0]), body)
    body = re.sub(r"\s+", " ", body)
    return Html(tag("svg", Html(body), class_="plot", viewBox=f"0 0 {width} {height}", role="img",
                    aria_label=description))


def legend(names: Sequence[str]) -> Html:
    """Names of series with their colors, in the order in which `series_color` counts."""
    return tag("ul", *(tag("li", tag("i", class_="dashed" if number >= SERIES else None,
                                     style=f"--color: var(--series-{number % SERIES})"), name)
                       for number, name in enumerate(names)), class_="legend")


def figure(svg: Html, title: str, *below: Html | str | None) -> Html:
    """A diagram with its title above and a legend or remark below."""
    return tag("figure", tag("figcaption", title), svg, *below)


def percent_axes(axes, x_label: str, y_label: str) -> None:
    """Both axes from 0 to 1."""
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)


# The curves of a training, from TensorBoard's event files and from `training/run.json`.


def training_parts(material: Material, curves: Curves) -> list[Html | str]:
    """Diagrams of the losses and of AP on validation, and what the run says of itself."""
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
    """AP and AP50 on validation by step: the events, and `evaluations` of the run, which hold AP
    alone."""
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
            axes.plot(list(values), list(values.values()), color=series_color(number), marker=mark, markersize=4)
        axes.set(xlabel="training steps", ylabel="loss", ylim=(0, None), xlim=(0, None))

    return figure(diagram("losses", "Losses by training step", draw), "Losses", legend([name for name, *_ in drawn]))


def _validation_ap(ap: dict[str, dict[int, float]], run: dict) -> Html | None:
    if not ap:
        return None
    best_step = checkpoint_step(run.get("best_checkpoint"))

    def draw(axes) -> None:
        for number, values in enumerate(ap.values()):
            axes.plot(list(values), [100 * value for value in values.values()], color=series_color(number), marker="o",
                      markersize=4)
        if best_step is not None:
            axes.axvline(best_step, color=ACCENT, linewidth=1, linestyle=":")
            axes.annotate("best", (best_step, 0), xytext=(-3, 3), textcoords="offset points", color=TEXT, ha="right")
        axes.set(xlabel="training steps", ylabel="points", ylim=(0, 100), xlim=(0, None))

    title = "AP on the validation images"
    return figure(diagram("validation", title, draw), title, legend(list(ap)))


def checkpoint_step(name: str | None) -> int | None:
    """The step at the end of a checkpoint's name, None if there is none."""
    end = (name or "").rsplit("-", 1)[-1]
    return int(end) if end.isdigit() else None


# The data: boxes by class and split, their sizes, shapes and places, and what `check` found.

CELLS = 16
"""Of the map of places, a side."""

SIZE_BINS = 20
ASPECT_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def data_parts(material: Material) -> list[Html]:
    """Table and diagrams of the labeled boxes, and the findings."""
    if not material.images:
        return [paragraph("No tables: annotations/train_labels.csv is not there. Type `invoke csv`, then "
                          "`invoke report`.")]
    parts = [_by_class(material)]
    if material.boxes:
        splits = [split for split in SPLITS if split in material.images]
        plots = (_sizes(material, splits), _aspects(material, splits), _places(material.boxes))
        parts.append(tag("div", *plots, class_="plots"))
    return [*parts, *_findings(material)]


def boxes_by_class(material: Material) -> dict[str, Counter]:
    """Class -> split -> boxes, in the order of the label map; classes of the tables that it lacks
    come last."""
    counts = {name: Counter() for name in material.classes}
    for box in material.boxes:
        counts.setdefault(box.class_name, Counter())[box.split] += 1
    return counts


def _by_class(material: Material) -> Html:
    splits, counts = list(material.images), boxes_by_class(material)
    most = max((sum(row.values()) for row in counts.values()), default=0) or 1
    rows = [(name, *(f"{row[split]:,}" for split in splits), _bar(sum(row.values()), most))
            for name, row in counts.items()]
    whole = Counter(box.split for box in material.boxes)
    rows.append(("all boxes", *(f"{whole[split]:,}" for split in splits), f"{len(material.boxes):,}"))
    rows.append(("images", *(f"{material.images[split]:,}" for split in splits),
                 f"{sum(material.images.values()):,}"))
    return table(("class", *splits, "together"), rows, "Boxes by class and split")


def _bar(count: int, most: int) -> Html:
    return tag("span", f"{count:,}", class_="bar", style=f"--share: {count / most:.4f}")


def _sizes(material: Material, splits: list[str]) -> Html:
    def draw(axes) -> None:
        edges = np.linspace(0, 1, SIZE_BINS + 1)
        for number, split in enumerate(splits):
            sizes = [box.size_norm for box in material.boxes if box.split == split]
            if sizes:
                shares = 100 * np.histogram(np.clip(sizes, 0, 1), edges)[0] / len(sizes)
                axes.stairs(shares, edges, color=series_color(number), linewidth=1.6)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="side of the box / side of the image", ylabel="% of the boxes")

    return figure(diagram("sizes", "Sizes of the boxes", draw), "Size",
                  legend(splits))


def _aspects(material: Material, splits: list[str]) -> Html:
    def draw(axes) -> None:
        edges = np.geomspace(ASPECT_TICKS[0], ASPECT_TICKS[-1], SIZE_BINS + 1)
        for number, split in enumerate(splits):
            aspects = [box.aspect for box in material.boxes if box.split == split]
            if aspects:
                shares = 100 * np.histogram(np.clip(aspects, edges[0], edges[-1]), edges)[0] / len(aspects)
                axes.stairs(shares, edges, color=series_color(number), linewidth=1.6)
        axes.set_xscale("log")
        axes.set_xticks(ASPECT_TICKS, [f"{tick:g}" for tick in ASPECT_TICKS])
        axes.minorticks_off()
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xlabel="width / height", ylabel="% of the boxes")

    return figure(diagram("aspects", "Shapes of the boxes", draw), "Shape", legend(splits))


def place_map(boxes: tuple[LabeledBox, ...]) -> list[list[int]]:
    """How many boxes have their center in each of CELLS x CELLS cells of their image, by row from
    the top."""
    cells = [[0] * CELLS for _ in range(CELLS)]
    for box in boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        column, row = (xmin + xmax) / 2 / box.width_px, (ymin + ymax) / 2 / box.height_px
        cells[min(CELLS - 1, max(0, int(row * CELLS)))][min(CELLS - 1, max(0, int(column * CELLS)))] += 1
    return cells


def _places(boxes: tuple[LabeledBox, ...]) -> Html:
    cells = place_map(boxes)
    most = max(map(max, cells))

    def draw(axes) -> None:
        from matplotlib.patches import Rectangle

        for row, counts in enumerate(cells):
            for column, count in enumerate(counts):
                if count:
                    axes.add_patch(Rectangle((column, row), 0.94, 0.94, facecolor=ACCENT, alpha=count / most,
                                             linewidth=0))
        axes.set(xlim=(0, CELLS), ylim=(CELLS, 0), aspect="equal", xticks=[0, CELLS], yticks=[0, CELLS])
        axes.set_xticklabels(["left", "right"])
        axes.set_yticklabels(["top", "bottom"])
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.spines[:].set_color(LINE)

    return figure(diagram("places", "Where the centers of the boxes lie", draw), "Where their centers lie",
                  tag("p", f"The fullest cell holds {counted(most, 'box', 'boxes')}.", class_="remark"))


def _findings(material: Material) -> list[Html]:
    """One line a code, worst first."""
    check = material.check
    if check is None:
        return [paragraph(missing_text("No findings", "check"))]
    by_code = Counter(row["code"] for row in check["findings"])
    if not by_code:
        return [paragraph("`invoke check` found nothing.")]
    first = {}
    for row in check["findings"]:
        first.setdefault(row["code"], row)
    rows = []
    for code in sorted(by_code, key=lambda code: ("EWR".find(code[0]), code)):
        row = first[code]
        title = CATALOG[code].title if code in CATALOG else row["message"]
        place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
        rows.append((code, row["severity"], f"{by_code[code]:,}", title, place))
    return [table(("code", "severity", "findings", "what", "the first"), rows, "Findings of invoke check",
                  numbers_from=9)]

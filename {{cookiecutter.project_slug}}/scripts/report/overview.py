"""The data: boxes by class and split, their sizes, shapes and places, and what `check` found."""

from collections import Counter

from scripts.pictures.findings import CATALOGUE
from scripts.pictures.split import SPLITS
from scripts.pipeline.words import counted
from scripts.report.html import Html, paragraph, table, tag
from scripts.report.material import LabelledBox, Material, missing_text
from scripts.report.plots import ACCENT, LINE, diagram, figure, legend, series_colour

CELLS = 16
"""Of the map of places, a side."""

SIZE_BINS = 20
ASPECT_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def data_parts(material: Material) -> list[Html]:
    """Table and diagrams of the labelled boxes, and the findings."""
    if not material.pictures:
        return [paragraph("No tables: annotations/train_labels.csv is not there. Type `invoke csv`, then "
                          "`invoke report`.")]
    parts = [_by_class(material)]
    if material.boxes:
        splits = [split for split in SPLITS if split in material.pictures]
        plots = (_sizes(material, splits), _aspects(material, splits), _places(material.boxes))
        parts.append(tag("div", *plots, class_="plots"))
    return [*parts, *_findings(material)]


def boxes_by_class(material: Material) -> dict[str, Counter]:
    """Class -> split -> boxes, in the order of the label map; classes of the tables that it lacks come last."""
    counts = {name: Counter() for name in material.classes}
    for box in material.boxes:
        counts.setdefault(box.class_name, Counter())[box.split] += 1
    return counts


def _by_class(material: Material) -> Html:
    splits, counts = list(material.pictures), boxes_by_class(material)
    most = max((sum(row.values()) for row in counts.values()), default=0) or 1
    rows = [(name, *(f"{row[split]:,}" for split in splits), _bar(sum(row.values()), most))
            for name, row in counts.items()]
    whole = Counter(box.split for box in material.boxes)
    rows.append(("all boxes", *(f"{whole[split]:,}" for split in splits), f"{len(material.boxes):,}"))
    rows.append(("pictures", *(f"{material.pictures[split]:,}" for split in splits),
                 f"{sum(material.pictures.values()):,}"))
    return table(("class", *splits, "together"), rows, "Boxes by class and split")


def _bar(count: int, most: int) -> Html:
    return tag("span", f"{count:,}", class_="bar", style=f"--share: {count / most:.4f}")


def _sizes(material: Material, splits: list[str]) -> Html:
    def draw(axes) -> None:
        import numpy as np

        edges = np.linspace(0, 1, SIZE_BINS + 1)
        for number, split in enumerate(splits):
            sizes = [box.size_norm for box in material.boxes if box.split == split]
            if sizes:
                shares = 100 * np.histogram(np.clip(sizes, 0, 1), edges)[0] / len(sizes)
                axes.stairs(shares, edges, color=series_colour(number), linewidth=1.6)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="side of the box / side of the picture", ylabel="% of the boxes")

    return figure(diagram("sizes", "Sizes of the boxes", draw), "Size",
                  legend(splits))


def _aspects(material: Material, splits: list[str]) -> Html:
    def draw(axes) -> None:
        import numpy as np

        edges = np.geomspace(ASPECT_TICKS[0], ASPECT_TICKS[-1], SIZE_BINS + 1)
        for number, split in enumerate(splits):
            aspects = [box.aspect for box in material.boxes if box.split == split]
            if aspects:
                shares = 100 * np.histogram(np.clip(aspects, edges[0], edges[-1]), edges)[0] / len(aspects)
                axes.stairs(shares, edges, color=series_colour(number), linewidth=1.6)
        axes.set_xscale("log")
        axes.set_xticks(ASPECT_TICKS, [f"{tick:g}" for tick in ASPECT_TICKS])
        axes.minorticks_off()
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xlabel="width / height", ylabel="% of the boxes")

    return figure(diagram("aspects", "Shapes of the boxes", draw), "Shape", legend(splits))


def place_map(boxes: tuple[LabelledBox, ...]) -> list[list[int]]:
    """How many boxes have their centre in each of CELLS x CELLS cells of their picture, by row from the top."""
    cells = [[0] * CELLS for _ in range(CELLS)]
    for box in boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        column, row = (xmin + xmax) / 2 / box.width_px, (ymin + ymax) / 2 / box.height_px
        cells[min(CELLS - 1, max(0, int(row * CELLS)))][min(CELLS - 1, max(0, int(column * CELLS)))] += 1
    return cells


def _places(boxes: tuple[LabelledBox, ...]) -> Html:
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

    return figure(diagram("places", "Where the centres of the boxes lie", draw), "Where their centres lie",
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
        title = CATALOGUE[code].title if code in CATALOGUE else row["message"]
        place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
        rows.append((code, row["severity"], f"{by_code[code]:,}", title, place))
    return [table(("code", "severity", "findings", "what", "the first"), rows, "Findings of invoke check",
                  numbers_from=9)]

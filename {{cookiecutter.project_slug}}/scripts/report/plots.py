"""Diagrams as SVG, drawn by matplotlib and coloured by the page, so that they fit light and dark.

No text of the user's enters a diagram: matplotlib would read `$` in a class name as a formula. Names stand in the
page's own legends, which `legend` makes.
"""

import io
import re
from collections.abc import Callable, Sequence

from scripts.report.html import Html, tag

WIDTH_IN, HEIGHT_IN = 4.4, 2.75
LETTERS_PT = 9
SERIES = 8
"""Colours that the page has for series; the next series begin anew, dashed."""

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


def series_colour(number: int) -> str:
    """The stand-in for the colour of series `number`, counted from 0."""
    return f"#0000{number % SERIES + 16:02x}"


def line_style(number: int) -> str:
    """Solid, or dashed once the colours are used up."""
    return "-" if number < SERIES else "--"


def diagram(name: str, description: str, draw: Callable, height_in: float = HEIGHT_IN) -> Html:
    """What `draw(axes)` draws, as an `<svg>`; `name` keeps its inner marks apart from those of other diagrams.

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
    """The `<svg>` without what names a server or restyles the page, without fonts, with the page's colours."""
    width, height, body = re.search(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*)</svg>', svg, re.S).groups()
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r' id="(?!m[0-9a-f]{10}|p[0-9a-f]{10})[^"]*"', "", body)  # of groups: the same in every diagram
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub("#0000[0-9a-f]{2}", lambda found: _VARIABLES.get(found[0], found[0]), body)
    body = re.sub(r"\s+", " ", body)
    return Html(tag("svg", Html(body), class_="plot", viewBox=f"0 0 {width} {height}", role="img",
                    aria_label=description))


def legend(names: Sequence[str]) -> Html:
    """Names of series with their colours, in the order in which `series_colour` counts."""
    return tag("ul", *(tag("li", tag("i", class_="dashed" if number >= SERIES else None,
                                     style=f"--colour: var(--series-{number % SERIES})"), name)
                       for number, name in enumerate(names)), class_="legend")


def figure(svg: Html, title: str, *below: Html | str | None) -> Html:
    """A diagram with its title above and a legend or remark below."""
    return tag("figure", tag("figcaption", title), svg, *below)


def percent_axes(axes, x_label: str, y_label: str) -> None:
    """Both axes from 0 to 1."""
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)

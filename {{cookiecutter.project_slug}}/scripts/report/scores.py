"""The figures on the test pictures: head numbers with intervals, classes, sizes, curves and the confusion matrix."""

from scripts.evaluation.evaluate import points
from scripts.report.html import Html, paragraph, row_name, table, tag
from scripts.report.material import Material, in_order, missing_text
from scripts.report.plots import diagram, figure, legend, line_style, percent_axes, series_colour

MOST_CURVES = 8
MOST_CONFUSED = 16
SIZES = {"small": "small (under 32² px)", "medium": "medium (32² to 96² px)", "large": "large (over 96² px)"}


def with_interval(fraction: float | None, interval: list | None) -> str:
    """`60.2 (55.1 to 65.0)` in points; without an interval the figure alone."""
    if fraction is None or not interval:
        return points(fraction)
    return f"{points(fraction)} ({points(interval[0])} to {points(interval[1])})"


def percent(fraction: float | None) -> str:
    """`60.2 %`; `undefined` for None."""
    return "undefined" if fraction is None else f"{100 * fraction:.1f} %"


def head_parts(material: Material) -> list[Html]:
    """The cards at the top, the sentence about too few pictures, and the tables of classes and sizes."""
    if material.metrics is None:
        return [paragraph(missing_text("No figures", "metrics"))]
    metrics, analysis = material.metrics, material.analysis
    parts = [tag("div", *_cards(material), class_="cards")]
    if analysis is None:
        parts.append(paragraph(missing_text("No intervals and no advised score", "analysis")))
    else:
        parts.append(paragraph("The brackets hold 95 % intervals: they say how far chance in the choice of test "
                               "pictures alone moves a figure.", "remark"))
        if analysis["too_small"]:
            parts.append(paragraph(analysis["too_small"].rstrip(".") + ".", "warning"))
    parts.append(_classes(material, metrics, analysis))
    return parts + ([_sizes(material, analysis)] if analysis else [])


def _cards(material: Material) -> list[Html]:
    metrics, analysis, tflite = material.metrics, material.analysis, material.tflite
    intervals = (analysis or {}).get("intervals", {})
    cards = [_card(name, points(metrics[name]), _bracket(intervals.get(name)), meaning)
             for name, meaning in (("AP", "precision over all recalls, IoU 0.50 to 0.95"),
                                   ("AP50", "the same at IoU 0.50"))]
    best = analysis["thresholds"]["all"].get("best_f1") if analysis else None
    if best:
        says = f"of the boxes shown are right, {percent(best['recall'])} of the things are found"
        cards.append(_card(f"from score {best['score']:.2f}", percent(best["precision"]), "", says))
    shipped = (tflite or {}).get("variants", {}).get((tflite or {}).get("ship"))
    if shipped:
        says = f"AP of {shipped['file']}, {shipped['bytes'] / 1e6:.1f} MB"
        cards.append(_card(f"on the phone ({tflite['ship']})", points(shipped["AP"]),
                           "" if shipped["passed"] else "refused", says))
    cards.append(_card("test pictures", f"{metrics['pictures']:,}", "", f"{metrics['boxes']:,} boxes, "
                       f"{metrics['checkpoint']}"))
    return cards


def _card(title: str, number: str, bracket: str, meaning: str) -> Html:
    return tag("div", tag("b", title), tag("strong", number), tag("span", bracket) if bracket else None,
               tag("small", meaning), class_="card")


def _bracket(interval: list | None) -> str:
    return f"{points(interval[0])} to {points(interval[1])}" if interval else ""


def _classes(material: Material, metrics: dict, analysis: dict | None) -> Html:
    per_class = (analysis or {}).get("intervals", {}).get("per_class", {})
    thresholds = (analysis or {}).get("thresholds", {}).get("per_class", {})
    rows = []
    for name, figures in in_order(material, metrics["per_class"]):
        interval = (per_class.get(name) or {}).get("AP")
        best = (thresholds.get(name) or {}).get("best_f1")
        rows.append((name, with_interval(figures["AP"], interval), points(figures["AP50"]), points(figures["AR100"]),
                     f"{best['score']:.2f}" if best else "-", points(best["precision"]) if best else "-",
                     points(best["recall"]) if best else "-", f"{figures['boxes']:,}"))
    header = ("class", "AP", "AP50", "AR100", "best score", "precision", "recall", "boxes")
    return table(header, rows, "By class, in points. Best score: where F1 was highest on the validation pictures; "
                               "precision and recall are those of the test pictures from there on")


def _sizes(material: Material, analysis: dict) -> Html:
    rows = []
    by_class = {name: row for name, row in analysis["sizes"].items() if name != "all"}
    for name, row in [("all", analysis["sizes"]["all"]), *in_order(material, by_class)]:
        cells = [f"{points(row[size]['AP'])} ({row[size]['boxes']:,})" if row.get(size) else "-" for size in SIZES]
        rows.append((name, *cells))
    return table(("class", *SIZES.values()), rows, "AP in points by size of the box, and how many boxes there are")


def curve_parts(material: Material) -> list[Html]:
    """Precision over recall by class, and precision, recall and F1 over the score."""
    analysis = material.analysis
    if analysis is None:
        return [paragraph(missing_text("No curves", "analysis"))]
    names = [name for name, row in in_order(material, analysis["pr"]) if row and row["recall"]]
    if material.metrics:
        names.sort(key=lambda name: material.metrics["per_class"].get(name, {}).get("AP50") or 0)
    shown = names[:MOST_CURVES]
    left = f"{len(shown)} of {len(names)} classes: those with the lowest AP50." if len(names) > len(shown) else None
    below = (legend(shown), tag("p", left, class_="remark") if left else None)
    pr = figure(diagram("pr", "Precision over recall", lambda axes: _draw_pr(axes, analysis["pr"], shown)),
                "Precision over recall, IoU 0.5", *below)
    measures = ("precision", "recall", "f1")
    by_score = figure(diagram("by-score", "Precision, recall and F1 by score",
                              lambda axes: _draw_by_score(axes, analysis["curves"]["all"], measures)),
                      "All classes, by lowest score shown", legend(["precision", "recall", "F1"]))
    return [tag("div", pr, by_score, class_="plots")]


def _draw_pr(axes, curves: dict, names: list[str]) -> None:
    for number, name in enumerate(names):
        drawn = [(recall, precision) for recall, precision in zip(curves[name]["recall"], curves[name]["precision"],
                                                                  strict=True) if precision is not None]
        axes.plot(*zip(*drawn, strict=True), color=series_colour(number), linestyle=line_style(number))
    percent_axes(axes, "recall", "precision")


def _draw_by_score(axes, curves: dict, measures: tuple) -> None:
    import numpy as np

    for number, measure in enumerate(measures):
        values = [np.nan if value is None else value for value in curves[measure]]
        axes.plot(curves["score"], values, color=series_colour(number))
    percent_axes(axes, "score", "")


def confusion_parts(material: Material) -> list[Html]:
    """The matrix as a table; with many classes the part where most goes wrong."""
    if material.analysis is None:
        return [paragraph(missing_text("No confusion matrix", "analysis"))]
    confusion = material.analysis["confusion"]
    labels, rows = confusion["labels"], confusion["rows"]
    chosen = most_confused(rows)
    parts = [paragraph(f"Rows: what it is. Columns: what was found, from score {confusion['score']:.2f}. "
                       "Last column: not found at all. Last row: found where nothing is.", "remark")]
    if len(chosen) < len(labels):
        parts.append(paragraph(f"{len(chosen) - 1} of {len(labels) - 1} classes are shown, those with most mistakes; "
                               "all are in eval/analysis.json.", "remark"))
    body = [tag("tr", row_name(_side(labels[row], "found, but nothing there", row, rows)),
                *(_cell(rows, row, column, chosen) for column in chosen)) for row in chosen]
    sides = [_side(labels[column], "missed", column, rows) for column in chosen]
    head = tag("tr", tag("th", "it is \\ found as"),
               *(tag("th", tag("span", side, class_="name", title=side)) for side in sides))
    return [*parts, tag("div", tag("table", tag("thead", head), tag("tbody", *body), class_="confusion",
                               aria_label="Confusion matrix"),
                        class_="wide")]


def most_confused(rows: list[list[int]]) -> list[int]:
    """Numbers of the classes to show, background last: the MOST_CONFUSED with most mistakes."""
    last = len(rows) - 1
    mistakes = [sum(rows[one]) + sum(row[one] for row in rows) - 2 * rows[one][one] for one in range(last)]
    worst = sorted(range(last), key=lambda one: -mistakes[one])[:MOST_CONFUSED]
    return [*sorted(worst), last]


def _side(label: str, background: str, number: int, rows: list) -> str:
    return background if number == len(rows) - 1 else label


def _cell(rows: list[list[int]], row: int, column: int, chosen: list[int]) -> Html:
    """One number; its colour says which share of its row it is, and whether it is right."""
    last, value = len(rows) - 1, rows[row][column]
    if row == column == last:
        return tag("td")
    whole = sum(rows[row]) or 1
    kind = "right" if row == column else "wrong"
    return tag("td", f"{value:,}" if value else "·", class_=f"number {kind}", style=f"--share: {value / whole:.3f}")

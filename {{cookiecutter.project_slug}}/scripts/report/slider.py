"""The slider of the lowest score, the counts that follow it, and the place of the examples."""

from scripts.pipeline.words import counted
from scripts.report.html import Html, paragraph, row_name, tag
from scripts.report.material import Material, missing_text

COLUMNS = ("right", "false", "missed", "precision", "recall", "F1")


def example_parts(material: Material, shown: int) -> list[Html]:
    """Slider, summary, table of counts and filters; numbers and pictures are filled in by the page's script."""
    if not material.scored:
        return [paragraph(missing_text("No examples", "detections"))]
    whole = len(material.groundtruth["images"])
    remark = (f"{shown:,} of {whole:,} test pictures are in this page, those with most mistakes; the counts are of all."
              if shown < whole else f"All {counted(whole, 'test picture')}, those with most mistakes first.")
    return [
        paragraph("Move the lowest score: boxes below it are not shown. Right: a box of the right class that overlaps "
                  "a label by half (IoU 0.5). " + remark, "remark"),
        tag("div", _slider(material), _summary(), class_="bar-top"),
        _table(material), _filters(material),
        tag("div", id="example-list", class_="pictures"),
        tag("button", "Show more", id="more-examples", class_="more", type="button"),
    ]


def _slider(material: Material) -> Html:
    start = round(100 * material.start_score)
    advised = {}
    if material.analysis:
        of_all = material.analysis["thresholds"]["all"]
        titles = (("best_f1", "best F1"), ("best_cost", "least cost"))
        advised = {title: of_all[key]["score"] for key, title in titles if of_all.get(key)}
    buttons = [tag("button", f"{title}: {score:.2f}", type="button", data_score=round(100 * score))
               for title, score in advised.items()]
    slider = tag("input", type="range", id="score", min=1, max=99, step=1, value=start, aria_label="lowest score")
    return tag("div", tag("label", "Score from ", slider, tag("output", f"{start / 100:.2f}", id="score-now"),
                          class_="score"), *buttons, class_="row")


def _summary() -> Html:
    def now(name: str) -> Html:
        return tag("output", id=f"now-{name}")

    return tag("div", tag("span", now("right"), " right", class_="right-text"),
               tag("span", now("false"), " false alarms", class_="wrong-text"),
               tag("span", now("missed"), " missed", class_="miss-text"),
               tag("span", "precision ", now("precision")), tag("span", "recall ", now("recall")),
               tag("span", "F1 ", now("f1")), class_="row")


def _table(material: Material) -> Html:
    """Rows without numbers: the script writes them for the score that the slider shows."""
    def row(name: str, **attributes) -> Html:
        return tag("tr", row_name(name), *(tag("td", class_="number") for _ in COLUMNS), **attributes)

    head = tag("tr", tag("th", "class"), *(tag("th", name, class_="number") for name in COLUMNS))
    body = tag("tbody", *(row(name) for name in material.classes), id="class-counts")
    whole = tag("tbody", row("all", id="all-counts"))
    return tag("div", tag("table", tag("thead", head), whole, body, aria_label="Counts"), class_="wide")


def _filters(material: Material) -> Html:
    options = [tag("option", "all classes", value="")]
    options += [tag("option", name, value=number) for number, name in enumerate(material.classes)]
    keys = (("", "right"), ("wrong", "false alarm"), ("missed", "missed label"), ("label", "found label"))
    legend = tag("div", *(tag("span", tag("i", class_=f"box key {kind}"), name) for kind, name in keys),
                 class_="row remark")
    return tag("div", legend, tag(
        "div", tag("select", *options, id="class", aria_label="class"),
        tag("label", tag("input", type="checkbox", id="mistakes"), "only with mistakes", class_="check"),
        tag("label", tag("input", type="checkbox", id="labels"), "also labels that were found", class_="check"),
        tag("span", id="example-count", class_="remark"), class_="row"))

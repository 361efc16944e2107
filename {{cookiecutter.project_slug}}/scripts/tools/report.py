"""`invoke report`: one page `eval/report.html` that shows what was learned, and the model card
beside the model.

The page holds everything that it shows and names no server; its policy forbids the browser to ask
one. A section whose file is not there says what to type.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.text import counted
from scripts.report.card import CARD, write_card
from scripts.report.crops import error_crops, example_parts, examples, suspect_crops
from scripts.report.figures import data_parts, training_parts
from scripts.report.html import Html, commands, escaped, json_island, paragraph, section, tag
from scripts.report.material import (
    FILES,
    Material,
    disagreements,
    missing_text,
    provenance_parts,
    read_curves,
    read_material,
    tflite_parts,
)
from scripts.report.scores import (
    CAUSES,
    by_cost,
    confusion_parts,
    count,
    curve_parts,
    head_parts,
    next_steps,
)

REPORT = "eval/report.html"
PAGE = Path(__file__).resolve().parents[1] / "report/templates"


@dataclass(frozen=True)
class ReportCounts:
    """Where the page lies and how large it is, what it shows of how much, and which of its files
    are not there."""

    megabytes: float
    examples: int
    images: int
    errors: int
    all_errors: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        shown = [f"{self.examples:,} of {counted(self.images, 'test image')}",
                 f"{self.errors:,} of {counted(self.all_errors, 'mistake')}"]
        missing = f"\nnot there, so left out: {', '.join(self.missing)}" if self.missing else ""
        return f"{REPORT}: {self.megabytes:.1f} MB, {', '.join(shown)}; {CARD}{missing}"


def make_report(root: Path, unfinished: list[tuple[str, str]] = ()) -> ReportCounts:
    """Write the page and the card of the project `root`.

    `unfinished` are steps that would run again, as (name, reason): the page says so. DetectorError
    for a damaged file.
    """
    material, curves = read_material(root), read_curves(root)
    counts = count(material.groundtruth, material.detections) if material.scored else None
    data = {"classes": list(material.classes), "counts": None, "examples": [], "errors": error_crops(material),
            "suspects": suspect_crops(material)}
    if counts:
        data["counts"] = {"boxes": counts.boxes, "hits": counts.hits, "false_alarms": counts.false_alarms}
        data["examples"] = examples(material, counts)
    images = len((material.groundtruth or {}).get("images", ()))
    parts = (
        ("figures", "Figures", head_parts(material)),
        ("next", "What to do next", _next(material)),
        ("examples", "Examples and the score", example_parts(material, len(data["examples"]))),
        ("confusion", "What is taken for what", confusion_parts(material)),
        ("curves", "Precision and recall", curve_parts(material)),
        ("errors", "Mistakes by cause", _errors(material, len(data["errors"]))),
        ("suspects", "Labels that look wrong", _suspects(material, len(data["suspects"]))),
        ("data", "Data", data_parts(material)),
        ("training", "Training", training_parts(material, curves)),
        ("tflite", "Files for the phone", tflite_parts(material)),
        ("provenance", "Where this comes from", provenance_parts(material, curves)),
    )
    body = [_header(material), *(paragraph(text, "warning") for text in disagreements(material, list(unfinished))),
            tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in parts))]
    body += [section(name, title, *content) for name, title, content in parts]
    page = _page(f"{root.name}: report", body, json_island(data))
    write_text(root / REPORT, page)
    write_card(material, curves)
    missing = tuple(path for name, (path, _) in FILES.items() if getattr(material, name) is None)
    return ReportCounts(len(page.encode("utf-8")) / 1e6, len(data["examples"]), images, len(data["errors"]),
                        len((material.errors or {}).get("errors", ())), missing)


def _page(title: str, body: list[Html], data: Html) -> str:
    """The template with its parts in place. The policy names the script by its hash: no other one
    runs."""
    script = (PAGE / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    parts = {"title": escaped(title), "style": (PAGE / "report.css").read_text("utf-8"), "script": script,
             "script hash": f"sha256-{digest}", "body": "\n".join(body), "data": data}
    pieces = (PAGE / "template.html").read_text("utf-8").split("[")
    filled = [pieces[0]]
    for piece in pieces[1:]:  # once through the template, so that what is put in is not searched for marks
        name, rest = piece.split("]", 1)
        filled += [parts[name], rest]
    return "".join(filled)


def _header(material: Material) -> Html:
    classes = ", ".join(material.classes[:12]) + (f", and {len(material.classes) - 12} more"
                                                  if len(material.classes) > 12 else "")
    said = [counted(len(material.classes), "class", "classes") + (f": {classes}" if classes else "")]
    said += [material.run["model"]] if material.run else []
    return tag("header", tag("h1", material.root.name), tag("p", "; ".join(said), class_="quiet"))


def _next(material: Material) -> list[Html]:
    steps = next_steps(material)
    return [tag("ol", *(tag("li", commands(text)) for text in steps))] if steps else [paragraph("Nothing stands out.")]


def _errors(material: Material, shown: int) -> list[Html]:
    """The buttons of the causes with their counts and costs; the script puts the crops below."""
    errors = material.errors
    if errors is None:
        return [paragraph(missing_text("No mistakes by cause", "errors"))]
    whole = len(errors["errors"])
    if not whole:
        return [paragraph(f"No mistake from score {errors['score']:.2f} on.")]
    rows = [("", "all", whole, None)] + [(name, name, row["count"], row["ap50_gain"])
                                         for name, row in by_cost(errors["causes"]) if row["count"]]
    buttons = [tag("button", f"{title} {number:,}" + (f" (AP50 +{100 * gain:.1f})" if gain else ""), type="button",
                   data_cause=name, data_count=number, aria_pressed="false") for name, title, number, gain in rows]
    meanings = tag("details", tag("summary", "What the causes mean"),
                   tag("ul", *(tag("li", tag("b", name), f": {what}") for name, (what, _) in CAUSES.items())))
    return [
        paragraph(f"From score {errors['score']:.2f}: {errors['detections']:,} boxes found, {errors['right']:,} right; "
                  f"{errors['boxes']:,} labeled. In brackets: what AP50 would gain, in points, without this kind of "
                  "mistake (TIDE, Bolya et al. 2020). Dashed: the label, pink if nothing found it; orange and "
                  "dotted: what was found. "
                  + (f"{shown:,} of {whole:,} have an image here. " if shown < whole else "")
                  + "All are in eval/errors.csv.", "remark"),
        tag("div", *buttons, class_="row"), tag("p", id="error-count", class_="remark"), meanings,
        tag("div", id="error-list", class_="crops"), tag("button", "Show more", id="more-errors", class_="more",
                                                         type="button"),
    ]


def _suspects(material: Material, shown: int) -> list[Html]:
    suspects = material.suspects
    if suspects is None:
        return [paragraph(missing_text("No list of them", "suspects"))]
    whole = len(suspects["suspects"])
    if not whole:
        return [paragraph(f"None among {counted(suspects['boxes'], 'box', 'boxes')}.")]
    return [paragraph(f"{shown:,} of {whole:,}, the most suspicious first; all are in eval/suspects.csv. White and "
                      "dashed: the label; green: what the detector suggests. A suspicion is no proof: look, then "
                      "correct the file that is named.", "remark"),
            tag("div", id="suspect-list", class_="crops")]

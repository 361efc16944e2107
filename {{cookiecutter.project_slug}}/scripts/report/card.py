"""`inference/MODEL_CARD.md`: what the shipped model is, from measured facts only, where it fails,
and what a person wrote about its use."""

from collections import Counter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.text import DetectorError, counted, points
from scripts.modeling.zoo import ENTRIES
from scripts.report.advice import CAUSES, by_cost
from scripts.report.material import Material, data_fingerprint
from scripts.report.scores import SIZES, class_rows, percent, with_interval

TEMPLATES = Path(__file__).parent / "templates"
PLACEHOLDERS = {
    "Intended use": "Not written yet. What is it for, who uses it, and what must it not be used "
                    "for?",
    "License of the images": "Not known to this project: write it here. (For images of Open "
                             "Images, “Data” says what ATTRIBUTION.csv holds.)",
}
"""Heading -> what stands there until a person writes."""

SOURCES = {"demo": "drawn by this project (`demo`)",
           "folder": "a folder of labeled images (`folder`)",
           "openimages": "Open Images (`openimages`)"}  # fmt: skip


def plain(name: str) -> str:
    """Return a name inside Markdown: its own marks are escaped, line breaks are spaces."""
    marked = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in name)
    return " ".join(marked.split())


def sections(text: str) -> dict[str, str]:
    """Return what stands below each `## ` heading, with that of equal headings put together.

    Headings inside fenced code are text.
    """
    found: dict[str, list[str]] = {}
    name, fenced = None, False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            name = line[3:].strip()
            found.setdefault(name, [])
        elif name is not None:
            found[name].append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def read_card(path: Path) -> str:
    """Return the text of the card that is there, "" when there is none.

    Raises:
        DetectorError: it is not UTF-8. What a person wrote in it would be lost.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise DetectorError(f"not UTF-8 text: {path.parent.name}/{path.name}: save it as UTF-8, or "
                            "move it away, then `invoke report`") from None


def model_card(material: Material, before: str) -> str:
    """Return the text of the card.

    `before` is the text of the last card. What a person wrote in it stays: the sections of
    PLACEHOLDERS, and sections that this module does not make.
    """
    # Markdown needs no HTML escapes: names pass the filter `plain` instead.
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=False,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    environment.filters |= {"plain": plain, "points": points, "percent": percent,
                            "number": "{:,}".format}
    environment.globals |= {"counted": counted, "with_interval": with_interval,
                            "by_cost": by_cost, "causes": CAUSES}
    template = environment.get_template("card.md")
    facts = _facts(material)
    made = sections(template.render(facts, written=PLACEHOLDERS, added={}))
    kept = sections(before)
    written = {name: kept.get(name) or placeholder for name, placeholder in PLACEHOLDERS.items()}
    added = {name: text for name, text in kept.items() if name not in made}
    return template.render(facts, written=written, added=added)


def _facts(material: Material) -> dict:
    """What the template shows, by the names that it uses."""
    run, analysis = material.run, material.analysis
    weights = {"origin": "unknown weights", "license": "not known"}
    if run:
        run = {"seed": None, "best_checkpoint": None, "best_AP": None, "versions": {}} | run
        weights |= run.get("weights") or {}
    entry = ENTRIES.get(run["model"]) if run else None
    return {
        "project": material.project, "metrics": material.metrics, "analysis": analysis,
        "errors": material.errors, "run": run, "when": material.curves.when, "weights": weights,
        "zoo": entry.weights if entry and entry.weights.license == weights["license"] else None,
        "fingerprint": data_fingerprint(run) if run else "",
        "shipped": {"ap_drop_interval": None} | material.shipped if material.shipped else None,
        "shipped_changed": material.shipped_changed,
        "splits": {split: len(images) for split, images in material.tables.items()},
        "boxes_by_class": material.boxes_by_class(),
        "source": SOURCES.get(material.source, material.source),
        "licenses": material.licenses, "authors": material.authors,
        "intervals": {"AP": None, "AP50": None} | (analysis or {}).get("intervals", {}),
        "class_rows": class_rows(material) if material.metrics else [],
        "best": analysis["thresholds"]["all"].get("best_f1") if analysis else None,
        "missed": _missed(material), "sizes": _sizes(analysis),
    }


def _missed(material: Material) -> list[tuple[str, int, int | None]]:
    """Class, labels that were not found, and labels there are (None: not known)."""
    rows = (material.errors or {}).get("errors", ())
    missed = Counter(row["truth_class"] for row in rows if row["cause"] == "missed")
    per_class = (material.metrics or {}).get("per_class") or {}
    return [(name, count, per_class[name]["boxes"] if name in per_class else None)
            for name, count in missed.most_common()]


def _sizes(analysis: dict | None) -> list[str]:
    of_all = (analysis or {}).get("sizes", {}).get("all", {})
    return [f"{title} {points(of_all[size]['AP'])} ({of_all[size]['boxes']:,})"
            for size, title in SIZES.items() if of_all.get(size)]

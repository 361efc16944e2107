"""`inference/MODEL_CARD.md`: what the shipped model is, from measured facts only.

The parts are those of Mitchell et al. 2019, "Model Cards for Model Reporting". What no file knows is left to people:
their text below the headings of PEOPLES, and sections of their own, are kept when the card is made anew.
"""

import csv
from collections import Counter
from pathlib import Path

from scripts.evaluation.evaluate import points
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_text
from scripts.pipeline.words import counted
from scripts.report.card_figures import figures_text, limits_text, markdown_table, plain
from scripts.report.curves import Curves
from scripts.report.material import Material
from scripts.report.overview import boxes_by_class
from scripts.report.provenance import data_fingerprint, shipped_file
from scripts.training.zoo import ENTRIES

CARD = "inference/MODEL_CARD.md"
ATTRIBUTION = "images/source/openimages/ATTRIBUTION.csv"
MOST_LICENCES = 8
PEOPLES = {
    "Intended use": "Not written yet. What is it for, who uses it, and what must it not be used for?",
    "Licence of the pictures": "Not known to this project: write it here. (Of pictures of Open Images, “Data” says "
                               "what ATTRIBUTION.csv holds.)",
}
"""Heading -> what stands there until a person writes."""

NOTE = ("<!-- Made by `invoke report` from the project's files. Made anew, it keeps what you wrote under “Intended "
        "use” and “Licence of the pictures”, and sections of your own; other changes are lost. -->")


def write_card(material: Material, curves: Curves) -> None:
    """Write the card. DetectorError when the one that is there is no UTF-8 text: what a person wrote would be lost."""
    path = material.root / CARD
    made = {"Model": _model(material), "Intended use": "", "Data": _data(material), "Licence of the pictures": "",
            "Training": _training(material, curves), "Figures": figures_text(material), "Limits": limits_text(material),
            "Licence of the weights": _weights(material), "How to read the file": _reading(material)}
    kept = sections(_existing(path))
    for name, placeholder in PEOPLES.items():
        made[name] = kept.get(name) or placeholder
    made |= {name: body for name, body in kept.items() if name not in made}
    text = "\n\n".join(f"## {name}\n\n{body}" for name, body in made.items())
    write_text(path, f"# Model card: {plain(material.root.name)}\n\n{NOTE}\n\n{text}\n")


def _existing(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise DetectorError(f"no UTF-8 text: {CARD}: save it as UTF-8, or move it away, then `invoke report`") from None


def sections(text: str) -> dict[str, str]:
    """What stands below each `## ` heading; headings inside fenced code are text. Of equal ones all is kept."""
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


def _model(material: Material) -> str:
    run = material.run
    if run is None:
        return "Not trained yet: `invoke train`."
    lines = [f"RetinaNet `{run['model']}`, input {run['input_px']} x {run['input_px']} px, stretched; "
             f"finds {counted(len(run['classes']), 'class', 'classes')}: {', '.join(map(plain, run['classes']))}."]
    row, changed = shipped_file(material.root, material.tflite)
    if row is None:
        return "\n\n".join([*lines, "There is no `.tflite` yet: `invoke tflite`."])
    lines.append(f"File: `{row['file']}`, {row['bytes']:,} bytes, SHA-256 `{row['sha256']}`.")
    if not row["passed"]:
        lines.append("**This file was refused**: it lost more AP than `tflite.max_ap_drop` allows.")
    return "\n\n".join(lines + [f"**{changed}**"] * bool(changed))


def _data(material: Material) -> str:
    if not material.pictures:
        return "No tables yet: `invoke csv`."
    splits, counts = list(material.pictures), boxes_by_class(material)
    rows = [(plain(name), *(f"{row[split]:,}" for split in splits)) for name, row in counts.items()]
    rows.append(("pictures", *(f"{material.pictures[split]:,}" for split in splits)))
    parts = [f"Boxes by class and split. Source: {_source(material.root)}.", markdown_table(("class", *splits), rows)]
    if material.run:
        parts.append(f"Fingerprint of the records of train and validation (SHA-256 over their hashes): "
                     f"`{data_fingerprint(material.run)}`.")
    return "\n\n".join([*parts, *_licences(material.root)])


def _source(root: Path) -> str:
    """The kind that `detector.toml` names, without a path of anybody's machine."""
    import tomllib

    try:
        kind = tomllib.loads((root / "detector.toml").read_text("utf-8"))["source"]["kind"]
    except (FileNotFoundError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"
    return {"demo": "drawn by this project (`demo`)", "folder": "a folder of labelled pictures (`folder`)",
            "openimages": "Open Images (`openimages`)"}.get(kind, str(kind))


def _licences(root: Path) -> list[str]:
    """How many pictures have which licence, as ATTRIBUTION.csv says."""
    try:
        with (root / ATTRIBUTION).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    counts = Counter(row.get("License") or "not named" for row in rows)
    named = [f"{plain(name)} ({count:,})" for name, count in counts.most_common(MOST_LICENCES)]
    left = len(counts) - len(named)
    authors = sum(bool(row.get("Author")) for row in rows)
    return [f"Licences by `{ATTRIBUTION}`, which names author and page of each: {', '.join(named)}"
            f"{f' and {left} more' if left > 0 else ''}; {authors:,} of {len(rows):,} pictures name their author."]


def _training(material: Material, curves: Curves) -> str:
    run = material.run
    if run is None:
        return "Not trained yet."
    versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())
    when = f" {curves.when}." if curves.when else ""
    return (f"{run['steps']:,} steps in {run['seconds'] / 60:.1f} minutes, seed {run.get('seed')}.{when} Best "
            f"checkpoint `{run.get('best_checkpoint')}`, AP {points(run.get('best_AP'))} on the validation pictures. "
            f"{versions}.")


def _weights(material: Material) -> str:
    run = material.run
    if run is None:
        return "No weights yet."
    weights, entry = run.get("weights") or {}, ENTRIES.get(run["model"])
    parts = [f"Training began from {plain(weights.get('origin', 'unknown weights'))}, licence: "
             f"{weights.get('licence', 'not known')}."]
    if entry and weights.get("licence") == entry.weights.licence:
        parts.append(f"They come from <{entry.weights.url}> and were trained on {entry.weights.trained_on}.")
    return " ".join(parts)


def _reading(material: Material) -> str:
    side = material.run["input_px"] if material.run else "S"
    return (f"Input 0: `[1, {side}, {side}, 3]` RGB, the upright picture stretched to {side} x {side}, raw pixels 0 "
            "to 255. Outputs, float32: `detection_boxes` `[1, 100, 4]` ymin, xmin, ymax, xmax as fractions of the "
            "picture; `detection_classes` `[1, 100]`, from 0 = line of `labels.txt`; `detection_scores` `[1, 100]`; "
            "`num_detections` `[1]`. Read only the first `num_detections` slots. `clients/detect.py` is a reader to "
            "copy.")

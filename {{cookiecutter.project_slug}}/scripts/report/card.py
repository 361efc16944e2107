"""The part of the model card that was measured: figures with intervals, and where the detector
fails."""

import csv
import tomllib
from collections import Counter
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.text import DetectorError, counted, points
from scripts.modeling.zoo import ENTRIES
from scripts.report.figures import boxes_by_class
from scripts.report.material import Curves, Material, data_fingerprint, in_order, shipped_file
from scripts.report.scores import CAUSES, SIZES, by_cost, percent, with_interval


def plain(name: str) -> str:
    """A name of the user's inside Markdown: its own marks are made harmless, line breaks are
    spaces."""
    marked = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in name)
    return " ".join(marked.split())


def markdown_table(header: tuple, rows: list[tuple]) -> str:
    """A table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def figures_text(material: Material) -> str:
    """AP, AP50 and AR100 by class with intervals, what the shipped file scores, and the advised
    score."""
    metrics, analysis = material.metrics, material.analysis
    if metrics is None:
        return "Not measured yet: `invoke evaluate`."
    intervals = (analysis or {}).get("intervals", {})
    parts = [f"On {counted(metrics['images'], 'test image')} with {counted(metrics['boxes'], 'box', 'boxes')}, "
             f"which training never saw, checkpoint `{metrics['checkpoint']}`. In points (x100); brackets are 95 % "
             "intervals."]
    per_class = intervals.get("per_class") or {}
    rows = [("all", with_interval(metrics["AP"], intervals.get("AP")),
             with_interval(metrics["AP50"], intervals.get("AP50")), points(metrics["AR100"]), f"{metrics['boxes']:,}")]
    rows += [(plain(name), with_interval(row["AP"], (per_class.get(name) or {}).get("AP")), points(row["AP50"]),
              points(row["AR100"]), f"{row['boxes']:,}") for name, row in in_order(material, metrics["per_class"])]
    parts.append(markdown_table(("class", "AP", "AP50", "AR100", "boxes"), rows))
    if analysis and analysis["too_small"]:
        parts.append(analysis["too_small"].rstrip(".") + ".")
    return "\n\n".join([*parts, *_shipped_figures(material)])


def _shipped_figures(material: Material) -> list[str]:
    """What the file that ships scores, and the score from which its detections are worth showing.
    """
    parts = []
    row, _ = shipped_file(material.root, material.tflite)
    if row:
        lost = with_interval(row["ap_drop"], row.get("ap_drop_interval"))
        parts.append(f"The shipped file on the same images: AP {points(row['AP'])}, AP50 {points(row['AP50'])}; "
                     f"{lost} points of AP below the checkpoint.")
    best = material.analysis["thresholds"]["all"].get("best_f1") if material.analysis else None
    if best:
        parts.append(f"Advised score: {best['score']:.2f} (best F1 on validation). Precision from there on, on the "
                     f"test images: {percent(best['precision'])}; recall: {percent(best['recall'])} (IoU 0.5).")
    return parts


def limits_text(material: Material) -> str:
    """Causes of mistakes, classes and sizes where it fails."""
    errors, analysis, metrics = material.errors, material.analysis, material.metrics
    if errors is None:
        return "Not measured yet: `invoke evaluate`."
    parts = [f"Mistakes on the test images from score {errors['score']:.2f}, by cause (TIDE, Bolya et al. 2020), and "
             "what AP50 would gain without them, in points.",
             markdown_table(("cause", "mistakes", "AP50"),
                    [(f"{name}: {CAUSES[name][0] if name in CAUSES else ''}", f"{row['count']:,}",
                      points(row["ap50_gain"])) for name, row in by_cost(errors["causes"])])]
    missed = Counter(row["truth_class"] for row in errors["errors"] if row["cause"] == "missed")
    boxes = {name: row["boxes"] for name, row in ((metrics or {}).get("per_class") or {}).items()}
    if missed:
        parts.append("Not found at all: " + ", ".join(
            f"{count:,}{f' of {boxes[name]:,}' if name in boxes else ''} {plain(name)}"
            for name, count in missed.most_common()) + ".")
    sizes = (analysis or {}).get("sizes", {}).get("all", {})
    said = [f"{title} {points(sizes[size]['AP'])} ({sizes[size]['boxes']:,})"
            for size, title in SIZES.items() if sizes.get(size)]
    return "\n\n".join(parts + [f"AP by size of the box (boxes): {', '.join(said)}."] * bool(said))


# `inference/MODEL_CARD.md`: what the shipped model is, from measured facts only.

CARD = "inference/MODEL_CARD.md"
ATTRIBUTION = "images/source/openimages/ATTRIBUTION.csv"
MOST_LICENSES = 8
PEOPLES = {
    "Intended use": "Not written yet. What is it for, who uses it, and what must it not be used for?",
    "License of the images": "Not known to this project: write it here. (Of images of Open Images, “Data” says "
                               "what ATTRIBUTION.csv holds.)",
}
"""Heading -> what stands there until a person writes."""

NOTE = ("<!-- Made by `invoke report` from the project's files. Made anew, it keeps what you wrote under “Intended "
        "use” and “License of the images”, and sections of your own; other changes are lost. -->")


def write_card(material: Material, curves: Curves) -> None:
    """Write the card. DetectorError when the one that is there is no UTF-8 text: what a person
    wrote would be lost."""
    path = material.root / CARD
    made = {"Model": _model(material), "Intended use": "", "Data": _data(material), "License of the images": "",
            "Training": _training(material, curves), "Figures": figures_text(material), "Limits": limits_text(material),
            "License of the weights": _weights(material), "How to read the file": _reading(material)}
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
    """What stands below each `## ` heading; headings inside fenced code are text. Of equal ones all
    is kept."""
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
    if not material.images:
        return "No tables yet: `invoke csv`."
    splits, counts = list(material.images), boxes_by_class(material)
    rows = [(plain(name), *(f"{row[split]:,}" for split in splits)) for name, row in counts.items()]
    rows.append(("images", *(f"{material.images[split]:,}" for split in splits)))
    parts = [f"Boxes by class and split. Source: {_source(material.root)}.", markdown_table(("class", *splits), rows)]
    if material.run:
        parts.append(f"Fingerprint of the records of train and validation (SHA-256 over their hashes): "
                     f"`{data_fingerprint(material.run)}`.")
    return "\n\n".join([*parts, *_licenses(material.root)])


def _source(root: Path) -> str:
    """The kind that `detector.toml` names, without a path of anybody's machine."""
    try:
        kind = tomllib.loads((root / "detector.toml").read_text("utf-8"))["source"]["kind"]
    except (FileNotFoundError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"
    return {"demo": "drawn by this project (`demo`)", "folder": "a folder of labeled images (`folder`)",
            "openimages": "Open Images (`openimages`)"}.get(kind, str(kind))


def _licenses(root: Path) -> list[str]:
    """How many images have which license, as ATTRIBUTION.csv says."""
    try:
        with (root / ATTRIBUTION).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    counts = Counter(row.get("License") or "not named" for row in rows)
    named = [f"{plain(name)} ({count:,})" for name, count in counts.most_common(MOST_LICENSES)]
    left = len(counts) - len(named)
    authors = sum(bool(row.get("Author")) for row in rows)
    return [f"Licenses by `{ATTRIBUTION}`, which names author and page of each: {', '.join(named)}"
            f"{f' and {left} more' if left > 0 else ''}; {authors:,} of {len(rows):,} images name their author."]


def _training(material: Material, curves: Curves) -> str:
    run = material.run
    if run is None:
        return "Not trained yet."
    versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())
    when = f" {curves.when}." if curves.when else ""
    return (f"{run['steps']:,} steps in {run['seconds'] / 60:.1f} minutes, seed {run.get('seed')}.{when} Best "
            f"checkpoint `{run.get('best_checkpoint')}`, AP {points(run.get('best_AP'))} on the validation images. "
            f"{versions}.")


def _weights(material: Material) -> str:
    run = material.run
    if run is None:
        return "No weights yet."
    weights, entry = run.get("weights") or {}, ENTRIES.get(run["model"])
    parts = [f"Training began from {plain(weights.get('origin', 'unknown weights'))}, license: "
             f"{weights.get('license', 'not known')}."]
    if entry and weights.get("license") == entry.weights.license:
        parts.append(f"They come from <{entry.weights.url}> and were trained on {entry.weights.trained_on}.")
    return " ".join(parts)


def _reading(material: Material) -> str:
    side = material.run["input_px"] if material.run else "S"
    return (f"Input 0: `[1, {side}, {side}, 3]` RGB, the upright image stretched to {side} x {side}, raw pixels 0 "
            "to 255. Outputs, float32: `detection_boxes` `[1, 100, 4]` ymin, xmin, ymax, xmax as fractions of the "
            "image; `detection_classes` `[1, 100]`, from 0 = line of `labels.txt`; `detection_scores` `[1, 100]`; "
            "`num_detections` `[1]`. Read only the first `num_detections` slots. `clients/detect.py` is a reader to "
            "copy.")

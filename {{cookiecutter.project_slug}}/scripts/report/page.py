"""`eval/report.html` from its template: one file that holds everything it shows and names no
server.

The template escapes every name. The page's policy forbids the browser to ask a server, and to run
another script than its own, which it names by its hash.
"""

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.text import counted, points
from scripts.data.findings import CATALOG
from scripts.report.advice import CAUSES, by_cost, disagreements, next_steps
from scripts.report.figures import SERIES, box_plots, score_plots, training_plots
from scripts.report.material import COMMANDS, Material, data_fingerprint
from scripts.report.scores import (
    SIZES,
    class_rows,
    confusion_table,
    head_cards,
    size_rows,
    with_interval,
)

TEMPLATES = Path(__file__).parent / "templates"
STOPPED_BY = {"budget": "the budget was used up", "patience": "AP no longer rose",
              "user": "by hand", None: "not finished"}  # fmt: skip


def report_page(material: Material, data: dict, unfinished: list[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        material: what the steps have left.
        data: what the page's script shows: `classes`, `counts` at each score, `examples`, `errors`,
            `suspects`.
        unfinished: steps that would run again, as (name, reason).
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # `tojson` writes `<` as an escape: no name in the data can end the element that holds it.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False,
                                                 "separators": (",", ":")}
    environment.filters |= {"points": points, "number": "{:,}".format, "json": _json}
    environment.globals |= {"counted": counted, "by_cost": by_cost, "causes": CAUSES,
                            "colors": SERIES, "file_commands": COMMANDS,
                            "sizes": list(SIZES.values())}
    script = (TEMPLATES / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template("report.html").render(
        _test_facts(material) | _other_facts(material), data=data, script=script,
        script_hash=f"sha256-{digest}", style=(TEMPLATES / "report.css").read_text("utf-8"),
        warnings=disagreements(material, unfinished), next_steps=next_steps(material))


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _test_facts(material: Material) -> dict:
    """What the template shows of the test images, by the names that it uses."""
    metrics, analysis = material.metrics, material.analysis
    facts = {
        "metrics": metrics, "analysis": analysis, "errors": material.errors,
        "suspects": material.suspects, "scored": material.scored,
        "test_images": len((material.groundtruth or {}).get("images", ())),
        "start": round(100 * material.start_score), "advised": [],
    }
    if metrics:
        facts |= {"cards": head_cards(material), "class_rows": class_rows(material)}
    if analysis:
        advised = analysis["thresholds"]["all"]
        facts |= {
            "size_rows": size_rows(material), "confusion": confusion_table(analysis["confusion"]),
            "score_plots": score_plots(analysis, _lowest_ap50_first(material)),
            "advised": [(title, round(100 * advised[key]["score"]))
                        for key, title in (("best_f1", "best F1"), ("best_cost", "least cost"))
                        if advised.get(key)],
        }
    return facts


def _lowest_ap50_first(material: Material) -> list[str]:
    names = [name for name, _ in material.in_order(material.analysis["pr"])]
    per_class = (material.metrics or {}).get("per_class", {})
    return sorted(names, key=lambda name: per_class.get(name, {}).get("AP50") or 0)


def _other_facts(material: Material) -> dict:
    """What the template shows of the data, the training and the `.tflite` files."""
    tflite, run = material.tflite, material.run
    facts = {
        "project": material.project, "files": material.files, "classes": material.classes,
        "run": run, "tflite": tflite, "check": material.check,
        "provenance": _provenance(material),
        "splits": {split: len(images) for split, images in material.tables.items()},
        "findings": _finding_rows(material.check["findings"]) if material.check else [],
    }
    if material.tables:
        facts |= {"box_plots": box_plots(material.tables)} | _box_rows(material)
    if run:
        facts["training_plots"] = training_plots(run, material.curves)
    if tflite:
        threads = {row["latency_ms"]["threads"] for row in tflite["variants"].values()}
        facts |= {"tflite_rows": _tflite_rows(tflite),
                  "threads": ", ".join(map(str, sorted(threads)))}
    return facts


def _box_rows(material: Material) -> dict:
    """The table of boxes by class: name, split -> boxes, and whether the sum has a bar."""
    by_class = material.boxes_by_class()
    images = Counter({split: len(images) for split, images in material.tables.items()})
    rows = [(name, counts, True) for name, counts in by_class.items()]
    rows += [("all boxes", sum(by_class.values(), Counter()), False), ("images", images, False)]
    return {"box_rows": rows,
            "most_boxes": max((counts.total() for counts in by_class.values()), default=0) or 1}


def _finding_rows(findings: list[dict]) -> list[tuple[str, ...]]:
    """Code, severity, count, meaning and the first place of each code, worst first."""
    by_code = Counter(row["code"] for row in findings)
    first = {row["code"]: row for row in reversed(findings)}
    rows = []
    for code in sorted(by_code, key=lambda code: ("EWR".find(code[0]), code)):
        row = first[code]
        title = CATALOG[code].title if code in CATALOG else row["message"]
        place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
        rows.append((code, row["severity"], f"{by_code[code]:,}", title, place))
    return rows


def _tflite_rows(tflite: dict) -> list[tuple[str, ...]]:
    """Variant, size, AP, AP50, AP lost, two times, and what becomes of the file."""
    rows = []
    for name, row in tflite["variants"].items():
        state = "ships" if name == tflite["ship"] else ""
        if not row["passed"]:
            state = "refused"
        rows.append((name, f"{row['bytes'] / 1e6:.2f} MB", points(row["AP"]), points(row["AP50"]),
                     with_interval(row["ap_drop"], row.get("ap_drop_interval")),
                     f"{row['latency_ms']['median']:.1f}", f"{row['latency_ms']['p90']:.1f}",
                     state))
    return rows


def _provenance(material: Material) -> list[tuple[str, object]]:
    """Facts about the model, its data and its training."""
    rows = [("project", material.project)]
    if material.run:
        run = material.run
        weights, hardware = run.get("weights") or {}, run.get("hardware") or {}
        machine = (hardware.get(key, "?") for key in ("system", "machine", "cores"))
        stopped = STOPPED_BY.get(run.get("stopped_by"), run.get("stopped_by"))
        rows += [
            ("model", f"{run['model']}, input {run['input_px']} x {run['input_px']} px"),
            ("weights at the start",
             f"{weights.get('origin', 'unknown')} ({weights.get('license', 'license unknown')})"),
            ("checkpoint scored", (material.metrics or {}).get("checkpoint", "none")),
            ("training", f"{run['steps']:,} steps, {run['seconds'] / 60:.1f} minutes; {stopped}"),
            ("events", material.curves.when), ("seed", run.get("seed")),
            ("machine", "{} {}, {} cores".format(*machine)),
            ("data", data_fingerprint(run)),
        ]
    if material.shipped:
        rows += [("shipped file", material.shipped["file"]),
                 ("its SHA-256", material.shipped["sha256"])]
    return [(name, value) for name, value in rows if value != ""]

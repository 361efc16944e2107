"""Where the figures come from: model, data, versions, times and hashes; and whether the files belong together."""

import hashlib
import json
from pathlib import Path

from scripts.evaluation.evaluate import points
from scripts.pipeline.files import sha256_file
from scripts.report.curves import Curves
from scripts.report.html import Html, paragraph, table, tag
from scripts.report.material import FILES, Material, missing_text

STOPPED_BY = {"budget": "the budget was used up", "patience": "AP no longer rose", "user": "by hand", None: "not ended"}


def data_fingerprint(run: dict) -> str:
    """One SHA-256 over the hashes of the records of train and validation, by file name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(run["data_sha256"].items()))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def shipped_file(root: Path, tflite: dict | None) -> tuple[dict | None, str]:
    """The row of the shipped variant, and a sentence when the file is not the one that was measured ("" if it is)."""
    row = ((tflite or {}).get("variants") or {}).get((tflite or {}).get("ship"))
    if row is None:
        return None, ""
    path = root / row["file"]
    if not path.is_file():
        return row, f"{row['file']} is not there. Type `invoke tflite`."
    if sha256_file(path) != row["sha256"]:
        return row, f"{row['file']} is not the file that was measured: its SHA-256 is another. Type `invoke tflite`."
    return row, ""


def disagreements(material: Material, unfinished: list[tuple[str, str]]) -> list[str]:
    """Sentences about files that do not belong together, and about steps that would run (`name`, reason)."""
    said = []
    if unfinished:
        name, reason = unfinished[0]
        others = f", and after it {', '.join(other for other, _ in unfinished[1:])}" if unfinished[1:] else ""
        said.append(f"{name} would run again ({reason}){others}: what they wrote is shown as it was. "
                    f"Type `invoke {unfinished[-1][0]}`, then `invoke report`.")
    checkpoint = (material.metrics or {}).get("checkpoint")
    for name in ("analysis", "errors", "suspects"):
        other = (getattr(material, name) or {}).get("checkpoint")
        if checkpoint and other and other != checkpoint:
            path, command = FILES[name]
            said.append(f"{path} is of {other}, the figures are of {checkpoint}. Type `invoke {command}`.")
    tflite = ((material.tflite or {}).get("checkpoint") or {}).get("name")
    if checkpoint and tflite and tflite != checkpoint:
        said.append(f"The .tflite files are of {tflite}, the figures of {checkpoint}. Type `invoke tflite`.")
    if material.scored and _classes(material) != set(material.metrics["per_class"]):
        said.append("eval/groundtruth.json has other classes than eval/metrics.json. Type `invoke forget evaluate`, "
                    "then `invoke evaluate`.")
    changed = shipped_file(material.root, material.tflite)[1]
    return said + [changed] * bool(changed)


def _classes(material: Material) -> set[str]:
    return {row["name"] for row in material.groundtruth["categories"]}


def tflite_parts(material: Material) -> list[Html]:
    """The table of the files, as `tflite/metrics.json` holds it."""
    tflite = material.tflite
    if tflite is None:
        return [paragraph(missing_text("No file for the phone", "tflite"))]
    rows = []
    for name, row in tflite["variants"].items():
        interval = row.get("ap_drop_interval")
        drop = points(row["ap_drop"]) + (f" ({points(interval[0])} to {points(interval[1])})" if interval else "")
        latency = row["latency_ms"]
        state = "refused" if not row["passed"] else "ships" if name == tflite["ship"] else ""
        rows.append((name, f"{row['bytes'] / 1e6:.2f} MB", points(row["AP"]), points(row["AP50"]), drop,
                     f"{latency['median']:.1f}", f"{latency['p90']:.1f}", state))
    header = ("file", "size", "AP", "AP50", "AP lost", "median ms", "p90 ms", "")
    threads = {row["latency_ms"]["threads"] for row in tflite["variants"].values()}
    caption = (f"On the test pictures, in points; the checkpoint has AP {points(tflite['checkpoint']['AP'])}. "
               f"Times on this machine with {', '.join(map(str, sorted(threads)))} threads")
    parts = [table(header, rows, caption)]
    if tflite.get("advised_score_threshold") is not None:
        advised = tflite["advised_score_threshold"]
        parts.append(paragraph(f"The file advises to show what scores {advised:.2f} or more."))
    return parts


def provenance_parts(material: Material, curves: Curves) -> list[Html]:
    """A table of facts, and all settings and versions behind folds."""
    rows = [("project", material.root.name)] + _run_rows(material, curves)
    shipped, _ = shipped_file(material.root, material.tflite)
    if shipped:
        rows += [("shipped file", shipped["file"]), ("its SHA-256", tag("code", shipped["sha256"]))]
    parts = [table(("", ""), rows, numbers_from=9)]
    if material.run is None:
        return [*parts, paragraph(missing_text("No training", "run"))]
    folds = {"Settings of the experiment": "settings", "Versions": "versions", "Hashes of the records": "data_sha256"}
    return parts + [_fold(title, material.run[key]) for title, key in folds.items() if material.run.get(key)]


def _run_rows(material: Material, curves: Curves) -> list[tuple]:
    run = material.run
    if run is None:
        return []
    weights = run.get("weights") or {}
    hardware = run.get("hardware") or {}
    machine = (str(hardware.get(key, "?")) for key in ("system", "machine", "cores"))
    rows = [
        ("model", f"{run['model']}, input {run['input_px']} x {run['input_px']} px"),
        ("weights at the start", f"{weights.get('origin', 'unknown')} ({weights.get('licence', 'licence unknown')})"),
        ("checkpoint scored", (material.metrics or {}).get("checkpoint", "none")),
        ("training", f"{run['steps']:,} steps, {run['seconds'] / 60:.1f} minutes; "
                     f"{STOPPED_BY.get(run.get('stopped_by'), run.get('stopped_by'))}"),
        ("seed", run.get("seed")),
        ("machine", "{} {}, {} cores".format(*machine)),
        ("data", tag("code", data_fingerprint(run))),
    ]
    return rows[:4] + [("events", curves.when)] * bool(curves.when) + rows[4:]


def _fold(title: str, values: dict) -> Html:
    shown = [(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
             for key, value in sorted(values.items())]
    return tag("details", tag("summary", f"{title} ({len(shown)})"), table(("", ""), shown, numbers_from=9))

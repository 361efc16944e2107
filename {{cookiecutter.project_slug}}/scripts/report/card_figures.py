"""The part of the model card that was measured: figures with intervals, and where the detector fails."""

from collections import Counter

from scripts.evaluation.evaluate import points
from scripts.pipeline.words import counted
from scripts.report.advice import CAUSES, by_cost
from scripts.report.material import Material, in_order
from scripts.report.provenance import shipped_file
from scripts.report.scores import SIZES, percent, with_interval


def plain(name: str) -> str:
    """A name of the user's inside Markdown: its own marks are made harmless, line breaks are spaces."""
    marked = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in name)
    return " ".join(marked.split())


def markdown_table(header: tuple, rows: list[tuple]) -> str:
    """A table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def figures_text(material: Material) -> str:
    """AP, AP50 and AR100 by class with intervals, what the shipped file scores, and the advised score."""
    metrics, analysis = material.metrics, material.analysis
    if metrics is None:
        return "Not measured yet: `invoke evaluate`."
    intervals = (analysis or {}).get("intervals", {})
    parts = [f"On {counted(metrics['pictures'], 'test picture')} with {counted(metrics['boxes'], 'box', 'boxes')}, "
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
    """What the file that ships scores, and the score from which its detections are worth showing."""
    parts = []
    row, _ = shipped_file(material.root, material.tflite)
    if row:
        lost = with_interval(row["ap_drop"], row.get("ap_drop_interval"))
        parts.append(f"The shipped file on the same pictures: AP {points(row['AP'])}, AP50 {points(row['AP50'])}; "
                     f"{lost} points of AP below the checkpoint.")
    best = material.analysis["thresholds"]["all"].get("best_f1") if material.analysis else None
    if best:
        parts.append(f"Advised score: {best['score']:.2f} (best F1 on validation). Precision from there on, on the "
                     f"test pictures: {percent(best['precision'])}; recall: {percent(best['recall'])} (IoU 0.5).")
    return parts


def limits_text(material: Material) -> str:
    """Causes of mistakes, classes and sizes where it fails."""
    errors, analysis, metrics = material.errors, material.analysis, material.metrics
    if errors is None:
        return "Not measured yet: `invoke evaluate`."
    parts = [f"Mistakes on the test pictures from score {errors['score']:.2f}, by cause (TIDE, Bolya et al. 2020), and "
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

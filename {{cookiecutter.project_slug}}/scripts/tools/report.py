"""`invoke report`: one page `eval/report.html` that shows what was learned, and the model card
beside the model."""

import tomllib
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.layout import Layout
from scripts.core.text import counted
from scripts.data.box_table import read_table
from scripts.data.dataset import SPLITS
from scripts.data.label_map import read_label_map
from scripts.report.card import model_card, read_card
from scripts.report.crops import error_crops, examples, suspect_crops
from scripts.report.material import (
    Material,
    changed_file,
    read_attribution,
    read_curves,
    read_result,
    shipped_row,
)
from scripts.report.page import report_page
from scripts.report.scores import count


def make_report(root: Path, unfinished: list[tuple[str, str]] = ()) -> str:
    """Write the page and the model card.

    Args:
        root: the project's folder. A section of the page whose file is not there says what to type.
        unfinished: steps that would run again, as (name, reason): the page says so.

    Returns:
        A summary: the page's size, how much of what there is it shows, and the missing files.

    Raises:
        DetectorError: a file is damaged; the old page stays.
    """
    layout = Layout(root)
    files = result_files(layout)
    material = read_material(layout, files)
    card = layout.inference / "MODEL_CARD.md"
    # The card before the page is written: a damaged card stops the command and both stay.
    card_text = model_card(material, read_card(card))

    data = page_data(layout, material)
    page = report_page(material, data, list(unfinished))
    write_text(layout.eval / "report.html", page)
    write_text(card, card_text)

    images = len((material.groundtruth or {}).get("images", ()))
    errors = len((material.errors or {}).get("errors", ()))
    # A section without its file says in the page what to type; the summary names the files too.
    missing = [material.files[name] for name in files if getattr(material, name) is None]
    return (f"eval/report.html: {len(page.encode('utf-8')) / 1e6:.1f} MB, "
            f"{len(data['examples']):,} of {counted(images, 'test image')}, "
            f"{len(data['errors']):,} of {counted(errors, 'mistake')}; {layout.shown(card)}"
            + f"\nnot there, so left out: {', '.join(missing)}" * bool(missing))


def result_files(layout: Layout) -> dict[str, Path]:
    """Return the files of the steps that the report shows, by their names in `Material`."""
    return {"check": layout.check, "run": layout.run, "metrics": layout.metrics,
            "groundtruth": layout.groundtruth, "detections": layout.detections,
            "analysis": layout.analysis, "errors": layout.eval / "errors.json",
            "suspects": layout.eval / "suspects.json", "tflite": layout.tflite_metrics}


def read_material(layout: Layout, files: dict[str, Path]) -> Material:
    """Read everything that is there. DetectorError for a damaged file, with what to type."""
    results = {name: read_result(path, name) for name, path in files.items()}
    tables = {split: read_table(layout.table(split))
              for split in SPLITS if layout.table(split).is_file()}
    curves = read_curves({part: layout.training / part for part in ("train", "validation")})
    shipped = shipped_row(results["tflite"])
    licenses, authors = read_attribution(layout.openimages / "ATTRIBUTION.csv")
    return Material(
        project=layout.root.name, files={name: layout.shown(path) for name, path in files.items()},
        classes=_class_names(layout, results["groundtruth"]), tables=tables, curves=curves,
        source=_source_kind(layout.root / "detector.toml"), licenses=licenses, authors=authors,
        shipped_changed=changed_file(shipped, layout.root / shipped["file"]) if shipped else "",
        **results)


def page_data(layout: Layout, material: Material) -> dict:
    """Return what the page's script shows: counts at each score, and images with their boxes."""
    errors = material.errors["errors"] if material.errors else []
    suspects = material.suspects["suspects"] if material.suspects else []
    data = {"classes": list(material.classes), "counts": None, "examples": [],
            "errors": error_crops(errors, layout.root),
            "suspects": suspect_crops(suspects, layout.root)}
    if material.scored:
        counts = count(material.groundtruth, material.detections)
        data["counts"] = {"boxes": counts.boxes, "hits": counts.hits,
                          "false_alarms": counts.false_alarms}
        data["examples"] = examples(material.groundtruth, counts, material.start_score,
                                    layout.images / "test")
    return data


def _class_names(layout: Layout, groundtruth: dict | None) -> tuple[str, ...]:
    """Classes in the order of the label map: those of the ground truth, from which the figures
    come, else those of the label map."""
    if groundtruth and groundtruth["categories"]:
        return tuple(row["name"] for row in groundtruth["categories"])
    return tuple(read_label_map(layout.label_map).values()) if layout.label_map.is_file() else ()


def _source_kind(path: Path) -> str:
    """The kind of source that `detector.toml` names, without a path of anybody's machine."""
    try:
        return str(tomllib.loads(path.read_text("utf-8"))["source"]["kind"])
    except (FileNotFoundError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"

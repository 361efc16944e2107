"""`invoke models`: what can be chosen with model.id. Reads the zoo only, so that it answers at once."""

from scripts.training.zoo import ENTRIES, MEASURED_ON, ZooEntry

HEADER = ("model.id", "backbone", "input", "parameters", "weights and licence", "COCO AP", "int8 file", "int8 time",
          "fits TFLite")
COCO_NOTE = "COCO AP: what Google reports for these weights, in float; ours were never scored on COCO."
ARCHIVE_NOTE = ("COCO weights: archives of Model Garden, not fetched by us when this was written. `invoke pretrained` "
                "gets the chosen one. Sizes and times of these models are with fresh weights.")


def models_table(chosen: str, experimental: bool) -> str:
    """A line for each model, `*` at the chosen one; `experimental` adds those whose weights are behind an address."""
    shown = [entry for entry in ENTRIES.values() if experimental or not entry.experimental or entry.id == chosen]
    rows = [("", *HEADER), *(("*" if entry.id == chosen else "", *_cells(entry)) for entry in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"Files and times: {MEASURED_ON}."] if any(entry.measured for entry in shown) else []
    if any(entry.coco_ap is not None for entry in shown):
        notes.append(COCO_NOTE)
    if any(entry.experimental for entry in shown):
        notes.append(ARCHIVE_NOTE)
    else:
        notes.append("Four more, with COCO weights: invoke models --experimental")
    return "\n".join([*lines, "", *notes])


def _cells(entry: ZooEntry) -> tuple[str, ...]:
    measured = entry.measured
    figures = ("not measured",) * 3
    if measured:
        figures = (f"{measured.parameters / 1e6:.1f} M", f"{measured.int8_bytes / 1e6:.1f} MB",
                   f"{measured.latency_ms:.0f} ms")
    published = "not published" if entry.coco_ap is None else f"{100 * entry.coco_ap:.1f}"
    weights = f"{entry.weights.trained_on}, {entry.weights.licence}"
    return (entry.id, entry.name, f"{entry.input_px} px", figures[0], weights, published, figures[1], figures[2],
            "yes" if measured else "not tried")

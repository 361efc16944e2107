"""The step `csv`: write `annotations/{train,validation,test}_labels.csv`, a row for each box."""

from collections import Counter
from pathlib import Path

from scripts.core.files import write_json, write_text
from scripts.core.layout import Layout
from scripts.core.text import counted
from scripts.data.box_table import change_entry, table_rows, table_text
from scripts.data.dataset import SPLITS
from scripts.data.label_map import read_label_map
from scripts.data.manifest import entries_by_name, read_manifest, read_stored


def tables(root: Path) -> str:
    """Write the three tables from `images/`, and `annotations/csv.json` with every change.

    Boxes that `check` was told to accept are clipped to the image or dropped; nothing happens
    without a count.
    """
    layout = Layout(root)
    changes_path = layout.annotations / "csv.json"
    classes = set(read_label_map(layout.label_map).values())
    entries = entries_by_name(read_manifest(layout.manifest))

    # Only what `check` accepted gets this far with a fault: it is clipped or dropped, and named.
    rows, changes, images, boxes = {split: [] for split in SPLITS}, [], 0, 0
    for stored in read_stored(layout.images, entries, "csv"):
        if stored.facts.error:
            changes.append(change_entry("unreadable image left out", stored.shown))
        elif stored.label is None:
            change = "image without a readable label file left out"
            changes.append(change_entry(change, stored.shown))
        else:
            image_rows, box_count, box_changes = table_rows(stored, classes)
            rows[stored.split] += image_rows
            changes += box_changes
            images, boxes = images + 1, boxes + box_count

    # An unchanged table is left alone, so that `records` has no reason to run.
    for split in SPLITS:
        write_text(layout.table(split), table_text(rows[split]))
    write_json(changes_path, {"schema": 1, "changes": changes})
    return ", ".join([counted(images, "image"), counted(boxes, "box", "boxes"),
                      *_change_texts(changes, layout.shown(changes_path))])


def _change_texts(changes: list[dict], shown: str) -> list[str]:
    """Return a text for each kind of change: how often, and the first three places."""
    # A change is told with its place: nothing is dropped without being named.
    texts = []
    for kind, count in sorted(Counter(change["what"] for change in changes).items()):
        places = [change["file"] + (f":{change['line']}" if change["line"] else "")
                  for change in changes if change["what"] == kind]
        names = ", ".join(places[:3]) + (f", ... see {shown}" if count > 3 else "")
        plural = kind.replace("box", "boxes", 1).replace("image", "images", 1)
        texts.append(f"{counted(count, kind, plural)} ({names})")
    return texts

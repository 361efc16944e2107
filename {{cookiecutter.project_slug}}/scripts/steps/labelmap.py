"""The step `labelmap`: number the classes in `annotations/label_map.pbtxt`."""

import json
from collections import Counter
from pathlib import Path

from scripts.core.files import sha256_file, write_json
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import LabelError
from scripts.data.label_map import number_classes, read_label_map, write_label_map
from scripts.data.manifest import entries_by_name, read_label, read_manifest, stored_labels


def labelmap(root: Path, labels: list[str]) -> str:
    """Write the label map: an existing one keeps its ids, new classes are appended.

    New classes come in the order of `labels`, or sorted by name from `images/` when `labels` is
    empty. As the images of an earlier source leave `images/`, its classes leave a map that nobody
    edited.
    """
    layout = Layout(root)
    path, memory_path = layout.label_map, layout.annotations / "labelmap.json"
    manifest, memory = read_manifest(layout.manifest), _read_memory(memory_path)
    boxes = _boxes_by_class(layout.images, manifest)
    wanted = list(labels) or sorted(boxes)
    before = read_label_map(path) if path.exists() else {}

    unedited = not path.exists() or sha256_file(path) == memory.get("sha256")
    other_source = memory.get("source") not in (None, manifest["source"])
    # With all of its classes in use the source was only moved, and the ids stay.
    unused = set(before.values()) - {*wanted, *boxes}
    ids = number_classes({} if unedited and other_source and unused else before, wanted)
    if not ids:
        raise DetectorError("no box has a class: images/: label some images, "
                            "then `invoke labelmap`")
    if ids != before:  # the user's own layout and comments stay as long as nothing is new
        write_label_map(path, ids)
    write_json(memory_path, {"schema": 1, "source": manifest["source"],
                             "sha256": sha256_file(path) if unedited else None})
    return _summary(before, ids, boxes, layout.shown(path))


def _read_memory(path: Path) -> dict:
    """Return the source that the map was written for and the SHA-256 of the map as written."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _boxes_by_class(images: Path, manifest: dict) -> Counter:
    """Count the boxes of `images/` by class; unreadable label files are left to `check`."""
    boxes, entries = Counter(), entries_by_name(manifest)
    for path in stored_labels(images):
        try:
            label, _ = read_label(path, entries.get(path.stem))
        except (LabelError, FileNotFoundError):
            continue
        boxes.update(box.class_name for box in label.boxes if box.class_name)
    return boxes


def _summary(before: dict[int, str], after: dict[int, str], boxes: Counter, shown: str) -> str:
    new = set(after.values()) - set(before.values())
    removed = set(before.values()) - set(after.values())
    unused = [name for name in after.values() if not boxes[name]]
    texts = [counted(len(after), "class", "classes")] + [f"{len(new):,} new"] * bool(new)
    if removed:
        texts.append(counted(len(removed), "class", "classes") + " of the earlier source removed")
    if unused:
        names = ", ".join(unused[:3]) + ", ..." * (len(unused) > 3)
        texts.append(f"{len(unused):,} without boxes, kept ({names}; delete {shown} to number "
                     "anew)")
    return ", ".join(texts)

"""The step `labelmap`: number the classes in `annotations/label_map.pbtxt`."""

from collections import Counter
from pathlib import Path

from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import LabelError
from scripts.data.demo.scene import CLASSES
from scripts.data.label_map import DRAWN, number_classes, read_label_map, write_label_map
from scripts.data.manifest import read_label, read_manifest, stored_labels


def labelmap(root: Path, labels: list[str]) -> str:
    """Write the label map: an existing one keeps its ids, new classes are appended.

    New classes come in the order of `labels`, or sorted by name from `images/` when `labels` is
    empty.
    """
    layout, manifest = Layout(root), read_manifest(root)
    path, demo = layout.label_map, manifest["source"].get("kind") == "demo"
    boxes = _boxes_by_class(root, manifest)
    wanted = list(labels) or sorted(boxes)
    before = read_label_map(path) if path.exists() else {}
    drawn = _is_drawn(path, before)

    # To keep `banana` at 2 because the demo has bananas helps nobody.
    kept = {} if drawn and not demo else before
    ids = number_classes(kept, wanted)
    if not ids:
        raise DetectorError("no box has a class: images/: label some images, then `invoke labelmap`")
    # The user's own layout and comments stay as long as nothing is new.
    if ids != before or (drawn and not demo):
        write_label_map(path, ids, DRAWN if demo and _is_drawn(path, ids) else "")
    return _summary(before, ids, [name for name in ids.values() if not boxes[name]], layout.shown(path))


def _boxes_by_class(root: Path, manifest: dict) -> Counter:
    """Count the boxes of `images/` by class; unreadable label files are left to `check`."""
    boxes, entries = Counter(), {entry["name"]: entry for entry in manifest["images"]}
    for path in stored_labels(root):
        try:
            label, _ = read_label(path, entries.get(path.stem))
        except (LabelError, FileNotFoundError):
            continue
        boxes.update(box.class_name for box in label.boxes if box.class_name)
    return boxes


def _is_drawn(path: Path, ids: dict[int, str]) -> bool:
    """Whether the map was written for the demo source and holds nothing else."""
    begins = not path.exists() or path.read_text("utf-8-sig").startswith(DRAWN)
    return begins and set(ids.values()) <= set(CLASSES)


def _summary(before: dict[int, str], after: dict[int, str], unused: list[str], shown: str) -> str:
    new, removed = set(after.values()) - set(before.values()), set(before.values()) - set(after.values())
    texts = [counted(len(after), "class", "classes")] + [f"{len(new):,} new"] * bool(new)
    texts += [counted(len(removed), "drawn class", "drawn classes") + " removed"] * bool(removed)
    if unused:
        names = ", ".join(unused[:3]) + ", ..." * (len(unused) > 3)
        texts.append(f"{len(unused):,} without boxes, kept ({names}; delete {shown} to number anew)")
    return ", ".join(texts)

"""`annotations/label_map.pbtxt`: which number stands for which class, from 1; numbers never change hands."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.dataset import LabelError
from scripts.pictures.ledger import read_ledger
from scripts.pictures.stored import read_label, stored_labels
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_text
from scripts.pipeline.words import counted
from scripts.records.text_format import Field, TextFormatError, parse_text_format

LABEL_MAP = "annotations/label_map.pbtxt"
DRAWN = '# Classes of the drawn pictures (source.kind = "demo"). Another source numbers its classes anew.\n'
"""First line of a map that holds nothing of the user's; what does not begin with it is never renumbered."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class LabelMapCounts:
    """Classes in the map, how many are new in it, how many drawn ones left it, and which have no box in `images/`."""

    classes: int
    new: int
    without_boxes: tuple[str, ...] = ()
    removed: int = 0

    def __str__(self) -> str:
        texts = [counted(self.classes, "class", "classes")] + [f"{self.new:,} new"] * bool(self.new)
        texts += [counted(self.removed, "drawn class", "drawn classes") + " removed"] * bool(self.removed)
        if self.without_boxes:
            names = ", ".join(self.without_boxes[:3]) + ", ..." * (len(self.without_boxes) > 3)
            texts.append(
                f"{len(self.without_boxes):,} without boxes, kept ({names}; delete {LABEL_MAP} to number anew)"
            )
        return ", ".join(texts)


def _number(field: Field) -> int:
    try:
        return int(field.value, 0) if field.kind == "word" else 0
    except ValueError:
        return 0


def _item(item: Field) -> tuple[int, str]:
    """Id and name of one item, each given exactly once."""
    found = {}
    for key in ("id", "name"):
        fields = [field for field in item.value if field.name == key]
        if len(fields) != 1:
            line = fields[1].line if fields else item.line
            raise TextFormatError(f"item has {len(fields) or 'no'} '{key}', it needs exactly one", line)
        found[key] = fields[0]
    number, name = _number(found["id"]), found["name"]
    if number < 1:
        raise TextFormatError(
            f"id '{found['id'].value}' is not a number from 1 (0 is the background)", found["id"].line
        )
    if name.kind != "string" or not name.value:
        raise TextFormatError("name is not a text in quotes", name.line)
    return number, name.value


def parse_label_map(text: str) -> dict[int, str]:
    """Names by id, in the order of ids. TextFormatError with the line for everything that TensorFlow would garble."""
    ids, names = {}, {}
    for item in parse_text_format(text.removeprefix("\ufeff")):
        if item.name != "item":
            continue
        if item.kind != "message":
            raise TextFormatError("'item' is not followed by '{'", item.line)
        number, name = _item(item)
        if number in ids:
            raise TextFormatError(f"id {number} is already that of '{ids[number]}'", item.line)
        if name in names:
            raise TextFormatError(f"name '{name}' already has id {names[name]}", item.line)
        ids[number], names[name] = name, number
    return dict(sorted(ids.items()))


def read_label_map(path: Path) -> dict[int, str]:
    """`parse_label_map` of a file. DetectorError when it is missing, broken or empty."""
    where = f"{path.parent.name}/{path.name}"
    try:
        ids = parse_label_map(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"label map is missing: {where}: run `invoke labelmap`") from None
    except UnicodeDecodeError:
        raise DetectorError(f"label map is not UTF-8: {where}: save it as UTF-8") from None
    except TextFormatError as error:
        raise DetectorError(
            f"{error}: {where}:{error.line}: correct the line, or delete the file and run `invoke labelmap`"
        ) from None
    if not ids:
        raise DetectorError(f"label map has no item: {where}: delete it, then run `invoke labelmap`")
    return ids


def class_numbers(root: Path) -> dict[str, int]:
    """Numbers by name, from 0 as in `labels.txt`; none when the map is missing or broken. For colours only."""
    try:
        return {name: number - 1 for number, name in read_label_map(root / LABEL_MAP).items()}
    except DetectorError:
        return {}


def write_label_map(path: Path, ids: dict[int, str], heading: str = "") -> None:
    """Write names by id. `display_name` is always there: readers of TensorFlow look a class up in both."""
    items = []
    for number, name in sorted(ids.items()):
        quoted = "".join(_ESCAPES.get(letter, letter) for letter in name)
        items.append(f"item {{\n  id: {number}\n  name: '{quoted}'\n  display_name: '{quoted}'\n}}\n")
    write_text(path, heading + "\n".join(items))


def class_boxes(root: Path) -> Counter:
    """Boxes by class name over all label files of `images/`; unreadable ones are the business of `check`."""
    boxes, entries = Counter(), {entry["name"]: entry for entry in read_ledger(root)["pictures"]}
    for path in stored_labels(root):
        try:
            label, _ = read_label(path, entries.get(path.stem))
            boxes.update(box.class_name for box in label.boxes if box.class_name)
        except (LabelError, FileNotFoundError):
            continue
    return boxes


def _is_drawn(path: Path, ids: dict[int, str]) -> bool:
    """Whether the map was written for the demo source and holds nothing else."""
    from scripts.pictures.demo_scene import CLASSES

    begins = not path.exists() or path.read_text("utf-8-sig").startswith(DRAWN)
    return begins and set(ids.values()) <= set(CLASSES)


def build_label_map(root: Path, labels: list[str], demo: bool = False) -> LabelMapCounts:
    """Write the label map: an existing one keeps its ids, new classes are appended.

    New classes come in the order of `labels`, or sorted by name from `images/` when `labels` is empty. `demo`: the
    source is the demo. A map that holds its classes only is begun anew with the first other source: to keep
    `banana` at 2 because we drew bananas helps nobody.
    """
    path, boxes = root / LABEL_MAP, class_boxes(root)
    before = read_label_map(path) if path.exists() else {}
    drawn = _is_drawn(path, before)
    ids = {} if drawn and not demo else before
    wanted = list(labels) or sorted(boxes)
    if not wanted and not ids:
        raise DetectorError("no box has a class: images/: label some pictures, then `invoke labelmap`")
    start = max(ids, default=0) + 1
    fresh = [name for name in wanted if name not in set(ids.values())]
    merged = {**ids, **{start + index: name for index, name in enumerate(fresh)}}
    if merged != before or (drawn and not demo):  # the user's own layout and comments stay as long as nothing is new
        write_label_map(path, merged, DRAWN if demo and _is_drawn(path, merged) else "")
    names, known = set(merged.values()), set(before.values())
    without = tuple(name for name in merged.values() if not boxes[name])
    return LabelMapCounts(len(merged), len(names - known), without, len(known - names))

"""Pascal VOC label files: read by tag name, written in one canonical form.

What real files get wrong is passed on, not corrected: boxes as they stand (`nan` where there is no
number), and notes on everything else. Who reads them decides.
"""

import html
import math
import re
from pathlib import Path

from lxml import etree

from scripts.data.dataset import Box, LabelError, LabelFile, Labels, NotALabelError, Note

FLAGS = ("truncated", "difficult", "occluded", "group_of", "is_crowd")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE = {"1", "1.0", "true", "yes"}


# As `voc_xml` writes them: nothing between the tags but white space.
_WRITTEN_HEAD = re.compile(
    r"<filename(?:/>|>([^<]*)</filename>)\s*<size>\s*<width>(\d+)</width>\s*<height>(\d+)</height>\s*<depth>(\d+)<"
)
_WRITTEN_BOX = re.compile(
    r"<object>\s*<name(?:/>|>([^<]*)</name>)"
    + "".join(rf"\s*<{flag}>([01])</{flag}>" for flag in FLAGS)
    + r"\s*<bndbox>"
    + "".join(rf"\s*<{tag}>([^<]*)</{tag}>" for tag in _CORNERS)
)


def _parser() -> etree.XMLParser:
    # Label files come from strangers: no network, no entities, no huge trees.
    return etree.XMLParser(
        no_network=True, resolve_entities=False, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )


def _text(element, tag: str) -> str:
    child = element.find(tag) if element is not None else None
    return (child.text or "").strip() if child is not None else ""


def parse_number(text: str) -> tuple[float, bool]:
    """A coordinate and whether it was written with a decimal comma; `nan` when it is not a number.
    """
    comma = text.count(",") == 1 and "." not in text
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        return math.nan, False
    return (value, comma) if math.isfinite(value) else (math.nan, False)


def _side_px(text: str) -> int:
    value, _ = parse_number(text)
    return int(value) if value > 0 else 0


def _texts(element) -> dict[str, str]:
    """Stripped text by tag of the children, of the first where a tag is there twice."""
    texts = {}
    for child in element if element is not None else ():
        texts.setdefault(child.tag, (child.text or "").strip())
    return texts


def _box(element) -> tuple[Box, bool]:
    texts, corner_texts = _texts(element), _texts(element.find("bndbox"))
    corners = [parse_number(corner_texts.get(tag, "")) for tag in _CORNERS]
    flags = {flag: texts.get(flag, "").lower() in _TRUE for flag in FLAGS}
    flags["is_crowd"] |= texts.get("iscrowd", "").lower() in _TRUE
    box = Box(texts.get("name", ""), tuple(value for value, _ in corners), line=element.sourceline or 0, **flags)
    return box, any(comma for _, comma in corners)


def read_voc(path: Path) -> Labels:
    """Read a label file by tag name: any order, extra children, decimal values. `image` is its
    `<filename>`.

    LabelError when it is no well-formed xml, NotALabelError when its root is not `<annotation>`.
    """
    try:
        root = etree.fromstring(path.read_bytes(), _parser())
    except etree.XMLSyntaxError as error:
        raise LabelError(f"not well-formed xml: {error.msg or 'the file is empty'}", error.lineno or 0) from None
    except OSError as error:
        raise LabelError(f"cannot be opened: {error.strerror}") from None
    if root.tag != "annotation":
        raise NotALabelError(f"the root is <{root.tag}>, not <annotation>", root.sourceline or 0)
    pairs = [_box(element) for element in root.findall("object")]
    size = root.find("size")
    return Labels(
        boxes=tuple(box for box, _ in pairs),
        image=_text(root, "filename"),
        width_px=_side_px(_text(size, "width")),
        height_px=_side_px(_text(size, "height")),
        depth=_side_px(_text(size, "depth")),
        size_line=size.sourceline or 0 if size is not None else 0,
        notes=tuple(Note("R206", "coordinates with a decimal comma", box.line) for box, comma in pairs if comma),
    )


def read(path: Path) -> LabelFile:
    """`read_voc` as a reader of the registry: one entry, the image that is named as the file is."""
    return LabelFile(path, "voc", (read_voc(path),))


def read_written(data: bytes) -> Labels | None:
    """`read_voc` of bytes that `voc_xml` made, several times as fast; None where they look
    different after all."""
    text = data.decode("utf-8")
    head = _WRITTEN_HEAD.search(text)
    found = list(_WRITTEN_BOX.finditer(text))
    if head is None or len(found) != text.count("<object>"):
        return None
    boxes, line, at = [], 1, 0
    for match in found:
        line, at = line + text.count("\n", at, match.start()), match.start()
        name, truncated, difficult, occluded, group_of, is_crowd, *corners = match.groups()
        flags = (mark == "1" for mark in (difficult, truncated, occluded, group_of, is_crowd))
        boxes.append(Box(_plain(name), tuple(parse_number(each)[0] for each in corners), *flags, line))
    name, *sides = head.groups()
    size_line = text.count("\n", 0, text.index("<size>", head.start())) + 1
    return Labels(tuple(boxes), _plain(name), *map(int, sides), size_line=size_line)


def _plain(text: str | None) -> str:
    """The text between two tags; a tag without content has None."""
    return (html.unescape(text) if "&" in text else text).strip() if text else ""


def format_number(value: float) -> str:
    """The shortest text that reads back as the same number: `12`, `12.5`, `nan`."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


def _add(parent, tag: str, text: object = "") -> "etree._Element":
    child = etree.SubElement(parent, tag)
    if text != "":
        child.text = str(text)
    return child


def voc_xml(folder: str, filename: str, width_px: int, height_px: int, boxes: tuple[Box, ...]) -> bytes:
    """The canonical label file of one image; the same input always gives the same bytes."""
    root = etree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", filename)
    size = _add(root, "size")
    for tag, value in (("width", width_px), ("height", height_px), ("depth", 3)):
        _add(size, tag, value)
    for box in boxes:
        element = _add(root, "object")
        _add(element, "name", box.class_name)
        for flag in FLAGS:
            _add(element, flag, int(getattr(box, flag)))
        corners = _add(element, "bndbox")
        for tag, value in zip(_CORNERS, box.xyxy_px, strict=True):
            _add(corners, tag, format_number(value))
    etree.indent(root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"

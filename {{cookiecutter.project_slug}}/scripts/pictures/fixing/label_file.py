"""Edits of a Pascal VOC label file that leave everything else in it as it is: other tags, comments, line breaks."""

from lxml import etree

from scripts.pictures.dataset import Box
from scripts.pictures.formats.voc import format_number

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def edited_label(
    data: bytes,
    boxes: dict[int, Box | None],
    size: tuple[int, int] | None = None,
    filename: str | None = None,
) -> bytes:
    """The bytes of a label file with class and corners of some boxes replaced, by their place in the file.

    None drops a box. `size` is (width, height) in pixels, `filename` the name of the picture; None keeps them.
    """
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False, huge_tree=False)
    root = etree.fromstring(data, parser)
    objects = root.findall("object")
    for place, box in boxes.items():
        if box is None:
            objects[place].getparent().remove(objects[place])
            continue
        _set(objects[place], "name", box.class_name)
        for tag, value in zip(_CORNERS, box.xyxy_px, strict=True):
            _set(objects[place].find("bndbox"), tag, format_number(value), keep_equal=value)
    if size:
        for tag, side_px in zip(("width", "height"), size, strict=True):
            _set(root.find("size"), tag, str(side_px))
    if filename:
        _set(root, "filename", filename)
    return _bytes(root, data)


def _set(parent, tag: str, text: str, keep_equal: float | None = None) -> None:
    """Set the text of a child. A number that is already equal keeps its spelling (`12.0`)."""
    child = parent.find(tag) if parent is not None else None
    if child is None:
        return
    try:
        if keep_equal is not None and float(child.text) == keep_equal:
            return
    except (TypeError, ValueError):
        pass  # such as a decimal comma: written anew
    child.text = text


def _bytes(root, data: bytes) -> bytes:
    tree = root.getroottree()
    declared = b"<?xml" in data[:60] or data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = etree.tostring(tree, encoding=tree.docinfo.encoding or "UTF-8", xml_declaration=declared)
    return text + b"\n" if data.endswith(b"\n") and not text.endswith(b"\n") else text

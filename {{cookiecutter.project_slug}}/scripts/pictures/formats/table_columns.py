"""Which column of a table of boxes means what: by its name, in any order, with the usual other names."""

import re
from dataclasses import dataclass

from scripts.pictures.dataset import LabelError, NotALabelError

# Where a table has several of one row, the first counts. Compared in lower case without spaces, `_`, `-` and `.`.
_NAMES = {
    "picture": "filename imagename image file filepath imagepath path imagefile img imgname imgpath imageid".split(),
    "class": "classname labelname categoryname class label category objectclass object name".split(),
    "xmin": "xmin x1 left minx bboxxmin xleft".split(),
    "ymin": "ymin y1 top miny bboxymin ytop".split(),
    "xmax": "xmax x2 right maxx bboxxmax xright".split(),
    "ymax": "ymax y2 bottom maxy bboxymax ybottom".split(),
    "width": "width imagewidth imgwidth imwidth picturewidth".split(),
    "height": "height imageheight imgheight imheight pictureheight".split(),
    "difficult": "difficult isdifficult".split(),
    "truncated": "truncated istruncated".split(),
    "occluded": "occluded isoccluded".split(),
    "group_of": "groupof isgroupof".split(),
    "is_crowd": "iscrowd crowd".split(),
    "split": "split subset".split(),
}
_EDGES = ("xmin", "ymin", "xmax", "ymax")
# x, y, width and height of a box, where the names leave no doubt that x and y are its upper left corner.
_CORNER_AND_SIZE = (
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
    ("left", "top", "width", "height"),
)
# ... and where they do: a corner, or the centre?
_DOUBTFUL = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("xcenter", "ycenter", "width", "height"))


@dataclass(frozen=True)
class Columns:
    """The place of each column that was found, by its meaning.

    `xmin`, `ymin`, `xmax`, `ymax` are always there; with `sizes` the latter two are width and height of the box.
    `open_images` tells the box tables of Open Images, whose coordinates are shares of the picture.
    """

    places: dict[str, int]
    sizes: bool
    open_images: bool
    count: int

    def cell(self, row: list[str], meaning: str) -> str:
        """The text of a cell without white space around it; "" when the table or the row does not have it."""
        place = self.places.get(meaning, -1)
        return row[place].strip() if 0 <= place < len(row) else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name).casefold()


def find_columns(header: list[str]) -> Columns:
    """Find the columns of a header.

    NotALabelError when there are no boxes in the table, LabelError when its columns leave open what they mean.
    """
    where: dict[str, int] = {}
    for place, name in enumerate(header):
        where.setdefault(_plain(name), place)
    places = {
        meaning: next(where[name] for name in names if name in where)
        for meaning, names in _NAMES.items()
        if any(name in where for name in names)
    }
    sizes = False
    if not all(edge in places for edge in _EDGES):
        found = next((names for names in _CORNER_AND_SIZE if all(name in where for name in names)), None)
        if found is None:
            _refuse(header, where, "picture" in places and "class" in places)
        sizes = True
        places.update(zip(_EDGES, (where[name] for name in found), strict=True))
        for side, edge in (("width", "xmax"), ("height", "ymax")):
            if places.get(side) == places[edge]:
                del places[side]
    for meaning in ("picture", "class"):
        if meaning not in places:
            raise NotALabelError(f"not a table of boxes: no column for the {meaning} in '{_shown(header)}'", 1)
    open_images = "imageid" in where and "labelname" in where and "filename" not in where
    return Columns(places, sizes, open_images, len(header))


# Rows of tables without a header: the tutorial's columns, and those of keras-retinanet.
_HEADERLESS = {8: "filename width height class xmin ymin xmax ymax", 6: "filename xmin ymin xmax ymax class"}
_PICTURE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?)$", re.IGNORECASE)


def headerless_columns(row: list[str]) -> Columns | None:
    """The columns of a table whose first row is no header but a box, as two well-known tools write it; else None."""
    names = _HEADERLESS.get(len(row), "").split()
    if not names or not _PICTURE.search(row[0].strip()):
        return None
    numbers = [cell for name, cell in zip(names, row, strict=True) if name not in ("filename", "class")]
    if not all(re.fullmatch(r"\s*-?[0-9.]*\s*", cell) for cell in numbers):
        return None
    return find_columns(names)


def _shown(header: list[str]) -> str:
    text = ",".join(header)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse(header: list[str], where: dict[str, int], names_pictures: bool) -> None:
    doubtful = next((names for names in _DOUBTFUL if all(name in where for name in names)), None)
    if doubtful and names_pictures:
        names = ", ".join(header[where[name]] for name in doubtful)
        raise LabelError(f"columns {names}: a corner or the centre of the box? Write xmin, ymin, xmax, ymax", 1)
    raise NotALabelError(f"not a table of boxes: no columns xmin, ymin, xmax, ymax in '{_shown(header)}'", 1)

"""Defects to plant into a clean set of images with Pascal VOC label files: what people and tools
really do wrong."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance

ORIENTATION = 0x0112
BOX = re.compile(
    r"(<xmin>)(.*?)(</xmin>\s*<ymin>)(.*?)(</ymin>\s*<xmax>)(.*?)(</xmax>\s*<ymax>)(.*?)(</ymax>)",
    re.DOTALL
)
ONE_OBJECT = re.compile(r"\s*<object>.*?</object>", re.DOTALL)


@dataclass
class Spot:
    """One image of the set, its label file, and a copy's place in another split."""

    image: Path
    other: Path

    @property
    def label(self) -> Path:
        """The label file beside the image."""
        return self.image.with_suffix(".xml")

    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(self.image) as image:
            return image.size

    def text(self) -> str:
        """The label file."""
        return self.label.read_text("utf-8")

    def sub(self, pattern: str, new: str) -> None:
        """Replace the first match in the label file; it has to be there."""
        text, count = re.subn(pattern, new, self.text(), count=1, flags=re.DOTALL)
        assert count, (self.label, pattern)
        self.label.write_text(text, "utf-8")

    def corners(self, change: Callable) -> None:
        """Replace the corners of the first box: `change` takes (xmin, ymin, xmax, ymax) and (width,
        height)."""
        found = BOX.search(self.text())
        old = [float(found[group]) for group in (2, 4, 6, 8)]
        new = [str(value) for value in change(*old, *self.size())]
        text = BOX.sub(
            lambda m: "".join(
                map("{}".format, (m[1], new[0], m[3], new[1], m[5], new[2], m[7], new[3], m[9]))),
            self.text(),
            count=1,
        )
        self.label.write_text(text, "utf-8")

    def resave(self, form: str, **options) -> None:
        """Write the image in another format under its old name."""
        with Image.open(self.image) as image:
            buffer = io.BytesIO()
            image.convert(options.pop("mode", "RGB")).save(buffer, form, **options)
        self.image.write_bytes(buffer.getvalue())

    def resave_beside(self, suffix: str) -> None:
        """Write the image upside down under the same name with another ending."""
        with Image.open(self.image) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(self.image.with_suffix(suffix))

    def copy_to(self, image: Path, brightness: float = 1.0) -> None:
        """Put a copy with its label file elsewhere, byte for byte unless it is made brighter."""
        image.write_bytes(self.image.read_bytes())
        image.with_suffix(".xml").write_text(
            self.text().replace(self.image.name, image.name), "utf-8")
        if brightness != 1.0:
            with Image.open(self.image) as opened:
                ImageEnhance.Brightness(opened).enhance(brightness).save(image, quality=80)


@dataclass(frozen=True)
class Kind:
    """A defect: the code that names it, whether image or label file is the place, and how it is
    made.

    `also` are codes that are right to appear beside it.
    """

    name: str
    code: str
    place: str
    plant: Callable[[Spot], None]
    also: tuple[str, ...] = ()


def _turn(spot: Spot, orientation: int) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    spot.resave("JPEG", exif=tags, quality=90)


def _crowd(spot: Spot) -> None:
    width, height = spot.size()
    cells = [(x, y) for x in range(12) for y in range(10)]
    first = ONE_OBJECT.search(spot.text())[0]
    objects = []
    for x, y in cells:
        corners = (
            x * width / 12 + 1, y * height / 10 + 1, (x + 1) * width / 12, (y + 1) * height / 10)
        values = dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        objects.append(
            re.sub(r"<(xmin|ymin|xmax|ymax)>.*?<",
                   lambda m, values=values: f"<{m[1]}>{values[m[1]]:.2f}<", first)
        )
    spot.label.write_text(
        ONE_OBJECT.sub("", spot.text()).replace(
            "</annotation>", "".join(objects) + "</annotation>"), "utf-8"
    )


def _double(spot: Spot) -> None:
    first = ONE_OBJECT.search(spot.text())[0]
    shifted = re.sub(r"<xmax>(.*?)<", lambda m: f"<xmax>{float(m[1]) - 0.6}<", first)
    spot.label.write_text(spot.text().replace("</annotation>", shifted + "</annotation>"), "utf-8")


def _duplicate(spot: Spot, change: bool) -> None:
    copy = spot.image.with_name(spot.image.stem + "_copy.jpg")
    spot.copy_to(copy)
    if change:
        Spot(copy, copy).corners(lambda a, b, c, d, w, h: (a + 4, b + 4, c, d))


def _first(*values: str | None) -> Callable[[Spot], None]:
    """Corners with some replaced by texts."""

    def change(*corners):
        return [
            new if new is not None else old for new, old in zip(values, corners[:4], strict=True)]

    return lambda spot: spot.corners(change)


def _outside(share: float) -> Callable[[Spot], None]:
    return lambda spot: spot.corners(lambda a, b, c, d, w, h: (a, b, w * (1 + share), d))


KINDS = (
    Kind("inverted corners", "E003", "label",
         lambda s: s.corners(lambda a, b, c, d, w, h: (c, b, a, d))),
    Kind("far outside the image", "E005", "label", _outside(0.5)),
    Kind("slightly outside", "E005", "label", _outside(0.02)),
    Kind("negative corner", "E005", "label", _first("-2", None, None, None)),
    Kind("no area", "E004", "label", lambda s: s.corners(lambda a, b, c, d, w, h: (a, b, a, d))),
    Kind("half a pixel wide", "E004", "label",
         lambda s: s.corners(lambda a, b, c, d, w, h: (a, b, a + 0.5, d))),
    Kind("coordinate nan", "E008", "label", _first("nan", None, None, None)),
    Kind("coordinate empty", "E008", "label", _first(None, "", None, None)),
    Kind("coordinate a word", "E008", "label", _first(None, None, "left", None)),
    Kind("coordinate tag missing", "E008", "label", lambda s: s.sub(r"<ymax>.*?</ymax>", "")),
    Kind("class misspelt", "E001", "label",
         lambda s: s.sub(r"<name>(.)(.)(.*?)</name>", r"<name>\1\2\2\3</name>")),
    Kind(
        "class in capitals",
        "E001",
        "label",
        lambda s: s.sub(
            r"<name>.*?</name>",
            re.search("<name>.*?</name>", s.text())[0].upper().replace("NAME", "name")
        ),
    ),
    Kind("class of another set", "E001", "label",
         lambda s: s.sub(r"<name>.*?</name>", "<name>dog</name>")),
    Kind("box without a name", "E021", "label", lambda s: s.sub(r"<name>.*?</name>", "")),
    Kind("EXIF turn 6", "E007", "image", lambda s: _turn(s, 6)),
    Kind("EXIF turn 3", "E007", "image", lambda s: _turn(s, 3)),
    Kind("truncated JPEG", "E010", "image",
         lambda s: s.image.write_bytes(s.image.read_bytes()[:-300])),
    Kind("empty file", "E010", "image", lambda s: s.image.write_bytes(b"")),
    Kind("a web page named .jpg", "E010", "image",
         lambda s: s.image.write_text("<html>404 not found</html>")),
    Kind(
        "HEIC named .jpg",
        "E010",
        "image",
        lambda s: s.image.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)),
    ),
    Kind("WebP named .jpg", "R204", "image", lambda s: s.resave("WEBP")),
    Kind("PNG named .jpg", "R203", "image", lambda s: s.resave("PNG")),
    Kind("gray image", "R210", "image", lambda s: s.resave("JPEG", mode="L")),
    Kind("CMYK image", "R210", "image", lambda s: s.resave("JPEG", mode="CMYK")),
    Kind("declared size 0", "R201", "label",
         lambda s: s.sub(r"<width>.*?</width>", "<width>0</width>")),
    Kind("declared size wrong", "R202", "label",
         lambda s: s.sub(r"<width>(.*?)</width>", r"<width>1\1</width>")),
    Kind("decimal comma", "R206", "label", _first("3,5", None, None, None)),
    Kind(
        "<filename> of another",
        "R208",
        "label",
        lambda s: s.sub(r"<filename>.*?</filename>", "<filename>IMG_1.jpg</filename>"),
    ),
    Kind("in two splits", "E011", "image", lambda s: s.copy_to(s.other)),
    Kind("nearly in two splits", "W113", "image", lambda s: s.copy_to(s.other, brightness=1.02)),
    Kind("twice, boxes differ", "W107", "label", lambda s: _duplicate(s, True)),
    Kind("twice, boxes equal", "R207", "image", lambda s: _duplicate(s, False)),
    Kind("label file missing", "E012", "image", lambda s: s.label.unlink()),
    Kind("image missing", "E009", "label", lambda s: s.image.unlink()),
    Kind("label file cut off", "E019", "label",
         lambda s: s.label.write_text(s.text()[:-40], "utf-8")),
    Kind("label file empty", "E019", "label", lambda s: s.label.write_text("")),
    Kind("two images of one name", "E020", "label", lambda s: s.resave_beside(".png")),
    Kind("more than 100 boxes", "E014", "label", _crowd, ("W102",)),
    Kind("doubled box", "W115", "label", _double),
    Kind("box over all", "W114", "label",
         lambda s: s.corners(lambda a, b, c, d, w, h: (0, 0, w, h)), ("W115",)),
)

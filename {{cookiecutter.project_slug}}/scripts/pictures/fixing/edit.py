"""One edit of a file in `images/`, and all edits of one picture."""

from dataclasses import dataclass, field

from scripts.pictures.dataset import Box
from scripts.pictures.stored import Stored


@dataclass(frozen=True)
class Edit:
    """What is changed at one place: the finding it answers, the place, and the value before and after.

    `before` and `after` are what goes into `annotations/fixes.json`: corners as a list, a name, a size, a format; None
    is a box that is dropped. `text` is the same for a person. `shown_line` is the line that the finding names.
    """

    code: str
    file: str
    line: int
    class_name: str
    before: object
    after: object
    text: str
    shown_line: int = 0

    def as_json(self) -> dict:
        """The form of `annotations/fixes.json`."""
        named = {"code": self.code, "file": self.file, "line": self.line, "class": self.class_name}
        return {**named, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}  {self.code}  {self.text}"


@dataclass
class PicturePlan:
    """All edits of one picture and its label file.

    `boxes` are the new boxes by their place in the label file, None for one to drop; `size` and `filename` the new
    values of these tags (None: kept); `picture` is what happens to the picture itself: "", `encode`, `turn`, `untag`.
    """

    stored: Stored
    edits: list[Edit] = field(default_factory=list)
    boxes: dict[int, Box | None] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    filename: str | None = None
    picture: str = ""

"""The catalog of everything that can be wrong with labeled images: one code each, never reused.

E codes stop the pipeline unless `check.accept` names them, W codes do not stop it, R codes are what
`organize` has repaired without loss. A finding points to the file and line that a person would
correct.
"""

import difflib
import textwrap
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass

from scripts.core.text import DetectorError, counted
from scripts.data.explanations import EXPLANATIONS

SEVERITIES = {"E": "error", "W": "warning", "R": "repaired"}


@dataclass(frozen=True)
class Code:
    """One kind of finding: its code, what it is in a few words, and what to do about it."""

    code: str
    title: str
    fix: str

    @property
    def severity(self) -> str:
        """`error`, `warning` or `repaired`, from the letter of the code."""
        return SEVERITIES[self.code[0]]


@dataclass(frozen=True)
class Finding:
    """One place where something is wrong.

    `line` 0: no line; `image` is the file name in `images/` that it is about ("": none).
    """

    code: str
    severity: str
    file: str
    line: int
    class_name: str
    message: str
    fix: str
    image: str = ""

    def as_json(self) -> dict:
        """The form of `annotations/check.json`, where `class_name` is called `class`."""
        values = asdict(self)
        values["class"] = values.pop("class_name")
        del values["image"]
        return {key: values[key] for key in ("code", "severity", "file", "line", "class", "message", "fix")}


_CODES = (
    Code("E001", "class is not in source.labels", "correct the name, or add it to source.labels"),
    Code("E002", "class without boxes in a split", "label more images of it, or move some between the splits"),
    Code("E003", "box is inverted", "swap its corners in the label file"),
    Code("E004", "box is smaller than check.min_box_px", "delete the box or draw it anew"),
    Code("E005", "box is outside the image", "draw it anew; the size or the EXIF turn of the image may be wrong"),
    Code("E006", "size in the label file is not the image's", "correct <size>; look whether the boxes fit"),
    Code(
        "E007",
        "image carries an EXIF turn",
        'set source.exif = "displayed" if the boxes were drawn on the upright view, "stored" if on the file as it is',
    ),
    Code("E008", "coordinate is not a number", "correct the number or delete the box"),
    Code("E009", "labels without their image", "add the image, or delete its label file or entry"),
    Code("E010", "image cannot be read", "replace the image, or delete it with its label file"),
    Code("E011", "same image in two splits", "delete it from one of them: its score would be a memory, not a test"),
    Code(
        "E012",
        "image without a label file",
        'label it; for those of the source also: source.unlabeled = "negative" (shows none of the classes) or "skip"',
    ),
    Code(
        "E014",
        "more boxes in an image than a model finds",
        "cut the image into parts; or accept it: the boxes are used in training, the score is held down",
    ),
    Code("E019", "label file cannot be read", "correct or delete the label file"),
    Code("E020", "several files fit one name", "keep one of them"),
    Code("E021", "box without a class", "write its <name>"),
    Code(
        "E022",
        "image in images/ is neither JPEG nor PNG",
        "move it to the source, from where organize writes it as one, or save it as one",
    ),
    Code("W101", "classes are out of balance", "label more of the rare classes, or expect less of them"),
    Code(
        "W102", "many boxes are tiny for the model", "choose a model.id with a larger input, or cut images into parts"
    ),
    Code("W103", "many boxes are marked as not to be learned or scored", "look whether the marks are meant"),
    Code(
        "W104",
        "little background to learn from",
        'advice: add some images that show none of the classes (source.unlabeled = "negative")',
    ),
    Code("W105", "author or license is not known", "look it up before you publish the images or the model"),
    Code("W107", "same image twice with different boxes", "delete the image whose boxes are worse, with its .xml"),
    Code("W108", "class names that differ only by case or spaces", "write the name in one way"),
    Code(
        "W109", "declared size contradicts source.exif", "look at the image with its boxes, then choose source.exif"
    ),
    Code(
        "W110",
        "image is in another split than its folder says",
        "to follow the folders now, delete images/train, images/validation, images/test and annotations/split.csv",
    ),
    Code("W111", "file is no label file that is read", "nothing to do, if it is not meant to be one"),
    Code("W112", "same image twice in one split", "delete one of them in images/, with its .xml"),
    Code(
        "W113",
        "nearly the same image in two splits",
        'delete one of them, or let split.mode = "hash" deal the images: the score may be a memory',
    ),
    Code(
        "W114",
        "box covers the whole image",
        "look at it: draw the object, or leave it if it really fills the image",
    ),
    Code("W115", "two boxes of one class on the same thing", "delete one of them"),
    Code(
        "W116",
        "class numbers without names",
        "yolo: write classes.txt beside the label files, one name a line, line 1 = number 0, or data.yaml with "
        "`names:`; coco: add it to `categories`; Open Images: put class-descriptions-boxable.csv beside the table",
    ),
    Code("W117", "several annotations of one task", "delete all but one of them in Label Studio, then export again"),
    Code("W118", "something in a label file is not read", "label it anew with a box, if it matters"),
    Code("W119", "coordinates read as shares of the image", "nothing to do, if the boxes fit: invoke preview"),
    Code(
        "W120",
        "empty label file of OIDv4_ToolKit",
        "label the image, or delete both, unless it shows none of the classes",
    ),
    Code("R201", "size was missing or 0", "nothing to do: taken from the image"),
    Code("R202", "size was wrong", "nothing to do, if the boxes fit: taken from the image"),
    Code("R203", "extension did not match the content", "nothing to do: the copy in images/ has the right one"),
    Code("R204", "image was re-encoded", "nothing to do: TensorFlow does not read the original"),
    Code("R205", "image was turned upright", "nothing to do: the copy in images/ has no EXIF turn"),
    Code("R206", "decimal comma", "nothing to do: read as a point"),
    Code("R207", "same image twice with the same boxes", "nothing to do: kept once"),
    Code("R208", "<filename> named another file", "nothing to do: paired by the name of the label file"),
    Code("R209", "labeled twice with the same boxes", "nothing to do: kept once"),
    Code("R210", "image is not in RGB", "nothing to do: gray, palette and transparent images are read as RGB"),
    Code("R211", "depth in the label file is not 3", "nothing to do: training reads every image as RGB"),
    Code("R212", "box past the border by rounding", "nothing to do: its corner was put on the border"),
    Code("R213", "polygon or turned box", "nothing to do: the upright box around it is taken"),
    Code("R214", "image found under another name", "nothing to do, if it is the right one"),
    Code("R215", "copies with labels of one class each", "nothing to do: one image with the boxes of all"),
    Code("R216", "nearly the same images", "nothing to do: they are kept in one split"),
    Code("R217", "image file was damaged at its end", "nothing to do, if the image looks right: written anew"),
)
CATALOG = {code.code: code for code in _CODES}


def require_known_code(code: str, where: str, advice: str) -> None:
    """DetectorError with the nearest code when `code` does not exist."""
    if code not in CATALOG:
        near = (difflib.get_close_matches(code.upper(), CATALOG, n=1, cutoff=0.0) or [""])[0]
        raise DetectorError(f"'{code}' is no code, the nearest is '{near}': {where}: {advice}")


def finding(code: str, file: str, message: str, line: int = 0, class_name: str = "", image: str = "") -> Finding:
    """A finding of the catalog. `file` is the path as the user knows it; unknown codes are a
    KeyError."""
    entry = CATALOG[code]
    return Finding(code, entry.severity, file, line, class_name, message, entry.fix, image)


# Findings as text for people: one block a code, the worst first.

REPORT = "annotations/check.json"
_SHOWN = 5
_SHOWN_OF_MANY = 2
_MANY_CODES = 8
"""With more codes than this, fewer places of each are shown, so that all codes fit a screen or two.
"""


def findings_table(findings: list[Finding], accept: Collection[str]) -> str:
    """Code, severity, count, title, what to do, then the first places. Errors in `accept` are shown
    as accepted.

    Places are `file:line` as in `check.json`. What was repaired has no places: there is nothing to
    look at.
    """
    by_code = defaultdict(list)
    for one in findings:
        by_code[one.code].append(one)
    telling = sum(same[0].severity != "repaired" for same in by_code.values())
    shown = _SHOWN if telling <= _MANY_CODES else _SHOWN_OF_MANY
    lines = []
    for code in sorted(by_code, key=lambda code: ("EWR".index(code[0]), code)):
        same, entry = by_code[code], CATALOG[code]
        severity = "accepted" if code in accept and entry.severity == "error" else entry.severity
        lines.append(f"{code}  {severity:<8}  {len(same):>5,}  {entry.title}: {entry.fix}")
        if severity == "repaired":
            continue
        lines += [f"      {_place(one)}  {one.message}" for one in same[:shown]]
        lines += [f"      ... {len(same) - shown:,} more in {REPORT}"] if len(same) > shown else []
    return "\n".join(lines)


def _place(one: Finding) -> str:
    return f"{one.file}:{one.line}" if one.line else one.file


# Which images of `images/` the findings of `annotations/check.json` are about.


# The text of `invoke check --explain E005`, and the list of all codes.

_WIDTH = 100
_INDENT = 11


def explain(code: str) -> str:
    """What a code means and what can be done about it; "" lists all. DetectorError for one that
    does not exist."""
    code = code.strip().upper()
    if not code:
        return list_codes()
    require_known_code(code, "invoke check --explain", "type it, or no code for the list of all")
    entry, text = CATALOG[code], EXPLANATIONS[code]
    lines = [f"{code}  {entry.severity}  {entry.title}", "", textwrap.fill(text.why, _WIDTH), ""]
    lines.append(_part("to do", entry.fix))
    if entry.severity != "repaired":
        lines.append(_part("--fix", text.fixing or "leaves it: only a person can decide"))
    if entry.severity == "error":
        lines.append(_part("accept", f'check.accept = ["{code}"]: {text.accepting}'))
    return "\n".join(lines)


def _part(name: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"{name:<{_INDENT}}", subsequent_indent=" " * _INDENT)


def list_codes() -> str:
    """All codes with what they are, one a line; a star marks those that `--fix` repairs."""
    stars = {code: "*" if EXPLANATIONS[code].fixing else " " for code in CATALOG}
    lines = [f"{code}{stars[code]}  {entry.severity:<8}  {entry.title}" for code, entry in sorted_codes()]
    return "\n".join(
        [*lines, "", "* `invoke check --fix` repairs what is safe. More of one: invoke check --explain E005"]
    )


def sorted_codes() -> list[tuple[str, Code]]:
    """The catalog, errors first."""
    return sorted(CATALOG.items(), key=lambda pair: ("EWR".index(pair[0][0]), pair[0]))


def left_text(errors: Collection[Finding]) -> str:
    """Why `--fix` left these errors, a line a code; files that are not in `images/` are out of its
    reach."""
    lines = []
    for code, _ in sorted_codes():
        same = [one for one in errors if one.code == code]
        away = sum(not one.image and not one.file.startswith("images") for one in same)
        if not same:
            continue
        reasons = []
        if len(same) > away:
            reasons.append(EXPLANATIONS[code].fixing or "only a person can decide")
        if away:
            reasons.append(f"{counted(away, 'file')} of the source, left out of images/: correct them there")
        lines.append(f"{code} x {len(same):,}: {'; '.join(reasons)}")
    return "left as they are (what --fix does with such, and did not apply here):\n  " + "\n  ".join(lines)

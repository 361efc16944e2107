"""Images of `images/` with their boxes on one sheet, to be looked at: `invoke preview`."""

import difflib
import json
import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scripts.core.files import replacing, sha256_file
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.dataset import SPLITS, Box, LabelError, Labels
from scripts.data.drawing import TILE_GREY, contact_sheet, draw_detections, text_tile
from scripts.data.findings import CATALOG, REPORT
from scripts.data.formats.voc import read_voc
from scripts.data.image_files import open_shrunk
from scripts.data.manifest import entries_by_name, read_manifest, stored_images
from scripts.data.source import IMAGE_SUFFIXES

TILE_PX, LETTERS_PX = 360, 13
COLUMNS = 6
MOST_TILES = 600  # a sheet of 36,000 px height; most viewers show no higher one
CROWD = 12  # boxes in one image; the names of more would hide what is in them
_FARTHEST = 0.5  # of a side: how far outside the image a box is still drawn where it is
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class PreviewCounts:
    """The sheet, and how many of how many images are on it."""

    out: str
    shown: int
    of: int
    what: str = ""

    def __str__(self) -> str:
        return f"{self.out}: {self.shown:,} of {counted(self.of, self.what + 'image')}"


def preview(
    root: Path, out: Path, count: int, flagged: str | bool, split: str, seed: int, ids: dict[str, int]
) -> PreviewCounts:
    """Draw `count` images of `images/` with their boxes, as they are stored, on one sheet, and
    write it to `out`.

    `flagged` True: those that findings of `annotations/check.json` are about, errors first; a code:
    its findings only. `split` "" means all. `ids` are colors by class name, from 0; other classes
    follow as they are met. DetectorError for arguments that mean nothing, and when there is no
    image to show.
    """
    _refuse(root, out, count, flagged, split)
    stored = {key: path for key, path in stored_images(Layout(root).images).items() if not split or path.parent.name == split}
    rows = {}
    if flagged:
        wanted = [row for row in read_findings(root) if flagged is True or row["code"] == flagged]
        rows = {key: found for key, found in findings_by_image(root, wanted).items() if key in stored
                or (Path(key).suffix.lower() in IMAGE_SUFFIXES and not split)}  # fmt: skip
    keys = list(rows if flagged else stored)
    if not keys:
        raise _nothing(flagged, split)
    chosen = _choose(keys, rows, count, seed)
    sheet = _Sheet(root, ids)
    tiles = [sheet.tile(key, stored.get(key), rows.get(key, [])) for key in chosen]
    image = contact_sheet([tile for tile, _ in tiles], [text for _, text in tiles], columns_for(len(tiles)), TILE_PX)
    with replacing(out) as temporary:
        image.save(temporary, "PNG")
    shown = out.relative_to(root) if out.is_relative_to(root) else out
    return PreviewCounts(shown.as_posix(), len(tiles), len(keys), "flagged " if flagged else "")


def _refuse(root: Path, out: Path, count: int, flagged: str | bool, split: str) -> None:
    if not 1 <= count <= MOST_TILES:
        raise DetectorError(f"{count} images do not fit one sheet: --count: give 1 to {MOST_TILES}")
    if split and split not in SPLITS:
        near = (difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.0) or [""])[0]
        raise DetectorError(f"'{split}' is no split: --split: the nearest is '{near}'")
    if isinstance(flagged, str) and flagged and flagged not in CATALOG:
        near = (difflib.get_close_matches(flagged.upper(), CATALOG, n=1, cutoff=0.0) or [""])[0]
        raise DetectorError(f"'{flagged}' is no code: --flagged: the nearest is '{near}'")
    if out.suffix.lower() != ".png" or out.is_dir():
        raise DetectorError(f"'{out.name}' is no name for a PNG file: --out: give one, such as annotations/preview.png")
    if out.resolve().parent in [(root / "images" / each).resolve() for each in SPLITS]:
        raise DetectorError(f"the sheet would be an image to train on: --out {out}: name a file outside images/")


def _nothing(flagged: str | bool, split: str) -> DetectorError:
    where = f"images/{split}" if split else "images"
    if flagged:
        what = "finding" if flagged is True else f"{flagged} finding"
        return DetectorError(f"no {what} is about a single image of {where}: annotations/check.json: nothing to draw")
    return DetectorError(f"there are no images: {where}: run `invoke organize`")


def _choose(keys: list[str], rows: dict[str, list[dict]], count: int, seed: int) -> list[str]:
    """Random keys in their order; of flagged ones those with errors before warnings before repairs.
    """
    mixed = random.Random(seed).sample(keys, len(keys))
    mixed.sort(key=lambda key: min(("EWR".index(row["code"][0]) for row in rows.get(key, [])), default=0))
    chosen = set(mixed[:count])
    return [key for key in keys if key in chosen]


def columns_for(tiles: int) -> int:
    """How many columns a sheet of so many tiles gets."""
    return max(1, min(COLUMNS, math.ceil(math.sqrt(tiles))))


class _Sheet:
    """Makes tiles; a class has one color on all of them."""

    def __init__(self, root: Path, ids: dict[str, int]):
        self.root, self.ids = root, dict(ids)
        self.entries = entries_by_name(read_manifest(Layout(root).manifest))

    def tile(self, key: str, path: Path | None, rows: list[dict]) -> tuple[Image.Image, str]:
        """One image with its boxes and its caption; a gray tile with the reason when it cannot be
        shown."""
        codes = Counter(row["code"] for row in rows)
        caption = " ".join([*(f"{code} x{n}" if n > 1 else code for code, n in sorted(codes.items())), key])
        if path is None:
            return text_tile(f"left out: {rows[0]['message']}", TILE_PX), caption
        try:
            image, size_px = open_shrunk(path, 2 * TILE_PX)
        except ValueError as error:
            return text_tile(f"cannot be read: {error}", TILE_PX), caption
        label, problem = _label_of(path)
        boxes = self._rows(path, label, size_px, rows) if label else []
        return drawn_tile(image, size_px, boxes), caption + problem

    def _rows(self, path: Path, label: Labels, size_px: tuple[int, int], findings: list[dict]) -> list[dict]:
        """Boxes as `draw_detections` takes them, with what is wrong with each."""
        entry = self.entries.get(path.stem)
        as_written = entry and sha256_file(path.with_suffix(".xml")) == entry.get("xml_sha256")
        lines = entry["lines"] if as_written else [box.line for box in label.boxes]
        # A json in one line says "line 1" of every box: then only the caption knows.
        codes = {row["line"]: row["code"] for row in findings if lines.count(row["line"]) == 1}
        rows = []
        for box, line in zip(label.boxes, lines, strict=False):
            edges_px, note = visible_edges_px(box, size_px)
            note = " ".join(filter(None, [codes.get(line, ""), note]))
            class_id = self.ids.setdefault(box.class_name, max(self.ids.values(), default=-1) + 1)
            rows.append({"class": box.class_name or "(no name)", "class_id": class_id, "score": None,
                         "box_xyxy_px": edges_px, "note": note})  # fmt: skip
        return rows if len(rows) <= CROWD else _few_names(rows)


def _few_names(rows: list[dict]) -> list[dict]:
    """Boxes of a crowded image with the name on the first of each class only, and on those with a
    note."""
    seen = set()
    return [
        row if row["note"] or not (row["class"] in seen or seen.add(row["class"])) else {**row, "class": ""}
        for row in rows
    ]


def _label_of(path: Path) -> tuple[Labels | None, str]:
    """The label file beside an image, and what to say in the caption when there is nothing to draw.
    """
    if not path.with_suffix(".xml").exists():
        return None, " (no label file)"
    try:
        label = read_voc(path.with_suffix(".xml"))
    except LabelError as error:
        return None, f" (label file: {error})"
    return label, "" if label.boxes else " (no boxes)"


def visible_edges_px(box: Box, size_px: tuple[int, int]) -> tuple[tuple[float, float, float, float], str]:
    """Edges of a box in the right order, none of them missing, and what was wrong with them ("":
    nothing).

    A missing edge becomes that of the image. What lies far outside is drawn nearer, so that it is
    seen at all.
    """
    whole = (0.0, 0.0, float(size_px[0]), float(size_px[1]))
    missing = [f"{name}?" for name, value in zip(_CORNERS, box.xyxy_px, strict=True) if not math.isfinite(value)]
    edges = [value if math.isfinite(value) else side for value, side in zip(box.xyxy_px, whole, strict=True)]
    notes = missing
    if edges[0] > edges[2] or edges[1] > edges[3]:
        notes = [*notes, "inverted"]
    left, right = sorted((edges[0], edges[2]))
    top, bottom = sorted((edges[1], edges[3]))
    if left == right or top == bottom:
        notes = [*notes, "no area"]
    if left < 0 or top < 0 or right > size_px[0] or bottom > size_px[1]:
        notes = [*notes, "outside"]
    near = [
        min(max(value, -_FARTHEST * side), (1 + _FARTHEST) * side)
        for value, side in zip((left, top, right, bottom), size_px * 2, strict=True)
    ]
    return tuple(near), " ".join(notes)


def drawn_tile(image: Image.Image, size_px: tuple[int, int], boxes: list[dict]) -> Image.Image:
    """An image, perhaps shrunk, in a tile with boxes in pixels of `size_px`; a gray margin where
    they leave it."""
    edges = [box["box_xyxy_px"] for box in boxes]
    left, top = (-min([0, *(edge[at] for edge in edges)]) for at in (0, 1))
    right, bottom = (max([0, *(edge[at + 2] - size_px[at] for edge in edges)]) for at in (0, 1))
    wide, high = size_px[0] + left + right, size_px[1] + top + bottom
    scale = TILE_PX / max(wide, high)
    tile = Image.new("RGB", (max(1, round(wide * scale)), max(1, round(high * scale))), TILE_GREY)
    inner = tuple(max(1, round(side * scale)) for side in size_px)
    tile.paste(image.resize(inner, Image.Resampling.LANCZOS), (round(left * scale), round(top * scale)))
    shift = (left, top, left, top)
    moved = [
        {**box, "box_xyxy_px": [(value + by) * scale for value, by in zip(box["box_xyxy_px"], shift, strict=True)]}
        for box in boxes
    ]
    return draw_detections(tile, moved, LETTERS_PX)


_NAMED = re.compile(r"'(.+?)': ")


_SAME = ("code", "file", "line", "message")



def read_findings(root: Path) -> list[dict]:
    """The findings of `check.json`. DetectorError when it is missing or broken."""
    try:
        return json.loads((root / REPORT).read_text("utf-8"))["findings"]
    except FileNotFoundError:
        problem = "the report is missing"
    except (ValueError, KeyError, TypeError):
        problem = "the report is not readable"
    raise DetectorError(f"{problem}: {REPORT}: run `invoke check`")



class _Places:
    """From the file and line of a finding to an image of `images/`, `SPLIT/NAME.jpg`."""

    def __init__(self, root: Path):
        manifest = read_manifest(Layout(root).manifest)
        # An image that the user moved to another split is found by its name.
        self.by_stem = {Path(key).stem: key for key in stored_images(Layout(root).images)}
        self.by_file, self.by_line, self.by_name = defaultdict(set), defaultdict(set), defaultdict(set)
        for entry in manifest["images"]:
            key = self.by_stem.get(entry["name"])
            if key:
                self.by_file[entry["source"]].add(key)
                self.by_file[entry["label"]].add(key)
                self.by_name[entry["label"], entry["source"].rpartition("/")[2]].add(key)
                for line in entry["lines"]:
                    self.by_line[entry["label"], line].add(key)
        for row in manifest["findings"]:
            if row.get("image"):
                self.by_line[_identity(row)].add(self.by_stem.get(Path(row["image"]).stem, ""))

    def of(self, row: dict) -> str:
        """The image of a finding, "" when it is about none of `images/` or not about a single one.
        """
        folder, _, name = row["file"].rpartition("/")
        if folder in ("images/train", "images/validation", "images/test"):
            return self.by_stem.get(Path(name).stem, "")
        for found in (self.by_line.get(_identity(row)), self.by_file.get(row["file"])):
            if found and len(found) == 1:
                return next(iter(found))
        # One label file of many images: the line tells, or the name that the message begins with.
        named = _NAMED.match(row["message"])
        lined = self.by_line.get((row["file"], row["line"])) if row["line"] else None
        for found in (lined, named and self.by_name.get((row["file"], named.group(1)))):
            if found and len(found) == 1:
                return next(iter(found))
        return ""



def _identity(row: dict) -> tuple:
    return tuple(row[key] for key in _SAME)



def findings_by_image(root: Path, rows: list[dict]) -> dict[str, list[dict]]:
    """Findings by image of `images/` (`SPLIT/NAME.jpg`); those about none of them under the file
    they name."""
    places, found = _Places(root), defaultdict(list)
    for row in rows:
        found[places.of(row) or row["file"]].append(row)
    return dict(found)

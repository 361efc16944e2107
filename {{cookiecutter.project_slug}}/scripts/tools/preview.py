"""`invoke preview`: images of `images/` with their boxes on one sheet, to be looked at."""

import json
import math
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

from PIL import Image

from scripts.core.files import replacing
from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted, nearest
from scripts.data.dataset import SPLITS, Box, Corners, LabelError
from scripts.data.drawing import TILE_PX, columns_for, contact_sheet, drawn_tile, text_tile
from scripts.data.explanations import require_known_code
from scripts.data.formats.voc import CORNERS
from scripts.data.image_files import open_shrunk
from scripts.data.manifest import (
    entries_by_name,
    read_label,
    read_manifest,
    shown_lines,
    stored_images,
)
from scripts.data.source import IMAGE_SUFFIXES

MOST_TILES = 600  # a sheet of 36,000 px height; most viewers show no higher one
CROWD = 12  # boxes in one image; the names of more would hide what is in them
_FARTHEST = 0.5  # of a side: how far outside the image a box is still drawn where it is
_NAMED = re.compile(r"'(.+?)': ")  # a message that begins with the name of its image


def preview(root: Path, out: Path, count: int, flagged: str | bool, split: str, seed: int,
            ids: dict[str, int]) -> str:
    """Draw images of `images/` with their boxes, as they are stored, on one sheet.

    Args:
        root: the folder of the project.
        out: the PNG file to write.
        count: how many images.
        flagged: True for those that findings of `annotations/check.json` are about, errors first;
            a code for its findings only; "" for any.
        split: one split, "" for all.
        seed: another seed chooses other images.
        ids: colors by class name, from 0; other classes follow as they are met.

    Raises:
        DetectorError: an argument means nothing, or there is no image to show.
    """
    layout = Layout(root)
    _check_arguments(layout, out, count, flagged, split)
    manifest = read_manifest(layout.manifest)
    everything = stored_images(layout.images)
    stored = {key: path for key, path in everything.items()
              if not split or path.parent.name == split}

    # Choose the images, among all or among those that check names.
    rows: dict[str, list[dict]] = {}
    if flagged:
        findings = [row for row in _read_findings(layout) if flagged in (True, row["code"])]
        for key, found in findings_by_image(findings, manifest, everything).items():
            # Images of the source that organize could not use are shown as a text.
            is_unused = Path(key).suffix.lower() in IMAGE_SUFFIXES and not split
            if key in stored or is_unused:
                rows[key] = found
    keys = list(rows if flagged else stored)
    if not keys:
        raise _nothing_to_draw(flagged, split)

    # Draw them. A class has one color on all tiles.
    ids, entries, tiles, captions = dict(ids), entries_by_name(manifest), [], []
    for key in _choose(keys, rows, count, seed):
        path, found = stored.get(key), rows.get(key, [])
        entry = entries.get(path.stem) if path else None
        tile, note = _tile(path, found, entry, ids)
        tiles.append(tile)
        captions.append(_caption(key, found) + note)
    sheet = contact_sheet(tiles, captions, columns_for(len(tiles)), TILE_PX)
    with replacing(out) as temporary:
        sheet.save(temporary, "PNG")
    noun = "flagged image" if flagged else "image"
    return f"{layout.shown(out)}: {len(tiles):,} of {counted(len(keys), noun)}"


def _check_arguments(layout: Layout, out: Path, count: int, flagged: str | bool,
                     split: str) -> None:
    if not 1 <= count <= MOST_TILES:
        raise DetectorError(f"{count} images do not fit one sheet: --count: give 1 to {MOST_TILES}")
    if split and split not in SPLITS:
        near = nearest(split, SPLITS, cutoff=0.0)
        raise DetectorError(f"'{split}' is no split: --split: the nearest is '{near}'")
    if isinstance(flagged, str) and flagged:
        require_known_code(flagged, "--flagged", "`invoke check --explain` lists all")
    if out.suffix.lower() != ".png" or out.is_dir():
        raise DetectorError(f"'{out.name}' is no name for a PNG file: --out: give one, such as "
                            "annotations/preview.png")
    if out.resolve().parent in [(layout.images / name).resolve() for name in SPLITS]:
        raise DetectorError(f"the sheet would be an image to train on: --out {out}: "
                            "name a file outside images/")


def _nothing_to_draw(flagged: str | bool, split: str) -> DetectorError:
    where = f"images/{split}" if split else "images"
    if not flagged:
        return DetectorError(f"there are no images: {where}: run `invoke organize`")
    kind = "finding" if flagged is True else f"{flagged} finding"
    return DetectorError(f"no {kind} is about a single image of {where}: annotations/check.json: "
                         "nothing to draw")


def _choose(keys: list[str], rows: dict[str, list[dict]], count: int, seed: int) -> list[str]:
    """Return random keys in their order; with findings, errors before warnings before repairs."""
    mixed = random.Random(seed).sample(keys, len(keys))
    mixed.sort(key=lambda key: min(("EWR".index(row["code"][0]) for row in rows.get(key, [])),
                                   default=0))
    chosen = set(mixed[:count])
    return [key for key in keys if key in chosen]


# One image as a tile.


def _caption(key: str, findings: list[dict]) -> str:
    codes = Counter(row["code"] for row in findings)
    texts = [f"{code} x{number}" if number > 1 else code for code, number in sorted(codes.items())]
    return " ".join([*texts, key])


def _tile(path: Path | None, findings: list[dict], entry: dict | None,
          ids: dict[str, int]) -> tuple[Image.Image, str]:
    """Return an image with its boxes and a note for its caption.

    What cannot be shown is a gray tile with the reason. Classes that `ids` lacks are added.
    """
    if path is None:
        return text_tile(f"left out: {findings[0]['message']}", TILE_PX), ""
    try:
        image, size_px = open_shrunk(path, 2 * TILE_PX)
    except ValueError as error:
        return text_tile(f"cannot be read: {error}", TILE_PX), ""
    label_path = path.with_suffix(".xml")
    try:
        label, as_written = read_label(label_path, entry)
    except FileNotFoundError:
        return drawn_tile(image, size_px, []), " (no label file)"
    except LabelError as error:
        return drawn_tile(image, size_px, []), f" (label file: {error})"
    _, lines = shown_lines(label_path, label, entry if as_written else None)
    detections = _detections(label.boxes, lines, size_px, findings, ids)
    return drawn_tile(image, size_px, detections), "" if label.boxes else " (no boxes)"


def _detections(boxes: tuple[Box, ...], lines: tuple[int, ...], size_px: tuple[int, int],
                findings: list[dict], ids: dict[str, int]) -> list[dict]:
    """Return boxes as `draw_detections` takes them, each with a note on what is wrong with it."""
    # A json in one line says "line 1" of every box: then only the caption knows.
    codes = {row["line"]: row["code"] for row in findings if lines.count(row["line"]) == 1}
    detections, named = [], set()
    for box, line in zip(boxes, lines, strict=False):
        edges_px, problem = visible_edges_px(box, size_px)
        note = " ".join(filter(None, [codes.get(line, ""), problem]))
        class_id = ids.setdefault(box.class_name, max(ids.values(), default=-1) + 1)
        name = box.class_name or "(no name)"
        # In a crowd only the first box of each class has its name, and those with a note.
        is_named = len(boxes) <= CROWD or note or name not in named
        detections.append({"class": name if is_named else "", "class_id": class_id, "score": None,
                           "box_xyxy_px": edges_px, "note": note})
        named.add(name)
    return detections


def visible_edges_px(box: Box, size_px: tuple[int, int]) -> tuple[Corners, str]:
    """Return edges that can be drawn, and what was wrong with those of the box ("": nothing).

    They are in the right order. A missing edge becomes that of the image. What lies far outside is
    drawn nearer, so that it is seen at all.
    """
    border = (0.0, 0.0, float(size_px[0]), float(size_px[1]))
    problems, edges = [], []
    for name, value, limit in zip(CORNERS, box.xyxy_px, border, strict=True):
        is_number = math.isfinite(value)
        edges.append(value if is_number else limit)
        problems += [] if is_number else [f"{name}?"]
    if edges[0] > edges[2] or edges[1] > edges[3]:
        problems.append("inverted")
    left, right = sorted((edges[0], edges[2]))
    top, bottom = sorted((edges[1], edges[3]))
    if left == right or top == bottom:
        problems.append("no area")
    if left < 0 or top < 0 or right > size_px[0] or bottom > size_px[1]:
        problems.append("outside")
    near = tuple(min(max(value, -_FARTHEST * side), (1 + _FARTHEST) * side)
                 for value, side in zip((left, top, right, bottom), size_px * 2, strict=True))
    return near, " ".join(problems)


# Findings, and the images that they are about.


def _read_findings(layout: Layout) -> list[dict]:
    """Return the findings of `check.json`."""
    try:
        return json.loads(layout.check.read_text("utf-8"))["findings"]
    except FileNotFoundError:
        problem = "the report is missing"
    except (ValueError, KeyError, TypeError):
        problem = "the report is not readable"
    raise DetectorError(f"{problem}: {layout.shown(layout.check)}: run `invoke check`")


def findings_by_image(rows: list[dict], manifest: dict,
                      stored: dict[str, Path]) -> dict[str, list[dict]]:
    """Return findings by image of `images/` (`SPLIT/NAME.jpg`), others by the file they name.

    Args:
        rows: findings of `check.json`.
        manifest: the content of `organize.json`.
        stored: the images by `SPLIT/NAME.jpg`.
    """
    places, found = _Places(manifest, stored), defaultdict(list)
    for row in rows:
        found[places.of(row) or row["file"]].append(row)
    return dict(found)


class _Places:
    """From the file and line of a finding to an image of `images/`."""

    def __init__(self, manifest: dict, stored: dict[str, Path]):
        # An image that the user moved to another split is found by its name.
        self.by_stem = {Path(key).stem: key for key in stored}
        self.by_file, self.by_line = defaultdict(set), defaultdict(set)
        self.by_name, self.by_finding = defaultdict(set), defaultdict(set)
        for entry in manifest["images"]:
            key = self.by_stem.get(entry["name"])
            if key:
                label, source = entry["label"], entry["source"]
                self.by_file[source].add(key)
                self.by_file[label].add(key)
                self.by_name[label, source.rpartition("/")[2]].add(key)
                for line in entry["lines"]:
                    self.by_line[label, line].add(key)
        for row in manifest["findings"]:
            if row.get("image"):
                key = self.by_stem.get(Path(row["image"]).stem, "")
                self.by_finding[_identity(row)].add(key)

    def of(self, row: dict) -> str:
        """Return the image of a finding, "" when it is not about a single one of `images/`."""
        folder, _, name = row["file"].rpartition("/")
        if folder in [f"images/{split}" for split in SPLITS]:
            return self.by_stem.get(Path(name).stem, "")
        # One label file of many images: the line tells, or the name that the message begins with.
        named = _NAMED.match(row["message"])
        candidates = [self.by_finding.get(_identity(row)), self.by_file.get(row["file"]),
                      self.by_line.get((row["file"], row["line"])) if row["line"] else None,
                      self.by_name.get((row["file"], named.group(1))) if named else None]
        for found in candidates:
            if found and len(found) == 1:
                return next(iter(found))
        return ""


def _identity(row: dict) -> tuple:
    return row["code"], row["file"], row["line"], row["message"]

"""`eval/suspects.png`: the first suspects, each in its picture."""

import math
from pathlib import Path

from PIL import Image

from scripts.pictures.decode import open_shrunk
from scripts.pictures.draw import contact_sheet, text_tile
from scripts.pictures.preview import TILE_PX, columns_for, drawn_tile
from scripts.pipeline.files import replacing
from scripts.records.label_map import class_numbers

SHEET = "eval/suspects.png"
TILES = 24
SMALL = 0.35
"""A box with a longer side under this share of the picture's is shown enlarged, with what is around it."""


def draw_sheet(root: Path, rows: list[dict]) -> None:
    """Draw the first rows of `suspects.json`: labels with a plain frame, what is suggested with a dashed one."""
    ids = class_numbers(root)
    tiles = [_tile(root, row, ids) for row in rows[:TILES]] or [text_tile("nothing is suspicious", TILE_PX)]
    captions = [f"{row['rank']} {row['kind']} {row['file'].removeprefix('images/')}" for row in rows[:TILES]] or [""]
    sheet = contact_sheet(tiles, captions, columns_for(len(tiles)), TILE_PX)
    with replacing(root / SHEET) as temporary:
        sheet.save(temporary, "PNG")


def _tile(root: Path, row: dict, ids: dict[str, int]) -> Image.Image:
    try:
        image, size_px = open_shrunk(root / row["file"], 4 * TILE_PX)
    except ValueError as error:
        return text_tile(f"cannot be read: {error}", TILE_PX)
    boxes = _frames(row, ids)
    crop_px = _part([box["box_xyxy_px"] for box in boxes], size_px)
    scale = image.width / size_px[0]
    part = image.crop(tuple(round(value * scale) for value in crop_px))
    shift = (crop_px[0], crop_px[1]) * 2
    moved = [{**box, "box_xyxy_px": [value - by for value, by in zip(box["box_xyxy_px"], shift, strict=True)]}
             for box in boxes]  # fmt: skip
    return drawn_tile(part, (crop_px[2] - crop_px[0], crop_px[3] - crop_px[1]), moved)


def _frames(row: dict, ids: dict[str, int]) -> list[dict]:
    """Frames as `draw_detections` takes them: the label's, and dashed what would be there instead."""
    frames = []
    label, suggested = row["class"], row["suggested_class"]
    if row["box_xyxy_px"]:
        note = {"class": f"or {suggested}?", "extra": "nothing here?"}.get(row["kind"], "")
        frames.append({"class": label, "class_id": ids.get(label, 0), "score": None, "note": note,
                       "box_xyxy_px": row["box_xyxy_px"]})  # fmt: skip
    if row["suggested_box_xyxy_px"]:
        note = "here?" if row["kind"] == "box" else "missing?"
        frames.append({"class": suggested, "class_id": ids.get(suggested, 0), "score": None, "note": note,
                       "box_xyxy_px": row["suggested_box_xyxy_px"]})  # fmt: skip
    return frames


def _part(boxes: list, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the picture to show: all of it, or when the boxes are small, them with as much again around."""
    left, top = (min(box[at] for box in boxes) for at in (0, 1))
    right, bottom = (max(box[at] for box in boxes) for at in (2, 3))
    long_px = max(right - left, bottom - top, 1.0)
    if long_px > SMALL * max(size_px):
        return (0, 0, *size_px)
    middle, reach = ((left + right) / 2, (top + bottom) / 2), 1.5 * long_px
    near = [max(0, math.floor(value - reach)) for value in middle]
    far = [min(side, math.ceil(value + reach)) for value, side in zip(middle, size_px, strict=True)]
    return (*near, *far)

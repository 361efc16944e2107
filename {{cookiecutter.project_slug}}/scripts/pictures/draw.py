"""Boxes drawn on pictures, labelled or detected, and many pictures on one sheet."""

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SHEET_GREY = (32, 32, 32)
GOLDEN_RATIO = 0.618034  # steps of this part of the colour circle never come close to an earlier hue


def class_colour(class_id: int) -> tuple[int, int, int]:
    """The RGB colour 0..255 of a class: always the same for one id, and far from those of the ids beside it."""
    hue = (class_id * GOLDEN_RATIO + 0.02) % 1
    light = (1.0, 0.78)[class_id // 8 % 2]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, light))


def draw_detections(picture: Image.Image, detections: Sequence[dict]) -> Image.Image:
    """A copy of `picture` in RGB with a frame and a label for each detection; the best score is drawn last, on top.

    `detections` are those of `predictions.json`: `class`, `class_id`, `score` (0..1; None: a labelled box, no score
    is shown) and `box_xyxy_px` in pixels of `picture`. Lines and letters grow with the picture; labels stay inside it.
    """
    drawn = picture.convert("RGB")
    if drawn is picture:
        drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    long_px = max(drawn.size)
    line_px, font = max(2, round(long_px / 240)), ImageFont.load_default(size=max(10, round(long_px / 36)))
    in_order = sorted(detections, key=lambda one: 1.0 if one["score"] is None else one["score"])
    for one in in_order:
        pen.rectangle(_frame_px(one["box_xyxy_px"], drawn.size), outline=class_colour(one["class_id"]), width=line_px)
    for one in in_order:  # after all frames, so that no line crosses a label
        score = "" if one["score"] is None else f" {one['score']:.2f}"
        _label(pen, _frame_px(one["box_xyxy_px"], drawn.size), one["class"], score, class_colour(one["class_id"]), font)
    return drawn


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int, tile_px: int) -> Image.Image:
    """Pictures in rows of `columns`, each shrunk or enlarged into `tile_px` x `tile_px`, its caption above it.

    Needs one caption a picture ("" for none; ValueError otherwise). No pictures give one empty tile.
    """
    font = ImageFont.load_default(size=max(10, tile_px // 20))
    gap_px = max(2, tile_px // 64)
    caption_px = _text_height_px(font) + gap_px
    rows = max(1, -(-len(pictures) // columns))
    shown_columns = max(1, min(columns, len(pictures)))
    size = (shown_columns * (tile_px + gap_px) + gap_px, rows * (tile_px + caption_px + gap_px) + gap_px)
    sheet = Image.new("RGB", size, SHEET_GREY)
    pen = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x_px = gap_px + index % columns * (tile_px + gap_px)
        y_px = gap_px + index // columns * (tile_px + caption_px + gap_px)
        pen.text((x_px, y_px), _shortened(caption, "", font, tile_px), fill=WHITE, font=font)
        tile = _fitted(picture, tile_px)
        sheet.paste(tile, (x_px + (tile_px - tile.width) // 2, y_px + caption_px + (tile_px - tile.height) // 2))
    return sheet


def _fitted(picture: Image.Image, tile_px: int) -> Image.Image:
    """The picture with its longer side at `tile_px`, nothing cut off."""
    scale = tile_px / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _frame_px(xyxy_px: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixel edges as the first and last pixel that a frame covers, at least one pixel and inside the picture."""
    first = [max(0, min(side - 1, round(edge))) for edge, side in zip(xyxy_px[:2], size, strict=True)]
    last = [max(a, min(side, round(edge)) - 1) for a, edge, side in zip(first, xyxy_px[2:], size, strict=True)]
    return (*first, *last)


def _label(pen: ImageDraw.ImageDraw, frame_px: tuple, name: str, score: str, colour: tuple, font) -> None:
    """Name and score on a bar above the frame, or at its inner top edge where there is no room above."""
    width_px, height_px = pen.im.size
    pad_px = max(1, round(_text_height_px(font) / 8))
    text = _shortened(name, score, font, width_px - 2 * pad_px)
    bar_px = (round(font.getlength(text)) + 2 * pad_px, _text_height_px(font) + 2 * pad_px)
    x_px = max(0, min(frame_px[0], width_px - bar_px[0]))
    above = frame_px[1] - bar_px[1]
    y_px = above if above >= 0 else max(0, min(frame_px[1], height_px - bar_px[1]))
    pen.rectangle((x_px, y_px, x_px + bar_px[0] - 1, y_px + bar_px[1] - 1), fill=colour)
    red, green, blue = colour
    dark_bar = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    pen.text((x_px + pad_px, y_px + pad_px), text, fill=WHITE if dark_bar else BLACK, font=font)


def _shortened(name: str, tail: str, font, room_px: int) -> str:
    """`name` and `tail`, with the end of a too long name left out so that they fit into `room_px`."""
    if font.getlength(name + tail) <= room_px:
        return name + tail
    keep = len(name)
    while keep > 0 and font.getlength(name[:keep] + "..." + tail) > room_px:
        keep -= 1
    return name[:keep] + "..." + tail if keep else tail.strip()


def _text_height_px(font) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent

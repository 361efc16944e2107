"""Boxes drawn on images, labeled or detected, and many images on one sheet."""

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SHEET_GREY, TILE_GREY = (32, 32, 32), (96, 96, 96)
GOLDEN_RATIO = 0.618034  # steps of this part of the color circle never come close to an earlier hue


@lru_cache
def letters(size_px: int) -> ImageFont.FreeTypeFont:
    """A font of `size_px`: DejaVu Sans, which has accents, Greek and Cyrillic; where it is missing,
    Pillow's own.

    The file comes with matplotlib, which the lock holds. Pillow's own font has no accents.
    """
    matplotlib = find_spec("matplotlib")
    folder = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf" if matplotlib and matplotlib.origin else Path()
    try:
        return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size_px)
    except OSError:
        return ImageFont.load_default(size=size_px)


def class_color(class_id: int) -> tuple[int, int, int]:
    """The RGB color 0..255 of a class: always the same for one id, and far from those of the ids
    beside it."""
    hue = (class_id * GOLDEN_RATIO + 0.02) % 1
    light = (1.0, 0.78)[class_id // 8 % 2]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, light))


def draw_detections(image: Image.Image, detections: Sequence[dict], least_letters_px: int = 10) -> Image.Image:
    """A copy of `image` in RGB with a frame and a label for each detection; the best score is drawn
    last, on top.

    `detections` are those of `predictions.json`: `class` ("": no label), `class_id`, `score` (0..1;
    None: a labeled box, no score is shown) and `box_xyxy_px` in pixels of `image`; a `note` is
    shown after the name, and its frame is dashed with white. Lines and letters grow with the image,
    letters from `least_letters_px`; labels stay inside it.
    """
    drawn = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    long_px = max(drawn.size)
    line_px, letters_px = max(2, round(long_px / 240)), max(least_letters_px, round(long_px / 36))
    font = letters(letters_px)
    in_order = sorted(detections, key=lambda one: 1.0 if one["score"] is None else one["score"])
    for one in in_order:
        frame_px = _frame_px(one["box_xyxy_px"], drawn.size)
        pen.rectangle(frame_px, outline=class_color(one["class_id"]), width=line_px)
        if one.get("note"):
            _white_dashes(pen, frame_px, line_px)
    for one in filter(lambda one: one["class"], in_order):  # after all frames, so that no line crosses a label
        tail = "" if one["score"] is None else f" {one['score']:.2f}"
        tail += f" {one['note']}" if one.get("note") else ""
        _label(pen, _frame_px(one["box_xyxy_px"], drawn.size), one["class"], tail, class_color(one["class_id"]), font)
    return drawn


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int, tile_px: int) -> Image.Image:
    """Images in rows of `columns`, each shrunk or enlarged into `tile_px` x `tile_px`, its caption
    above it.

    Needs one caption an image ("" for none; ValueError otherwise). No images give one empty tile.
    """
    font = letters(max(10, tile_px // 20))
    gap_px = max(2, tile_px // 64)
    caption_px = _text_height_px(font) + gap_px
    tiles = [(fitted(image, tile_px), caption) for image, caption in zip(images, captions, strict=True)]
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    # A row is as high as its highest tile, so that a caption stands right above its image.
    heights = [caption_px + gap_px + max(tile.height for tile, _ in row) for row in rows] or [tile_px]
    shown_columns = max(1, min(columns, len(tiles)))
    sheet = Image.new("RGB", (shown_columns * (tile_px + gap_px) + gap_px, sum(heights) + gap_px), SHEET_GREY)
    pen = ImageDraw.Draw(sheet)
    y_px = gap_px
    for row, height_px in zip(rows, heights, strict=False):
        for index, (tile, caption) in enumerate(row):
            x_px = gap_px + index * (tile_px + gap_px)
            pen.text((x_px, y_px), _shortened(caption, "", font, tile_px), fill=WHITE, font=font)
            sheet.paste(tile, (x_px + (tile_px - tile.width) // 2, y_px + caption_px))
        y_px += height_px
    return sheet


def text_tile(text: str, tile_px: int) -> Image.Image:
    """A gray tile in place of an image, with the reason on it in as many lines as it takes."""
    tile = Image.new("RGB", (tile_px, tile_px * 3 // 4), TILE_GREY)
    font = letters(max(10, tile_px // 20))
    lines, room_px = [""], tile_px * 9 // 10
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > room_px and lines[-1]:
            lines.append(_shortened(word, "", font, room_px))
        else:
            lines[-1] = _shortened(longer, "", font, room_px)
    spot = (tile.width / 2, tile.height / 2)
    ImageDraw.Draw(tile).multiline_text(spot, "\n".join(lines), fill=WHITE, font=font, anchor="mm", align="center")
    return tile


def fitted(image: Image.Image, tile_px: int) -> Image.Image:
    """The image in RGB with its longer side at `tile_px`, nothing cut off."""
    scale = tile_px / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _frame_px(xyxy_px: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixel edges as the first and last pixel that a frame covers, at least one pixel and inside
    the image."""
    first = [max(0, min(side - 1, round(edge))) for edge, side in zip(xyxy_px[:2], size, strict=True)]
    last = [max(a, min(side, round(edge)) - 1) for a, edge, side in zip(first, xyxy_px[2:], size, strict=True)]
    return (*first, *last)


def _white_dashes(pen: ImageDraw.ImageDraw, frame_px: tuple, line_px: int) -> None:
    """Half of a frame in white: seen on every color, and different from every sound frame."""
    left, top, right, bottom = frame_px
    dash_px = 4 * line_px
    for x_px in range(left + dash_px, right + 1, 2 * dash_px):
        end_px = min(right, x_px + dash_px - 1)
        pen.rectangle((x_px, top, end_px, min(bottom, top + line_px - 1)), fill=WHITE)
        pen.rectangle((x_px, max(top, bottom - line_px + 1), end_px, bottom), fill=WHITE)
    for y_px in range(top + dash_px, bottom + 1, 2 * dash_px):
        end_px = min(bottom, y_px + dash_px - 1)
        pen.rectangle((left, y_px, min(right, left + line_px - 1), end_px), fill=WHITE)
        pen.rectangle((max(left, right - line_px + 1), y_px, right, end_px), fill=WHITE)


def _label(pen: ImageDraw.ImageDraw, frame_px: tuple, name: str, score: str, color: tuple, font) -> None:
    """Name and score on a bar above the frame, or at its inner top edge where there is no room
    above."""
    width_px, height_px = pen.im.size
    pad_px = max(1, round(_text_height_px(font) / 8))
    text = _shortened(name, score, font, width_px - 2 * pad_px)
    bar_px = (round(font.getlength(text)) + 2 * pad_px, _text_height_px(font) + 2 * pad_px)
    x_px = max(0, min(frame_px[0], width_px - bar_px[0]))
    above = frame_px[1] - bar_px[1]
    y_px = above if above >= 0 else max(0, min(frame_px[1], height_px - bar_px[1]))
    pen.rectangle((x_px, y_px, x_px + bar_px[0] - 1, y_px + bar_px[1] - 1), fill=color)
    red, green, blue = color
    dark_bar = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    pen.text((x_px + pad_px, y_px + pad_px), text, fill=WHITE if dark_bar else BLACK, font=font)


def _shortened(name: str, tail: str, font, room_px: int) -> str:
    """`name` and `tail`, with the end of a too long name left out so that they fit into `room_px`.
    """
    if font.getlength(name + tail) <= room_px:
        return name + tail
    keep = len(name)
    while keep > 0 and font.getlength(name[:keep] + "..." + tail) > room_px:
        keep -= 1
    return name[:keep] + "..." + tail if keep else tail.strip()


def _text_height_px(font) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent

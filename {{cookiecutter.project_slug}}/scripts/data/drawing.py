"""Boxes drawn on images, labeled or detected, and many images on one sheet."""

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SHEET_GRAY, TILE_GRAY = (32, 32, 32), (96, 96, 96)
GOLDEN_RATIO = 0.618034  # steps of this part of the color circle never come close to an earlier hue
# Sheets for people to look at: side of a tile, least height of letters in it, tiles in a row.
TILE_PX, TILE_LETTERS_PX, COLUMNS = 360, 13, 6


@lru_cache
def letters(size_px: int) -> ImageFont.FreeTypeFont:
    """Return a font of `size_px`: DejaVu Sans, which has accents, Greek and Cyrillic.

    The file comes with matplotlib. Where it is missing, Pillow's own font is taken.
    """
    matplotlib = find_spec("matplotlib")  # importing it would take a second
    try:
        folder = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf"
        return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size_px)
    except (OSError, AttributeError, TypeError):
        return ImageFont.load_default(size=size_px)


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return the RGB color 0..255 of a class: the same for one id, far from those of its neighbors.
    """
    hue = (class_id * GOLDEN_RATIO + 0.02) % 1
    light = (1.0, 0.78)[class_id // 8 % 2]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.9, light))


def draw_detections(image: Image.Image, detections: Sequence[dict],
                    least_letters_px: int = 10) -> Image.Image:
    """Draw a frame and a label for each detection on a copy of an image, in RGB.

    The best score is drawn last, on top. Lines and letters grow with the image; labels stay inside.

    Args:
        image: the image, in any mode.
        detections: those of `predictions.json`: `class` ("": no label), `class_id`, `score` (0..1;
            None for a labeled box, which shows no score) and `box_xyxy_px`. A `note` is shown after
            the name, and its frame is dashed with white.
        least_letters_px: the least height of letters.
    """
    drawn = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    long_px = max(drawn.size)
    line_px, letters_px = max(2, round(long_px / 240)), max(least_letters_px, round(long_px / 36))
    font = letters(letters_px)
    in_order = sorted(detections, key=lambda row: 1.0 if row["score"] is None else row["score"])
    for row in in_order:
        frame_px = _frame_px(row["box_xyxy_px"], drawn.size)
        pen.rectangle(frame_px, outline=class_color(row["class_id"]), width=line_px)
        if row.get("note"):
            _white_dashes(pen, frame_px, line_px)
    # After all frames, so that no line crosses a label.
    for row in in_order:
        if row["class"]:
            tail = "" if row["score"] is None else f" {row['score']:.2f}"
            tail += f" {row['note']}" if row.get("note") else ""
            frame_px = _frame_px(row["box_xyxy_px"], drawn.size)
            _label(pen, frame_px, row["class"], tail, class_color(row["class_id"]), font)
    return drawn


def drawn_tile(image: Image.Image, size_px: tuple[int, int],
               detections: Sequence[dict]) -> Image.Image:
    """Return a tile of `TILE_PX` with an image and detections, which may leave the image.

    Args:
        image: the image, perhaps shrunk.
        size_px: its width and height before it was shrunk.
        detections: as for `draw_detections`, in pixels of `size_px`. Where they leave the image,
            the tile has a gray margin.
    """
    edges = [row["box_xyxy_px"] for row in detections]
    left, top = (-min([0, *(edge[at] for edge in edges)]) for at in (0, 1))
    right, bottom = (max([0, *(edge[at + 2] - size_px[at] for edge in edges)]) for at in (0, 1))
    outer_px = (size_px[0] + left + right, size_px[1] + top + bottom)
    scale = TILE_PX / max(outer_px)
    tile = Image.new("RGB", _scaled(outer_px, scale), TILE_GRAY)
    inner = image.resize(_scaled(size_px, scale), Image.Resampling.LANCZOS)
    tile.paste(inner, (round(left * scale), round(top * scale)))
    shift = (left, top, left, top)
    moved = [{**row, "box_xyxy_px": [(value + by) * scale for value, by
                                     in zip(row["box_xyxy_px"], shift, strict=True)]}
             for row in detections]
    return draw_detections(tile, moved, TILE_LETTERS_PX)


def columns_for(tiles: int) -> int:
    """Return how many columns a sheet of so many tiles gets."""
    return max(1, min(COLUMNS, math.ceil(math.sqrt(tiles))))


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int,
                  tile_px: int) -> Image.Image:
    """Put images into rows, each scaled into `tile_px` x `tile_px` with its caption above it.

    There is one caption for each image ("" for none). No images give one empty tile.
    """
    font = letters(max(10, tile_px // 20))
    gap_px = max(2, tile_px // 64)
    caption_px = _text_height_px(font) + gap_px
    tiles = [(fitted(image, tile_px), caption)
             for image, caption in zip(images, captions, strict=True)]
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    # A row is as high as its highest tile, so that a caption stands right above its image.
    heights = [caption_px + gap_px + max(tile.height for tile, _ in row) for row in rows]
    heights = heights or [tile_px]
    width_px = max(1, min(columns, len(tiles))) * (tile_px + gap_px) + gap_px
    sheet = Image.new("RGB", (width_px, sum(heights) + gap_px), SHEET_GRAY)
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
    """Return a gray tile in place of an image, with a text on it in as many lines as it takes."""
    tile = Image.new("RGB", (tile_px, tile_px * 3 // 4), TILE_GRAY)
    font = letters(max(10, tile_px // 20))
    lines, most_px = [""], tile_px * 9 // 10
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > most_px and lines[-1]:
            lines.append(_shortened(word, "", font, most_px))
        else:
            lines[-1] = _shortened(longer, "", font, most_px)
    center = (tile.width / 2, tile.height / 2)
    ImageDraw.Draw(tile).multiline_text(center, "\n".join(lines), fill=WHITE, font=font,
                                        anchor="mm", align="center")
    return tile


def fitted(image: Image.Image, tile_px: int) -> Image.Image:
    """Return the image in RGB with its longer side at `tile_px`, nothing cut off."""
    size = _scaled(image.size, tile_px / max(image.size))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _scaled(size_px: Sequence[float], scale: float) -> tuple[int, int]:
    return tuple(max(1, round(side * scale)) for side in size_px)


def _frame_px(xyxy_px: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last pixels that a frame covers: at least one, inside the image."""
    first = [max(0, min(side - 1, round(edge)))
             for edge, side in zip(xyxy_px[:2], size, strict=True)]
    last = [max(start, min(side, round(edge)) - 1)
            for start, edge, side in zip(first, xyxy_px[2:], size, strict=True)]
    return (*first, *last)


def _white_dashes(pen: ImageDraw.ImageDraw, frame_px: tuple, line_px: int) -> None:
    """Draw half of a frame in white: seen on every color, and unlike any other frame."""
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


def _label(pen: ImageDraw.ImageDraw, frame_px: tuple, name: str, score: str, color: tuple,
           font) -> None:
    """Draw name and score on a bar above the frame, or inside it at the top of the image."""
    width_px, height_px = pen.im.size
    pad_px = max(1, round(_text_height_px(font) / 8))
    text = _shortened(name, score, font, width_px - 2 * pad_px)
    bar_px = (round(font.getlength(text)) + 2 * pad_px, _text_height_px(font) + 2 * pad_px)
    x_px = max(0, min(frame_px[0], width_px - bar_px[0]))
    above = frame_px[1] - bar_px[1]
    y_px = above if above >= 0 else max(0, min(frame_px[1], height_px - bar_px[1]))
    pen.rectangle((x_px, y_px, x_px + bar_px[0] - 1, y_px + bar_px[1] - 1), fill=color)
    red, green, blue = color
    # Luma as in ITU-R BT.601: white letters on a dark bar, black ones on a light bar.
    dark_bar = 0.299 * red + 0.587 * green + 0.114 * blue < 140
    pen.text((x_px + pad_px, y_px + pad_px), text, fill=WHITE if dark_bar else BLACK, font=font)


def _shortened(name: str, tail: str, font, most_px: int) -> str:
    """Return `name` and `tail`; of a name that does not fit into `most_px` the end is cut off."""
    if font.getlength(name + tail) <= most_px:
        return name + tail
    keep = len(name)
    while keep > 0 and font.getlength(name[:keep] + "..." + tail) > most_px:
        keep -= 1
    return name[:keep] + "..." + tail if keep else tail.strip()


def _text_height_px(font) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent

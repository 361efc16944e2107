"""What lies among the fruit of the demo and is none: balls, mugs, boxes, plates, leaves, pens and spoons.

Their colours are those of the fruit on purpose, so that colour alone does not tell a fruit.
"""

import numpy as np

from scripts.pictures.demo_stamp import Stamp, capsule, paint_leaf, round_normal

COLOURS = (
    (0.80, 0.10, 0.10),
    (0.95, 0.50, 0.08),
    (0.96, 0.80, 0.18),
    (0.40, 0.62, 0.16),
    (0.16, 0.36, 0.70),
    (0.20, 0.55, 0.60),
    (0.50, 0.25, 0.55),
    (0.92, 0.90, 0.86),
    (0.45, 0.30, 0.20),
    (0.18, 0.18, 0.20),
)


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    picked = np.asarray(COLOURS[int(rng.integers(len(COLOURS)))], np.float32)
    return np.clip(picked * rng.uniform(0.85, 1.1), 0, 1)


def draw_ball(stamp: Stamp) -> None:
    """A ball: panels of two colours, a basketball's seams, or one band."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    normal = round_normal(x, y)
    nx, ny, nz = normal
    kind = int(rng.integers(3))
    first, second = _any_colour(rng), _any_colour(rng)
    longitude = np.arctan2(nx, nz * 0.9 + ny * 0.45)
    if kind == 0:
        part = np.floor(longitude / np.pi * 3) % 2 == 0
        colour = np.where(part[..., None], first, second)
    elif kind == 1:
        seam = np.minimum(np.abs(nx), np.minimum(np.abs(ny), np.abs(np.hypot(nx - 0.95, ny) - 0.62)))
        seam = np.minimum(seam, np.abs(np.hypot(nx + 0.95, ny) - 0.62))
        orange = np.asarray((0.85, 0.42, 0.12), np.float32)
        colour = np.where((seam < 0.035)[..., None], np.float32(0.1), orange)
    else:
        colour = np.where((np.abs(ny + 0.25 * nz) < 0.22)[..., None], second, first)
    stamp.paint(np.hypot(x, y) - 1, stamp.lit(colour, normal, 0.55, 40))


def draw_mug(stamp: Stamp) -> None:
    """A mug from the side and a little above, with a handle and a drink."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    colour = _any_colour(rng)
    handle = np.abs(np.hypot((x - 0.62) / 0.85, y - 0.08) - 0.36) - 0.085
    flat = (0 * x, 0 * x, np.ones_like(x))
    stamp.paint(handle, stamp.lit(colour * 0.85, flat, 0.1))
    across = np.clip(x / 0.62, -1, 1)
    body = np.maximum(np.abs(x) - 0.62, np.abs(y) - 0.72)
    foot = (np.sqrt((x / 0.62) ** 2 + ((y - 0.72) / 0.2) ** 2) - 1) * 0.2
    side = (across, 0 * x, np.sqrt(1 - across * across))
    skin = stamp.lit(colour, side, 0.3)
    band = (np.abs(y - 0.15) < 0.16)[..., None] & bool(rng.random() < 0.5)
    stamp.paint(np.minimum(body, foot), np.where(band, stamp.lit(_any_colour(rng), side, 0.3), skin))
    rim = (np.sqrt((x / 0.62) ** 2 + ((y + 0.72) / 0.2) ** 2) - 1) * 0.2
    stamp.paint(rim, np.clip(colour * 1.15 + 0.05, 0, 1))
    stamp.paint(rim + 0.035, colour * 0.45)
    stamp.paint(np.maximum(rim + 0.045, -0.05 - (y + 0.72)), (0.28, 0.16, 0.08))


def draw_box(stamp: Stamp) -> None:
    """A carton or a book: a lit top, two sides and a stripe."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    colour, stripe = _any_colour(rng), _any_colour(rng)
    wide, high, deep = rng.uniform(0.5, 0.85), rng.uniform(0.4, 0.7), rng.uniform(0.06, 0.25)
    for step in np.linspace(1, 0, max(2, round(deep * stamp.radius_px))):
        side = np.maximum(np.abs(x - deep * step) - wide, np.abs(y - deep * step) - high)
        stamp.paint(side, colour * (0.45 if deep > 0.12 else 0.8))
    top = np.maximum(np.abs(x) - wide, np.abs(y) - high)
    grain = (1 + 0.05 * stamp.noise(20, 0.3))[..., None]
    stamp.paint(top, np.clip(colour * grain, 0, 1))
    stamp.paint(np.maximum(top, np.abs(x - rng.uniform(-0.3, 0.3)) - rng.uniform(0.06, 0.16)), stripe)
    label = np.maximum(np.abs(x) - wide * 0.6, np.abs(y + high * 0.4) - high * 0.12)
    stamp.paint(label, (0.95, 0.94, 0.90), 0.9)


def draw_plate(stamp: Stamp) -> None:
    """A plate from above, with a coloured ring."""
    rng, r = stamp.rng, np.hypot(stamp.x, stamp.y)
    colour = np.asarray((0.93, 0.92, 0.88), np.float32) if rng.random() < 0.6 else _any_colour(rng)
    slope = np.where(r > 0.7, -0.35, np.where(r > 0.6, -0.6, 0.0))
    nx, ny = slope * stamp.x / (r + 1e-6), slope * stamp.y / (r + 1e-6)
    stamp.paint(r - 1, stamp.lit(colour, (nx, ny, np.sqrt(1 - slope**2)), 0.15, 30))
    stamp.paint(np.abs(r - rng.uniform(0.85, 0.93)) - 0.025, _any_colour(rng), 0.8)


def draw_leaf(stamp: Stamp) -> None:
    """A big single leaf, green or of autumn."""
    rng = stamp.rng
    green = (rng.uniform(0.15, 0.35), rng.uniform(0.40, 0.6), rng.uniform(0.08, 0.22))
    autumn = (rng.uniform(0.65, 0.85), rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.15))
    colour = green if rng.random() < 0.7 else autumn
    stamp.paint(capsule(stamp.x, stamp.y, (-1.05, 0), (-0.7, 0), 0.03, 0.025), [c * 0.7 for c in colour])
    paint_leaf(stamp, (-0.85, 0), (1.0, rng.uniform(-0.1, 0.1)), rng.uniform(0.3, 0.5), colour)


def draw_pen(stamp: Stamp) -> None:
    """A pen or pencil; a yellow one is as long and thin as a banana, but straight."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    colour, thick = _any_colour(rng), rng.uniform(0.06, 0.12)
    bulge = np.clip(y / thick, -1, 1)
    round_side = (0 * x, bulge, np.sqrt(1 - bulge * bulge))
    stamp.paint(capsule(x, y, (0.7, 0), (1.0, 0), thick, 0.015), stamp.lit((0.85, 0.68, 0.45), round_side))
    stamp.paint(np.maximum(np.abs(x + 0.1) - 0.85, np.abs(y) - thick), stamp.lit(colour, round_side, 0.5))
    stamp.paint(np.maximum(np.abs(x + 0.9) - 0.12, np.abs(y) - thick * 1.05), stamp.lit(_any_colour(rng), round_side))
    stamp.paint(capsule(x, y, (0.93, 0), (1.0, 0), 0.035, 0.012), (0.1, 0.1, 0.1))


def draw_spoon(stamp: Stamp) -> None:
    """A metal or wooden spoon."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    colour = (0.70, 0.72, 0.75) if rng.random() < 0.6 else (0.66, 0.46, 0.26)
    handle = capsule(x, y, (-1.0, 0), (0.4, 0), 0.075, 0.04)
    bowl = (np.sqrt(((x - 0.68) / 0.34) ** 2 + (y / 0.23) ** 2) - 1) * 0.23
    nx, ny, nz = round_normal((x - 0.68) / 0.34, y / 0.23)
    stamp.paint(np.minimum(handle, bowl), stamp.lit(colour, (0 * x, 0 * x, np.ones_like(x)), 0.2))
    stamp.paint(bowl + 0.03, stamp.lit(colour, (-nx, -ny, nz), 0.6, 12))


# How to draw each, and how far from its centre it reaches in object units.
THINGS = (
    (draw_ball, 1.02), (draw_mug, 1.15), (draw_box, 1.5), (draw_leaf, 1.15), (draw_pen, 1.05), (draw_spoon, 1.08),
)
PLATE = (draw_plate, 1.02)

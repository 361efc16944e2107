"""The objects of the demo: fruit, which is labeled, and things, which are not.

Each `draw_` function draws one object of a radius of about 1.0 object units on a `Stamp`. `FRUIT`,
`THINGS` and `PLATE` name them all, with how far from its center each may reach.
"""

import math

import numpy as np

from scripts.data.demo.painting import Stamp, capsule, mix, paint_leaf, round_normal

# Fruit.

def _leaf_green(rng: np.random.Generator) -> tuple:
    return rng.uniform(0.15, 0.32), rng.uniform(0.42, 0.6), rng.uniform(0.08, 0.2)


def draw_apple(stamp: Stamp) -> None:
    """Draw an apple from the side: a dip with a stem on top, streaks, often a leaf."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    top = np.arctan2(x, -y)  # 0 at the stem, +-pi at the bottom
    dip, waist = rng.uniform(0.18, 0.26), rng.uniform(0.02, 0.07)
    bottom = np.pi - np.abs(top)
    rim = 0.97 - dip * np.exp(-((top / 0.36) ** 2)) - 0.08 * np.exp(-((bottom / 0.4) ** 2))
    rim = rim + waist * np.cos(2 * top + np.pi) - 0.05 * np.cos(top + np.pi) * np.sin(top) ** 2
    stamp.paint(np.hypot(x, y) - rim, _apple_skin(stamp, round_normal(x, y, rim)))
    hollow = np.exp(-((x / 0.34) ** 2) - ((y + 0.74) / 0.13) ** 2)
    stamp.stain(0.75 * hollow, (0.20, 0.15, 0.04))
    bend = rng.uniform(-0.22, 0.22)
    tip = (bend, -1.16 + abs(bend) * 0.3)
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        end = (side * rng.uniform(0.55, 0.72), -1.04 - rng.uniform(-0.05, 0.12))
        paint_leaf(stamp, (bend * 0.5, -0.92), end, rng.uniform(0.14, 0.19), _leaf_green(rng))
    stamp.paint(capsule(x, y, (0, -0.70), tip, 0.035, 0.06), (0.30, 0.19, 0.09))


def _apple_skin(stamp: Stamp, normal: tuple) -> np.ndarray:
    """Return the lit skin of an apple, [N, N, 3]: red, red on yellow, or green."""
    rng = stamp.rng
    kind = rng.choice(3, p=[0.5, 0.25, 0.25])
    skin = [(0.72, 0.07, 0.09), (0.80, 0.16, 0.10), (0.48, 0.68, 0.12)][kind]
    other = [(0.50, 0.03, 0.06), (0.93, 0.76, 0.24), (0.66, 0.78, 0.24)][kind]
    skin = [c * rng.uniform(0.88, 1.12) for c in skin]
    # Streaks run from stem to bottom: noise over the angle as seen from a point above the stem.
    angle = np.arctan2(stamp.x, stamp.y + 1.5)
    knots = np.linspace(-1, 1, 60)
    streaks = np.interp(angle, knots, rng.uniform(-1, 1, knots.size))
    blush = 0.35 + 0.4 * stamp.noise(4) + 0.32 * streaks
    color = mix(skin, other, blush)
    dots = np.clip(stamp.noise(max(6, round(stamp.radius_px * 0.8))) - 0.6, 0, 1) * 0.9
    dotted = mix(0, (0.95, 0.88, 0.6), dots) + color * (1 - dots[..., None])
    return stamp.lit(dotted, normal, rng.uniform(0.35, 0.6))


def draw_orange(stamp: Stamp) -> None:
    """Draw an orange with dimpled skin and a navel, at times with a leaf; one in five is halved."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    peel = (rng.uniform(0.93, 1.0), rng.uniform(0.48, 0.58), rng.uniform(0.03, 0.10))
    angle = np.arctan2(y, x)
    rim = 0.97 + 0.015 * np.cos(2 * angle + rng.uniform(0, 6))
    rim = rim + 0.01 * np.cos(3 * angle + rng.uniform(0, 6))
    nx, ny, nz = round_normal(x, y, rim)
    cells = max(8, round(stamp.radius_px * 0.9))
    dimples = 0.13 * np.minimum(1, stamp.radius_px / 40)
    bumpy = (nx + dimples * stamp.noise(cells), ny + dimples * stamp.noise(cells), nz)
    patches = 1 + 0.07 * stamp.noise(4)
    skin = np.asarray(peel, np.float32) * patches[..., None]
    stamp.paint(np.hypot(x, y) - rim, stamp.lit(skin, bumpy, 0.28, 14))
    if rng.random() < 0.2:
        _cut_face(stamp, angle)
        return
    turn, off = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.62)
    cx, cy = off * math.cos(turn), off * math.sin(turn)
    if rng.random() < 0.35:
        end = (cx + rng.uniform(0.4, 0.6) * math.cos(turn + 0.7),
               cy + rng.uniform(0.4, 0.6) * math.sin(turn + 0.7))
        paint_leaf(stamp, (cx, cy), end, 0.13, _leaf_green(rng))
    _navel(stamp, cx, cy)


def _navel(stamp: Stamp, cx: float, cy: float) -> None:
    """Draw the green button where the stem was, in a shallow hollow with short creases."""
    x, y = stamp.x - cx, stamp.y - cy
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    creases = np.clip(np.cos(7 * angle), 0, 1) * np.exp(-((r / 0.22) ** 2))
    stamp.stain(0.35 * np.exp(-((r / 0.2) ** 2)) + 0.25 * creases, (0.62, 0.28, 0.02))
    stamp.paint(r - 0.085 * (1 + 0.3 * np.cos(5 * angle)), (0.36, 0.42, 0.14))
    stamp.paint(r - 0.035, (0.60, 0.58, 0.36))


def _cut_face(stamp: Stamp, angle: np.ndarray) -> None:
    """Draw the inside of a halved orange: white rind, ten or so segments and a white core."""
    rng, r = stamp.rng, np.hypot(stamp.x, stamp.y)
    count = int(rng.integers(9, 12))
    wedge = (angle / (2 * np.pi) * count + rng.uniform()) % 1
    to_wall = (0.5 - np.abs(wedge - 0.5)) * 2 * np.pi * r / count
    stamp.paint(r - 0.90, (0.99, 0.93, 0.76))
    pulp = np.maximum(np.maximum(r - 0.82, 0.12 - r), 0.022 - to_wall)
    tone = 1 + 0.10 * stamp.noise(30) - 0.12 * (1 - r)
    stamp.paint(pulp, np.clip(np.asarray((1.0, 0.62, 0.10), np.float32) * tone[..., None], 0, 1))


def draw_banana(stamp: Stamp) -> None:
    """Draw a banana, more or less bent, with ridges, a stem, a dark tip and at times brown spots.
    """
    rng = stamp.rng
    bow = rng.uniform(0.55, 1.0)  # half of the angle that the arc spans
    arc = 0.92 / math.sin(bow)
    x, y = stamp.x, stamp.y + arc - 0.5 * (arc - arc * math.cos(bow))
    thick = rng.uniform(0.19, 0.25)
    turn = np.arctan2(x, y)
    along, across = turn / bow, np.hypot(x, y) - arc
    taper = np.clip(1 - np.abs(along) ** 2.6, 0, 1) ** 0.55
    half = thick * (taper * 0.9 + 0.1)
    distance = np.maximum(np.abs(across) - half, (np.abs(along) - 1) * bow * arc)
    stamp.paint(distance, _banana_skin(stamp, along, across / half, (x, y)))
    spots = stamp.noise(max(8, round(stamp.radius_px / 3))) - rng.uniform(0.45, 1.1)
    stamp.stain(np.clip(spots, 0, 1) * 2.5, (0.36, 0.22, 0.07))
    ends = [(arc * math.sin(t * bow), arc * math.cos(t * bow)) for t in (-1, 1)]
    out = (ends[1][0] + 0.20 * math.cos(bow * 0.7), ends[1][1] - 0.20 * math.sin(bow * 0.9))
    stem = capsule(x, y, (ends[1][0] * 0.97, ends[1][1]), out, thick * 0.36, 0.055)
    stamp.paint(stem, (0.62, 0.58, 0.16))
    stamp.paint(np.hypot(x - out[0], y - out[1]) - 0.06, (0.27, 0.19, 0.09))
    stamp.paint(np.hypot(x - ends[0][0], y - ends[0][1]) - 0.05, (0.18, 0.13, 0.07))


def _banana_skin(stamp: Stamp, along: np.ndarray, side: np.ndarray, xy: tuple) -> np.ndarray:
    """Return the lit skin, [N, N, 3]: three flat faces along it, greener towards the ends."""
    rng, (x, y) = stamp.rng, xy
    ripe = (rng.uniform(0.93, 1.0), rng.uniform(0.76, 0.86), rng.uniform(0.14, 0.26))
    green = np.clip(np.abs(along) ** 3 * rng.uniform(0.2, 1.0), 0, 1)
    color = mix(ripe, (0.62, 0.70, 0.20), green)
    side = np.clip(side, -1, 1)
    faces = 0.5 * side + 0.5 * np.clip(np.round(side * 1.4 + 0.25), -1, 1) * 0.8
    rho = np.hypot(x, y) + 1e-6
    normal = (faces * x / rho, faces * y / rho, np.sqrt(np.clip(1 - faces * faces, 0, 1)))
    lit = stamp.lit(color, normal, 0.2, 12)
    ridges = np.exp(-(((side - 0.18) / 0.06) ** 2)) + np.exp(-(((side + 0.54) / 0.06) ** 2))
    return lit * (1 - 0.13 * ridges)[..., None]


def draw_strawberry(stamp: Stamp) -> None:
    """Draw a strawberry: a red cone with rows of yellow seeds and a crown of green leaves."""
    rng, x, y = stamp.rng, stamp.x, stamp.y - 0.08
    wide, point = rng.uniform(0.72, 0.82), rng.uniform(0.42, 0.52)
    width = np.clip(wide - point * (y + 0.25) * np.where(y > -0.25, 0.75, 0.25), 0.2, 1)
    distance = (np.sqrt((x / width) ** 2 + (y / 0.98) ** 2) - 1) * 0.8
    red = (rng.uniform(0.78, 0.9), rng.uniform(0.06, 0.13), rng.uniform(0.08, 0.14))
    pale = np.clip((-y - 0.55) * 1.2 + 0.2 * stamp.noise(5), 0, 0.5)
    normal = round_normal(x / width, y / 0.98)
    stamp.paint(distance, stamp.lit(mix(red, (0.96, 0.70, 0.55), pale), normal, 0.5, 18))
    _seeds(stamp, x / width, y)
    crown = _leaf_green(rng)
    turn = rng.uniform(-0.2, 0.2)
    stamp.paint(capsule(x, y, (0, -0.85), (rng.uniform(-0.15, 0.15), -1.2), 0.05, 0.06), crown)
    for angle in np.linspace(-1.55, 1.55, int(rng.integers(6, 9))):
        reach = rng.uniform(0.42, 0.62)
        end = (reach * 1.15 * math.sin(angle + turn), -0.78 + 0.75 * reach * math.cos(angle + turn))
        tint = [c * rng.uniform(0.85, 1.15) for c in crown]
        paint_leaf(stamp, (0, -0.78), end, 0.12, tint)


def _seeds(stamp: Stamp, side: np.ndarray, y: np.ndarray) -> None:
    """Draw yellow seeds in dark pits, in staggered rows that bend round the fruit."""
    pitch = 0.26
    lat = np.arcsin(np.clip(side, -1, 1)) / 1.2
    row = np.floor(y / pitch)
    u = (lat / pitch + 0.5 * (row % 2)) % 1 - 0.5
    v = (y / pitch) % 1 - 0.5
    inside = np.clip(1.15 - np.hypot(side, y), 0, 0.15) / 0.15
    stamp.stain(0.45 * inside * np.exp(-(u * u + v * v) / 0.06), (0.40, 0.0, 0.03))
    seed = np.clip((0.17 - np.hypot(u * 1.6, v)) * pitch * stamp.radius_px + 0.5, 0, 1)
    stamp.stain(inside * seed, (0.95, 0.82, 0.40))


# How to draw each, and how far from its center it may reach in object units.
FRUIT = {
    "apple": (draw_apple, 1.4),
    "banana": (draw_banana, 1.3),
    "orange": (draw_orange, 1.2),
    "strawberry": (draw_strawberry, 1.25),
}


# Things, in the colors of fruit and in others: a detector has to tell them apart by shape.

COLORS = ((0.80, 0.10, 0.10), (0.95, 0.50, 0.08), (0.96, 0.80, 0.18), (0.40, 0.62, 0.16),
          (0.16, 0.36, 0.70), (0.20, 0.55, 0.60), (0.50, 0.25, 0.55), (0.92, 0.90, 0.86),
          (0.45, 0.30, 0.20), (0.18, 0.18, 0.20))


def _any_color(rng: np.random.Generator) -> np.ndarray:
    picked = np.asarray(COLORS[int(rng.integers(len(COLORS)))], np.float32)
    return np.clip(picked * rng.uniform(0.85, 1.1), 0, 1)


def draw_ball(stamp: Stamp) -> None:
    """Draw a ball: panels of two colors, a basketball's seams, or one band."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    normal = round_normal(x, y)
    nx, ny, nz = normal
    kind = int(rng.integers(3))
    first, second = _any_color(rng), _any_color(rng)
    longitude = np.arctan2(nx, nz * 0.9 + ny * 0.45)
    if kind == 0:
        part = np.floor(longitude / np.pi * 3) % 2 == 0
        color = np.where(part[..., None], first, second)
    elif kind == 1:
        seam = np.minimum(np.abs(ny), np.abs(np.hypot(nx - 0.95, ny) - 0.62))
        seam = np.minimum(np.abs(nx), seam)
        seam = np.minimum(seam, np.abs(np.hypot(nx + 0.95, ny) - 0.62))
        orange = np.asarray((0.85, 0.42, 0.12), np.float32)
        color = np.where((seam < 0.035)[..., None], np.float32(0.1), orange)
    else:
        color = np.where((np.abs(ny + 0.25 * nz) < 0.22)[..., None], second, first)
    stamp.paint(np.hypot(x, y) - 1, stamp.lit(color, normal, 0.55, 40))


def draw_mug(stamp: Stamp) -> None:
    """Draw a mug from the side and a little above, with a handle and a drink."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    color = _any_color(rng)
    handle = np.abs(np.hypot((x - 0.62) / 0.85, y - 0.08) - 0.36) - 0.085
    flat = (0 * x, 0 * x, np.ones_like(x))
    stamp.paint(handle, stamp.lit(color * 0.85, flat, 0.1))
    across = np.clip(x / 0.62, -1, 1)
    body = np.maximum(np.abs(x) - 0.62, np.abs(y) - 0.72)
    foot = (np.sqrt((x / 0.62) ** 2 + ((y - 0.72) / 0.2) ** 2) - 1) * 0.2
    side = (across, 0 * x, np.sqrt(1 - across * across))
    skin = stamp.lit(color, side, 0.3)
    band = (np.abs(y - 0.15) < 0.16)[..., None] & bool(rng.random() < 0.5)
    stamp.paint(np.minimum(body, foot), np.where(band, stamp.lit(_any_color(rng), side, 0.3), skin))
    rim = (np.sqrt((x / 0.62) ** 2 + ((y + 0.72) / 0.2) ** 2) - 1) * 0.2
    stamp.paint(rim, np.clip(color * 1.15 + 0.05, 0, 1))
    stamp.paint(rim + 0.035, color * 0.45)
    stamp.paint(np.maximum(rim + 0.045, -0.05 - (y + 0.72)), (0.28, 0.16, 0.08))


def draw_box(stamp: Stamp) -> None:
    """Draw a carton or a book: a lit top, two sides and a stripe."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    color, stripe = _any_color(rng), _any_color(rng)
    wide, high, deep = rng.uniform(0.5, 0.85), rng.uniform(0.4, 0.7), rng.uniform(0.06, 0.25)
    for step in np.linspace(1, 0, max(2, round(deep * stamp.radius_px))):
        side = np.maximum(np.abs(x - deep * step) - wide, np.abs(y - deep * step) - high)
        stamp.paint(side, color * (0.45 if deep > 0.12 else 0.8))
    top = np.maximum(np.abs(x) - wide, np.abs(y) - high)
    grain = (1 + 0.05 * stamp.noise(20, 0.3))[..., None]
    stamp.paint(top, np.clip(color * grain, 0, 1))
    band = np.abs(x - rng.uniform(-0.3, 0.3)) - rng.uniform(0.06, 0.16)
    stamp.paint(np.maximum(top, band), stripe)
    label = np.maximum(np.abs(x) - wide * 0.6, np.abs(y + high * 0.4) - high * 0.12)
    stamp.paint(label, (0.95, 0.94, 0.90), 0.9)


def draw_plate(stamp: Stamp) -> None:
    """Draw a plate from above, with a colored ring."""
    rng, r = stamp.rng, np.hypot(stamp.x, stamp.y)
    white = np.asarray((0.93, 0.92, 0.88), np.float32)
    color = white if rng.random() < 0.6 else _any_color(rng)
    slope = np.where(r > 0.7, -0.35, np.where(r > 0.6, -0.6, 0.0))
    nx, ny = slope * stamp.x / (r + 1e-6), slope * stamp.y / (r + 1e-6)
    stamp.paint(r - 1, stamp.lit(color, (nx, ny, np.sqrt(1 - slope**2)), 0.15, 30))
    stamp.paint(np.abs(r - rng.uniform(0.85, 0.93)) - 0.025, _any_color(rng), 0.8)


def draw_leaf(stamp: Stamp) -> None:
    """Draw a big single leaf, green or of autumn."""
    rng = stamp.rng
    green = (rng.uniform(0.15, 0.35), rng.uniform(0.40, 0.6), rng.uniform(0.08, 0.22))
    autumn = (rng.uniform(0.65, 0.85), rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.15))
    color = green if rng.random() < 0.7 else autumn
    stem = capsule(stamp.x, stamp.y, (-1.05, 0), (-0.7, 0), 0.03, 0.025)
    stamp.paint(stem, [c * 0.7 for c in color])
    paint_leaf(stamp, (-0.85, 0), (1.0, rng.uniform(-0.1, 0.1)), rng.uniform(0.3, 0.5), color)


def draw_pen(stamp: Stamp) -> None:
    """Draw a pen or pencil; a yellow one is as long and thin as a banana, but straight."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    color, thick = _any_color(rng), rng.uniform(0.06, 0.12)
    bulge = np.clip(y / thick, -1, 1)
    round_side = (0 * x, bulge, np.sqrt(1 - bulge * bulge))
    point = capsule(x, y, (0.7, 0), (1.0, 0), thick, 0.015)
    stamp.paint(point, stamp.lit((0.85, 0.68, 0.45), round_side))
    shaft = np.maximum(np.abs(x + 0.1) - 0.85, np.abs(y) - thick)
    stamp.paint(shaft, stamp.lit(color, round_side, 0.5))
    end = np.maximum(np.abs(x + 0.9) - 0.12, np.abs(y) - thick * 1.05)
    stamp.paint(end, stamp.lit(_any_color(rng), round_side))
    stamp.paint(capsule(x, y, (0.93, 0), (1.0, 0), 0.035, 0.012), (0.1, 0.1, 0.1))


def draw_spoon(stamp: Stamp) -> None:
    """Draw a metal or wooden spoon."""
    rng, x, y = stamp.rng, stamp.x, stamp.y
    color = (0.70, 0.72, 0.75) if rng.random() < 0.6 else (0.66, 0.46, 0.26)
    handle = capsule(x, y, (-1.0, 0), (0.4, 0), 0.075, 0.04)
    bowl = (np.sqrt(((x - 0.68) / 0.34) ** 2 + (y / 0.23) ** 2) - 1) * 0.23
    nx, ny, nz = round_normal((x - 0.68) / 0.34, y / 0.23)
    stamp.paint(np.minimum(handle, bowl), stamp.lit(color, (0 * x, 0 * x, np.ones_like(x)), 0.2))
    stamp.paint(bowl + 0.03, stamp.lit(color, (-nx, -ny, nz), 0.6, 12))


THINGS = ((draw_ball, 1.02), (draw_mug, 1.15), (draw_box, 1.5), (draw_leaf, 1.15), (draw_pen, 1.05),
          (draw_spoon, 1.08))
PLATE = (draw_plate, 1.02)

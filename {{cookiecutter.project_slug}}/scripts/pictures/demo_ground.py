"""The grounds that the demo's pictures are laid on: each float32 [height, width, 3] in 0..1."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.pictures.demo_stamp import smooth_noise


def _mix(a, b, amount: np.ndarray) -> np.ndarray:
    amount = np.clip(amount, 0, 1)[..., None].astype(np.float32)
    return np.asarray(a, np.float32) * (1 - amount) + np.asarray(b, np.float32) * amount


def _colour(rng: np.random.Generator, low: float = 0.1, high: float = 0.95) -> np.ndarray:
    """Any colour, more often a dull one than a bright one."""
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.uniform(-0.25, 0.25, 3), 0.03, 0.97).astype(np.float32)


def _grid(rng: np.random.Generator, shape: tuple, max_turn: float) -> tuple:
    """Coordinates (u, v) in pixels, turned by up to `max_turn` radians about the corner."""
    row, column = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = rng.uniform(-max_turn, max_turn)
    return column * math.cos(turn) + row * math.sin(turn), row * math.cos(turn) - column * math.sin(turn)


def gradient(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A plain wall or table with light falling off."""
    u, v = _grid(rng, shape, math.pi)
    ramp = (v - v.min()) / (v.max() - v.min() + 1e-6)
    return _mix(_colour(rng), _colour(rng), ramp + 0.08 * smooth_noise(rng, shape, 4, 4))


def wood(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Planks with grain and seams."""
    u, v = _grid(rng, shape, 0.4 if rng.random() < 0.6 else math.pi)
    plank_px = rng.uniform(0.14, 0.4) * max(shape)
    plank = np.floor(v / plank_px)
    shift = np.sin(plank * 12.9898) * 43.7
    wave = 4 * smooth_noise(rng, shape, 4, 4) + 0.9 * smooth_noise(rng, shape, 14, 14)
    grain = 0.5 + 0.5 * np.sin(v * rng.uniform(0.25, 0.5) + u * 0.012 + wave + shift)
    fine = smooth_noise(rng, shape, 12, shape[0] // 3)
    dark = np.asarray((0.36, 0.22, 0.12), np.float32) * rng.uniform(0.6, 1.5)
    light = np.clip(dark * rng.uniform(1.3, 1.9) + rng.uniform(0, 0.1), 0, 1)
    board = _mix(dark, light, 0.65 * grain + 0.18 + 0.12 * fine + 0.2 * np.sin(shift))
    seam = np.minimum(v % plank_px, plank_px - v % plank_px)
    return board * np.clip(0.45 + seam / 2.5, 0, 1)[..., None]


def cloth(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Woven checks or stripes with soft folds."""
    u, v = _grid(rng, shape, math.pi)
    pitch = rng.uniform(0.05, 0.16) * max(shape)
    folds = 6 * smooth_noise(rng, shape, 3, 3)
    across, down = ((u + folds) // pitch) % 2, ((v + folds) // pitch) % 2
    amount = (across + down) / 2 if rng.random() < 0.6 else across
    weave = 0.05 * np.sin(u * 2.1) * np.sin(v * 2.1)
    shade = 1 + 0.12 * smooth_noise(rng, shape, 4, 4) + weave
    return _mix(_colour(rng, 0.7), _colour(rng, 0.15, 0.6), amount) * shade[..., None]


def tiles(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Square tiles, each of its own tint, with grout between."""
    u, v = _grid(rng, shape, 0.5)
    pitch = rng.uniform(0.14, 0.32) * max(shape)
    tint = np.sin(np.floor(u / pitch) * 78.2 + np.floor(v / pitch) * 37.7 + rng.uniform(0, 6))
    glaze = 1 + 0.05 * smooth_noise(rng, shape, 24, 24)
    colour = _mix(_colour(rng, 0.3), _colour(rng, 0.3), 0.5 + 0.5 * tint) * glaze[..., None]
    to_edge = np.minimum(np.minimum(u % pitch, pitch - u % pitch), np.minimum(v % pitch, pitch - v % pitch))
    return _mix(_colour(rng, 0.3, 0.8), colour, (to_edge - 1.5) / 1.5)


def stone(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Speckled or veined stone."""
    rough = sum(smooth_noise(rng, shape, cells, cells) / weight for cells, weight in ((5, 1.5), (16, 2.5), (60, 3)))
    rough = rough + 0.25 * smooth_noise(rng, shape, shape[1] // 2, shape[0] // 2)
    if rng.random() < 0.5:
        rough = 1 - 3 * np.abs(rough)
    return _mix(_colour(rng), _colour(rng), 0.5 + 0.5 * rough)


def leaves(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Grass or foliage: many overlapping leaves, slightly out of focus."""
    picture = Image.new("RGB", (shape[1], shape[0]), (28, 48, 20))
    pen = ImageDraw.Draw(picture)
    tone = rng.uniform(0.6, 1.2)
    for _ in range(170):
        x, y = rng.uniform(-20, shape[1] + 20), rng.uniform(-20, shape[0] + 20)
        turn, long, wide = rng.uniform(0, 2 * math.pi), rng.uniform(0.04, 0.13) * max(shape), rng.uniform(0.2, 0.5)
        colour = tuple(int(c * tone) for c in (rng.uniform(30, 110), rng.uniform(70, 150), rng.uniform(20, 60)))
        there_and_back = [(t, side) for side in (1, -1) for t in (0, 0.2, 0.5, 0.8, 1)[::side]]
        rim = [(long * t, long * wide * side * math.sin(math.pi * t)) for t, side in there_and_back]
        cos, sin = math.cos(turn), math.sin(turn)
        pen.polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in rim], fill=colour)
        pen.line([x, y, x + cos * long, y + sin * long], fill=tuple(min(255, c + 25) for c in colour))
    soft = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 2.5)))
    return np.asarray(soft, np.float32) / 255


def blurred_room(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A room far out of focus: soft discs and bars of any colour, those of fruit among them."""
    start = tuple(int(255 * c) for c in _colour(rng))
    picture = Image.new("RGB", (shape[1], shape[0]), start)
    pen = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        w, h = rng.uniform(0.03, 0.2, 2) * max(shape)
        colour = tuple(int(c) for c in rng.uniform(20, 245, 3))
        (pen.ellipse if rng.random() < 0.6 else pen.rectangle)([x - w, y - h, x + w, y + h], fill=colour)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(6, 14))), np.float32) / 255


GROUNDS = (gradient, wood, wood, cloth, tiles, stone, leaves, blurred_room)

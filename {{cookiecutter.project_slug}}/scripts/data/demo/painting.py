"""How the demo paints: one object on a small surface, and the grounds that objects are laid on.

A shape is a signed distance in object units (negative inside), so that every edge is smooth at any
size and angle without drawing large and shrinking. Colors are RGB floats 0..1.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[float, float, float]


class Stamp:
    """A square, transparent surface around one object.

    `x` and `y` are the object's own coordinates at each pixel (float32 [N, N], y down), 1.0 being
    `radius_px` pixels, turned by `angle_rad`; `rgb` is premultiplied by `alpha`; `light` is a unit
    vector in the object's coordinates that points to the light (z towards the viewer).
    """

    def __init__(self, radius_px: float, extent: float, angle_rad: float, light: Color,
                 rng: np.random.Generator):
        """Make an empty surface for shapes up to `extent` object units away from the center."""
        side_px = 2 * math.ceil(radius_px * extent) + 4
        row, column = np.mgrid[0:side_px, 0:side_px].astype(np.float32) - (side_px - 1) / 2
        cos, sin = math.cos(angle_rad), math.sin(angle_rad)
        self.x = (cos * column + sin * row) / radius_px
        self.y = (cos * row - sin * column) / radius_px
        self.light = (cos * light[0] + sin * light[1], cos * light[1] - sin * light[0], light[2])
        self.radius_px = radius_px
        self.rgb = np.zeros((side_px, side_px, 3), np.float32)
        self.alpha = np.zeros((side_px, side_px), np.float32)
        self.rng = rng

    def paint(self, distance: np.ndarray, color, opacity: float = 1.0) -> None:
        """Lay `color` ([3] or [N, N, 3]) over what is there, where `distance` is negative."""
        cover = (np.clip(0.5 - distance * self.radius_px, 0, 1) * opacity).astype(np.float32)
        rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
        if not rows.size:
            return
        # Stems are small: to paint their part only is four times faster.
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        color, cover = np.asarray(color, np.float32), cover[part]
        color = color[part] if color.ndim == 3 else color
        self.rgb[part] += (color - self.rgb[part]) * cover[..., None]
        self.alpha[part] += (1 - self.alpha[part]) * cover

    def stain(self, strength: np.ndarray, color) -> None:
        """Mix `color` into what is painted (`strength` [N, N] in 0..1); the outline stays."""
        amount = np.clip(strength, 0, 1)[..., None]
        self.rgb += (np.asarray(color, np.float32) * self.alpha[..., None] - self.rgb) * amount

    def crop(self) -> None:
        """Cut off the empty border of a finished drawing; the coordinates are gone after this."""
        rows = np.flatnonzero(self.alpha.any(axis=1))
        columns = np.flatnonzero(self.alpha.any(axis=0))
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        self.alpha, self.rgb, self.x, self.y = self.alpha[part], self.rgb[part], None, None

    def noise(self, cells: int, stretch: float = 1.0) -> np.ndarray:
        """Return noise in -1..1 with `cells` bumps across, and `stretch` times as many downwards.
        """
        return smooth_noise(self.rng, self.alpha.shape, cells, max(2, round(cells * stretch)))

    def lit(self, color, normal: tuple, gloss: float = 0.4, sharpness: float = 24) -> np.ndarray:
        """Return `color` on a surface with `normal` (nx, ny, nz arrays) as [N, N, 3].

        The light is daylight and one lamp with its highlight (Blinn-Phong).
        """
        lx, ly, lz = self.light
        half = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
        nx, ny, nz = normal
        diffuse = np.clip(nx * lx + ny * ly + nz * lz, 0, 1)
        shine = np.clip((nx * lx + ny * ly + nz * (lz + 1)) / half, 0, 1) ** sharpness
        # The rim turns away from the whole sky: darker there, as on any round thing.
        ambient = 0.40 + 0.14 * nz
        shaded = np.asarray(color, np.float32) * (ambient + 0.60 * diffuse)[..., None]
        return np.clip(shaded + (gloss * shine)[..., None], 0, 1).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], across: int,
                 down: int) -> np.ndarray:
    """Return float32 noise of `shape` (height, width) in -1..1.

    It is interpolated from `down` x `across` random values.
    """
    grid = Image.fromarray(rng.uniform(-1, 1, (down, across)).astype(np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def round_normal(x: np.ndarray, y: np.ndarray, rim: np.ndarray | float = 1.0) -> tuple:
    """Return the normal of a ball-like body whose outline is at distance `rim` from its center."""
    r = np.hypot(x, y) + 1e-6
    rho = np.clip(r / rim, 0, 1)
    return rho * x / r, rho * y / r, np.sqrt(1 - rho * rho)


def capsule(x: np.ndarray, y: np.ndarray, a: tuple, b: tuple, width_a: float,
            width_b: float) -> np.ndarray:
    """Return the distance to a stick from `a` to `b`; the widths are half of its own there."""
    ax, ay, bx, by = x - a[0], y - a[1], b[0] - a[0], b[1] - a[1]
    t = np.clip((ax * bx + ay * by) / (bx * bx + by * by), 0, 1)
    return np.hypot(ax - t * bx, ay - t * by) - (width_a + (width_b - width_a) * t)


def blade(x: np.ndarray, y: np.ndarray, a: tuple, b: tuple, width: float) -> tuple:
    """Return a leaf from `a` to `b`: distance, place along it 0..1, and across in half widths."""
    bx, by = b[0] - a[0], b[1] - a[1]
    length = math.hypot(bx, by)
    along = ((x - a[0]) * bx + (y - a[1]) * by) / length**2
    across = ((y - a[1]) * bx - (x - a[0]) * by) / length
    half = width * np.sin(np.pi * np.clip(along, 0, 1) ** 0.85) + 1e-4
    distance = np.maximum(np.abs(across) - half, np.maximum(-along, along - 1) * length)
    return distance, along, across / half


def paint_leaf(stamp: Stamp, a: tuple, b: tuple, width: float, color: Color) -> None:
    """Paint a green leaf with a folded middle and side veins."""
    distance, along, across = blade(stamp.x, stamp.y, a, b, width)
    across = np.clip(across, -1, 1)
    veins = 0.06 * np.sin(40 * (along - 0.25 * np.abs(across)))
    fold = np.where(across > 0, 0.16, -0.10)
    tone = 0.86 + fold + veins - 0.10 * across * across
    stamp.paint(distance, np.asarray(color, np.float32) * tone[..., None])
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    midrib = np.maximum(np.abs(across) * width - 0.02 * length, distance)
    stamp.paint(midrib, [min(1.0, c * 1.25 + 0.12) for c in color], 0.7)


def mix(a, b, amount: np.ndarray | float) -> np.ndarray:
    """Return `a` where `amount` is 0, `b` where it is 1; colors [3], amount a number or [N, N]."""
    amount = np.clip(np.asarray(amount, np.float32), 0, 1)[..., None]
    return np.asarray(a, np.float32) * (1 - amount) + np.asarray(b, np.float32) * amount


# The grounds: each float32 [height, width, 3] in 0..1.

def _color(rng: np.random.Generator, low: float = 0.1, high: float = 0.95) -> np.ndarray:
    """Return any color, more often a dull one than a bright one."""
    gray = rng.uniform(low, high)
    return np.clip(gray + rng.uniform(-0.25, 0.25, 3), 0.03, 0.97).astype(np.float32)


def _grid(rng: np.random.Generator, shape: tuple, max_turn: float) -> tuple:
    """Return coordinates (u, v) in pixels, turned by up to `max_turn` radians about the corner."""
    row, column = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = rng.uniform(-max_turn, max_turn)
    cos, sin = math.cos(turn), math.sin(turn)
    return column * cos + row * sin, row * cos - column * sin


def gradient(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A plain wall or table with light falling off."""
    u, v = _grid(rng, shape, math.pi)
    ramp = (v - v.min()) / (v.max() - v.min() + 1e-6)
    return mix(_color(rng), _color(rng), ramp + 0.08 * smooth_noise(rng, shape, 4, 4))


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
    board = mix(dark, light, 0.65 * grain + 0.18 + 0.12 * fine + 0.2 * np.sin(shift))
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
    return mix(_color(rng, 0.7), _color(rng, 0.15, 0.6), amount) * shade[..., None]


def tiles(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Square tiles, each of its own tint, with grout between."""
    u, v = _grid(rng, shape, 0.5)
    pitch = rng.uniform(0.14, 0.32) * max(shape)
    tint = np.sin(np.floor(u / pitch) * 78.2 + np.floor(v / pitch) * 37.7 + rng.uniform(0, 6))
    glaze = 1 + 0.05 * smooth_noise(rng, shape, 24, 24)
    color = mix(_color(rng, 0.3), _color(rng, 0.3), 0.5 + 0.5 * tint) * glaze[..., None]
    across, down = u % pitch, v % pitch
    to_edge = np.minimum(np.minimum(across, pitch - across), np.minimum(down, pitch - down))
    return mix(_color(rng, 0.3, 0.8), color, (to_edge - 1.5) / 1.5)


def stone(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Speckled or veined stone."""
    rough = sum(smooth_noise(rng, shape, cells, cells) / weight
                for cells, weight in ((5, 1.5), (16, 2.5), (60, 3)))
    rough = rough + 0.25 * smooth_noise(rng, shape, shape[1] // 2, shape[0] // 2)
    if rng.random() < 0.5:
        rough = 1 - 3 * np.abs(rough)
    return mix(_color(rng), _color(rng), 0.5 + 0.5 * rough)


def leaves(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Grass or foliage: many overlapping leaves, slightly out of focus."""
    image = Image.new("RGB", (shape[1], shape[0]), (28, 48, 20))
    pen = ImageDraw.Draw(image)
    tone = rng.uniform(0.6, 1.2)
    for _ in range(170):
        x, y = rng.uniform(-20, shape[1] + 20), rng.uniform(-20, shape[0] + 20)
        turn, long = rng.uniform(0, 2 * math.pi), rng.uniform(0.04, 0.13) * max(shape)
        wide = rng.uniform(0.2, 0.5)
        rgb = rng.uniform(30, 110), rng.uniform(70, 150), rng.uniform(20, 60)
        color = tuple(int(c * tone) for c in rgb)
        there_and_back = [(t, side) for side in (1, -1) for t in (0, 0.2, 0.5, 0.8, 1)[::side]]
        rim = [(long * t, long * wide * side * math.sin(math.pi * t)) for t, side in there_and_back]
        cos, sin = math.cos(turn), math.sin(turn)
        pen.polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in rim], fill=color)
        vein = tuple(min(255, c + 25) for c in color)
        pen.line([x, y, x + cos * long, y + sin * long], fill=vein)
    soft = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 2.5)))
    return np.asarray(soft, np.float32) / 255


def blurred_room(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """A room far out of focus: soft discs and bars of any color, those of fruit among them."""
    start = tuple(int(255 * c) for c in _color(rng))
    image = Image.new("RGB", (shape[1], shape[0]), start)
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        w, h = rng.uniform(0.03, 0.2, 2) * max(shape)
        color = tuple(int(c) for c in rng.uniform(20, 245, 3))
        draw = pen.ellipse if rng.random() < 0.6 else pen.rectangle
        draw([x - w, y - h, x + w, y + h], fill=color)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(6, 14))), np.float32) / 255


GROUNDS = (gradient, wood, wood, cloth, tiles, stone, leaves, blurred_room)

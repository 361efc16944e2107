"""Near-duplicates: one photograph recompressed, resized, slightly cropped or brightened.

They are found from small copies of the images, in three stages: hashes propose pairs, the copies
of each pair are compared, and close pairs are joined to groups. No stage looks at all pairs.

Two copies are near if nothing moved: then no value of the gray copies differs by much, or all of
them by little (another tone curve). Or if the view was cropped: then a small shift and stretch
explains part of the difference everywhere, which no object that moves in a fixed view does.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

# Sides of the small copies: 4 % of an image is still more than one value wide.
LUMA_PX, CHROMA_PX = 32, 8
SIGNATURE_BYTES = LUMA_PX**2 + 2 * CHROMA_PX**2

# Largest ratio of the contrasts, and largest difference of the mean gray levels.
CONTRAST, BRIGHTNESS = 1.25, 50.0
# Largest difference in the color planes, and what is added for each level of their own standard
# deviation.
COLOR_MEAN, COLOR_MOST = (3.0, 0.08), (16.0, 0.4)
IN_PLACE, SHIFTED = 12.0, 45.0  # largest difference of one gray value; less where contrast is low
SHIFT = (0.05, 0.6)  # what a crop moves, in values of the halved copy (16 a side)
# As MOVED and PEAK below, where nothing moved and the tone curve is another.
TONE, TONE_PEAK = 0.07, 5.5
MOVED = 0.6  # largest difference, in parts of the contrast, that a crop makes
# Largest difference in parts of the mean one (rms) that a crop makes; an object of 8 % or less
# makes 8 to 16.
PEAK = 7.5
UNEXPLAINED = 0.93  # part of the difference that a shift may leave; a moved object leaves 0.94 to 1
REST = 0.22  # what a shift leaves, in parts of the contrast; another image leaves more than 0.8
_CHUNK = 1024  # pairs at a time: 20 MB


class Copies:
    """The small copies of N images.

    `small` is uint8 [N, SIGNATURE_BYTES]: gray values, then the two color planes. `mean` and
    `spread` (standard deviation) are those of the gray values, float [N].
    """

    def __init__(self, small):
        self.gray, self.color = small[:, : LUMA_PX**2], small[:, LUMA_PX**2 :]
        parts = (self.gray[start : start + _CHUNK].astype(np.float32)
                 for start in range(0, len(small), _CHUNK))
        statistics = [(part.mean(1), part.std(1)) for part in parts]
        self.mean, self.spread = np.concatenate(statistics, axis=1)

    def compare(self, first, second):
        """Compare images in pairs.

        Args:
            first: numbers of images, int [P], of which none may be without contrast.
            second: the same, the other image of each pair.

        Returns:
            Which pairs are near (bool [P]) and how large their difference is (float [P], 0: none,
            inf: not looked at).
        """
        near, size = np.zeros(len(first), bool), np.full(len(first), np.inf, np.float32)
        for start in range(0, len(first), _CHUNK):
            part = slice(start, start + _CHUNK)
            near[part], size[part] = self._compare(np.asarray(first[part]),
                                                   np.asarray(second[part]))
        return near, size

    def _compare(self, first, second):
        near, size = self._same_light(first, second), np.full(len(first), np.inf, np.float32)
        rows = np.flatnonzero(near)
        first, second = first[rows], second[rows]
        # Gray values about 0, both with the contrast of the first.
        spread = self.spread[first]
        gray = self.gray[first] - self.mean[first, None]
        scale = (spread / self.spread[second])[:, None]
        other = (self.gray[second] - self.mean[second, None]) * scale
        size[rows] = (gray - other).std(1) / spread
        near[rows] = np.abs(gray - other).max(1) <= _allowed(IN_PLACE, spread)
        rest = np.flatnonzero(~near[rows] & (size[rows] <= MOVED))
        near[rows[rest]] = _is_toned_or_shifted(halved(gray[rest]), halved(other[rest]),
                                                spread[rest])
        return near, size

    def _same_light(self, first, second):
        """Return whether brightness, contrast and colors are about the same."""
        ratio = self.spread[first] / self.spread[second]
        colors = self.color[first].astype(np.float32)
        many = colors.reshape(-1, 2, CHROMA_PX**2).std(2).mean(1)
        colors = np.abs(colors - self.color[second])
        return (
            (np.maximum(ratio, 1 / ratio) <= CONTRAST)
            & (np.abs(self.mean[first] - self.mean[second]) <= BRIGHTNESS)
            & (colors.mean(1) <= COLOR_MEAN[0] + COLOR_MEAN[1] * many)
            & (colors.max(1) <= COLOR_MOST[0] + COLOR_MOST[1] * many)
        )


def _allowed(levels: float, spread):
    """Return `levels` where the contrast is usual, less below: dark images differ by little."""
    return levels * np.minimum(1, (2 + spread) / 22)


def halved(gray):
    """Halve images, float [P, S * S] to [P, S / 2 * S / 2]: each value is the mean of four."""
    side = int(gray.shape[1] ** 0.5)
    return gray.reshape(-1, side // 2, 2, side // 2, 2).mean((2, 4)).reshape(-1, (side // 2) ** 2)


def _is_toned_or_shifted(first, second, spread):
    """Return whether another tone or a small shift and stretch is all that parts gray copies.

    Both are float [P, 256]; returns bool [P].
    """
    change = second - first
    rms = np.sqrt((change**2).mean(1))
    most = np.abs(change).max(1)
    shifted = (most <= TONE_PEAK * rms) & (rms <= TONE * spread)
    rows = np.flatnonzero((most <= PEAK * rms) & ~shifted)
    rest, shift, edges = _without_shift((first[rows] + second[rows]) / 2, change[rows])
    # What lies between the values is unknown: edges never fit quite.
    most = (np.abs(rest) - 0.2 * edges).max(1)
    left = np.sqrt((rest**2).mean(1))
    shifted[rows] = (
        (left <= UNEXPLAINED * rms[rows])
        & (left <= REST * spread[rows])
        & (most <= _allowed(SHIFTED, spread[rows]))
        & (SHIFT[0] <= shift)
        & (shift <= SHIFT[1])
    )
    return shifted


def _without_shift(middle, change):
    """Take the shift, stretch and brightness that explain a change best (least squares) out of it.

    Returns:
        The rest, float [P, 256] as both arguments, the largest shift in values, float [P], and how
        steep `middle` is, float [P, 256].
    """
    count, values = middle.shape
    side = int(values**0.5)
    square = middle.reshape(count, side, side)
    down, right = np.gradient(square, axis=(1, 2))
    place = np.linspace(-1, 1, side, dtype=np.float32)
    terms = [np.ones_like(square), square, right, right * place, down, down * place[:, None]]
    terms = np.stack(terms, 1).reshape(count, len(terms), values)
    # The identity keeps the equations solvable where an image has no edges in one direction.
    squares = terms @ terms.transpose(0, 2, 1) + np.eye(terms.shape[1], dtype=np.float32)
    weights = np.linalg.solve(squares, terms @ change[:, :, None])
    rest = change - (terms.transpose(0, 2, 1) @ weights)[:, :, 0]
    return rest, np.abs(weights[:, 2:, 0]).max(1), np.hypot(right, down).reshape(count, values)


# Groups of near-duplicates.

ORDERS, WINDOW = 16, 8
BLOCK, NEAREST = 16384, 8
HASH_BITS = 20  # of 128 may differ: a crop of 2 % changes 6 of them, another image 60
FLAT = 2.0  # standard deviation in gray levels; below it there is nothing to compare
CHAIN = 50  # the part of all images, one in 50, that a chain of slow changes may reach
CHAIN_LEAST = 10


def signature(image: Image.Image, turn: Image.Transpose | None = None) -> bytes:
    """Return small copies of an image (mode RGB or L) turned by `turn`.

    1152 bytes: gray 32x32, then Cb and Cr 8x8.
    """
    # HAMMING and not BOX: after the coarse reduction BOX would put the edges of its cells at uneven
    # places.
    small = image.resize((LUMA_PX, LUMA_PX), Image.Resampling.HAMMING, reducing_gap=3.0)
    small = small.convert("YCbCr")
    gray, *colors = (small if turn is None else small.transpose(turn)).split()
    coarse = [plane.resize((CHROMA_PX, CHROMA_PX), Image.Resampling.BOX) for plane in colors]
    return b"".join(plane.tobytes() for plane in (gray, *coarse))


def near_groups(signatures: Sequence[bytes]) -> list[int]:
    """Group near-duplicates.

    The groups do not depend on the order. An image belongs to a group if it is near any image in
    it, so a scene that changes slowly becomes a chain: it is cut where it would exceed 2 % of the
    images (at least 10); larger groups only take what is near their middle.

    Args:
        signatures: those of `signature()`; b"" and images of one color are near nothing, not even
            their equals.

    Returns:
        For each image the index of the first image of its group: itself, if it is near no other.
    """
    distinct = sorted({small for small in signatures if len(small) == SIGNATURE_BYTES})
    if not distinct:
        return list(range(len(signatures)))
    copies = Copies(np.frombuffer(b"".join(distinct), np.uint8).reshape(len(distinct), -1))
    numbers = {small: number for number, small in enumerate(distinct)
               if copies.spread[number] >= FLAT}
    images = Counter(numbers[small] for small in signatures if small in numbers)
    group_of = _merge(copies, images, max(CHAIN_LEAST, len(signatures) // CHAIN))
    first: dict[int, int] = {}
    return [first.setdefault(group_of(numbers[small]), index) if small in numbers else index
            for index, small in enumerate(signatures)]


def _merge(copies: Copies, images: Counter, chain: int) -> Callable[[int], int]:
    """Join the closest pairs first; return the function from a copy's number to its group's."""
    images, parent, apart = dict(images), {number: number for number in images}, set()

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for pair in _near_pairs(copies):
        small, large = sorted(map(root, pair), key=lambda number: (images[number], -number))
        if small == large or (small, large) in apart:
            continue
        # A root stands for the middle of its group: the closest images were joined to it first.
        if images[small] + images[large] > chain and not copies.compare([small], [large])[0][0]:
            apart.add((small, large))
            continue
        parent[small] = large
        images[large] += images[small]
    return root


def _near_pairs(copies: Copies) -> list[list[int]]:
    """Return pairs of numbers that are near, the closest first."""
    hashes = _hashes(copies)
    pairs = _proposed(hashes, np.flatnonzero(copies.spread >= FLAT))
    partners = np.bincount(pairs.ravel(), minlength=len(hashes))
    # Of images with many partners the window may have been too small for its equals.
    crowd = np.flatnonzero(partners >= WINDOW)
    crowd = crowd[np.lexsort(hashes[crowd].T)]
    blocks = [_nearest(copies, crowd[start : start + BLOCK])
              for start in range(0, len(crowd), BLOCK)]
    pairs = np.unique(np.concatenate([pairs, *blocks]), axis=0)
    near, size = copies.compare(pairs[:, 0], pairs[:, 1])
    return pairs[near][np.argsort(size[near], kind="stable")].tolist()


def _hashes(copies: Copies):
    """Return 128 bits of each image, uint8 [N, 16]: is the value at the right, below, brighter?"""

    def bits(gray):
        coarse = halved(halved(gray.astype(np.float32))).reshape(-1, 8, 8)
        # The last value looks at the first. A margin of one level: else noise on an even ground
        # would decide.
        return [np.roll(coarse, -1, axis) - coarse > 1 for axis in (2, 1)]

    parts = [copies.gray[start : start + 4096] for start in range(0, len(copies.gray), 4096)]
    return np.concatenate([np.packbits(np.concatenate(bits(part), 1).reshape(-1, 128), axis=1)
                           for part in parts])


def _proposed(hashes, numbers):
    """Return pairs, int64 [P, 2], whose hashes differ little and are neighbors in some order.

    That is, within WINDOW of each other in one of the orders. Order k sorts the hashes by their
    bytes from byte k on: what differs in some bytes is neighbors by the others.
    """
    count, words = len(hashes), hashes.view(np.uint64)
    codes = [np.empty(0, np.int64)]
    for turn in range(ORDERS):
        keys = np.ascontiguousarray(np.roll(hashes[numbers], -turn, 1)).view(">u8")
        order = numbers[np.lexsort((keys[:, 1], keys[:, 0]))]
        for step in range(1, WINDOW + 1):
            low, high = np.sort([order[:-step], order[step:]], axis=0)
            close = np.bitwise_count(words[low] ^ words[high]).sum(1) <= HASH_BITS
            codes.append(low[close] * count + high[close])
    codes = np.unique(np.concatenate(codes))
    return np.stack([codes // count, codes % count], 1)


def _nearest(copies: Copies, numbers):
    """Pair each of `numbers` with the NEAREST others by their gray copies, int64 [P, 2]."""
    gray = halved(copies.gray[numbers].astype(np.float32) - copies.mean[numbers, None])
    gray /= np.linalg.norm(gray, axis=1, keepdims=True) + 1e-6
    count, pairs = min(NEAREST, len(numbers) - 1), [np.empty((0, 2), np.int64)]
    # So many rows at a time take 32 MB, and not the square of the block.
    for start in range(0, len(numbers) if count else 0, 512):
        likeness = gray[start : start + 512] @ gray.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -2  # itself
        others = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        repeated = np.repeat(numbers[start + rows], count)
        pairs.append(np.stack([repeated, numbers[others.ravel()]], 1))
    return np.sort(np.concatenate(pairs), axis=1)

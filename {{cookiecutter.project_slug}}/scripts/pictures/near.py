"""Groups of near-identical pictures: one photograph recompressed, resized, slightly cropped or brightened.

Frames of a fixed camera differ in one small object, and a hash alone would call all of them the same. So a coarse hash
only proposes pairs, and a comparison of small copies (`likeness.py`) decides. A picture is compared with at most
2 * ORDERS * WINDOW others and, in a crowd of equal hashes, with the NEAREST of BLOCK: time and memory grow with the
number of pictures and not with its square.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from PIL import Image

from scripts.pictures.likeness import CHROMA_PX, LUMA_PX, SIGNATURE_BYTES, Copies, halved

ORDERS, WINDOW = 16, 8
BLOCK, NEAREST = 16384, 8
HASH_BITS = 20  # of 128 may differ: a crop of 2 % changes 6 of them, another picture 60
FLAT = 2.0  # standard deviation in grey levels; below it there is nothing to compare
CHAIN = 50  # the part of all pictures, one in 50, that a chain of slow changes may reach
CHAIN_LEAST = 10


def signature(image: Image.Image, turn: Image.Transpose | None = None) -> bytes:
    """Small copies of a picture (mode RGB or L) turned by `turn`: grey 32x32, then Cb and Cr 8x8, 1152 bytes."""
    # HAMMING and not BOX: after the coarse reduction BOX would put the edges of its cells at uneven places.
    small = image.resize((LUMA_PX, LUMA_PX), Image.Resampling.HAMMING, reducing_gap=3.0).convert("YCbCr")
    grey, *colours = (small if turn is None else small.transpose(turn)).split()
    coarse = [plane.resize((CHROMA_PX, CHROMA_PX), Image.Resampling.BOX) for plane in colours]
    return b"".join(plane.tobytes() for plane in (grey, *coarse))


def near_groups(signatures: Sequence[bytes]) -> list[int]:
    """For each picture the index of the first picture of its group: itself, if it is near no other.

    `signatures` are those of `signature()`; b"" and pictures of one colour are near nothing, not even their equals.
    Who is together does not depend on the order. A picture belongs to a group if it is near any picture in it, so a
    scene that changes slowly becomes a chain: it is cut where it would exceed 2 % of the pictures (at least 10);
    larger groups only take what is near their middle.
    """
    import numpy as np

    distinct = sorted({one for one in signatures if len(one) == SIGNATURE_BYTES})
    if not distinct:
        return list(range(len(signatures)))
    copies = Copies(np.frombuffer(b"".join(distinct), np.uint8).reshape(len(distinct), -1))
    numbers = {one: number for number, one in enumerate(distinct) if copies.spread[number] >= FLAT}
    pictures = Counter(numbers[one] for one in signatures if one in numbers)
    group_of = _merge(copies, pictures, max(CHAIN_LEAST, len(signatures) // CHAIN))
    first: dict[int, int] = {}
    return [
        first.setdefault(group_of(numbers[one]), index) if one in numbers else index
        for index, one in enumerate(signatures)
    ]


def _merge(copies: Copies, pictures: Counter, chain: int) -> Callable[[int], int]:
    """Join the closest pairs first. Returns the function from the number of a copy to that of its group."""
    pictures, parent, refused = dict(pictures), {number: number for number in pictures}, set()

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in _near_pairs(copies):
        small, large = sorted((root(one), root(other)), key=lambda number: (pictures[number], -number))
        if small == large or (small, large) in refused:
            continue
        # A root stands for the middle of its group: the closest pictures were joined to it first.
        if pictures[small] + pictures[large] > chain and not copies.compare([small], [large])[0][0]:
            refused.add((small, large))
            continue
        parent[small] = large
        pictures[large] += pictures[small]
    return root


def _near_pairs(copies: Copies) -> list[list[int]]:
    """Pairs of numbers that are near, the closest first."""
    import numpy as np

    hashes = _hashes(copies)
    pairs = _proposed(hashes, np.flatnonzero(copies.spread >= FLAT))
    partners = np.bincount(pairs.ravel(), minlength=len(hashes))
    crowd = np.flatnonzero(partners >= WINDOW)  # the window may have been too small for its equals
    crowd = crowd[np.lexsort(hashes[crowd].T)]
    blocks = [_nearest(copies, crowd[start : start + BLOCK]) for start in range(0, len(crowd), BLOCK)]
    pairs = np.unique(np.concatenate([pairs, *blocks]), axis=0)
    near, size = copies.compare(pairs[:, 0], pairs[:, 1])
    return pairs[near][np.argsort(size[near], kind="stable")].tolist()


def _hashes(copies: Copies):
    """128 bits of each picture, uint8 [N, 16]: is the value at its right brighter, is the one below?"""
    import numpy as np

    def bits(grey):
        coarse = halved(halved(grey.astype(np.float32))).reshape(-1, 8, 8)
        # The last value looks at the first. A margin of one level: else noise on an even ground would decide.
        return [np.roll(coarse, -1, axis) - coarse > 1 for axis in (2, 1)]

    parts = [copies.grey[start : start + 4096] for start in range(0, len(copies.grey), 4096)]
    return np.concatenate([np.packbits(np.concatenate(bits(part), 1).reshape(-1, 128), axis=1) for part in parts])


def _proposed(hashes, numbers):
    """Pairs, int64 [P, 2], whose hashes differ little and stand within WINDOW of each other in one of the orders.

    Order k sorts the hashes by their bytes from byte k on: what differs in some bytes is neighbours by the others.
    """
    import numpy as np

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
    """Each of `numbers` paired with the NEAREST others by the difference of their grey copies, int64 [P, 2]."""
    import numpy as np

    grey = halved(copies.grey[numbers].astype(np.float32) - copies.mean[numbers, None])
    grey /= np.linalg.norm(grey, axis=1, keepdims=True) + 1e-6
    count, pairs = min(NEAREST, len(numbers) - 1), [np.empty((0, 2), np.int64)]
    for start in range(0, len(numbers) if count else 0, 512):  # rows at a time: 32 MB, not the square of the block
        likeness = grey[start : start + 512] @ grey.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -2  # itself
        others = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        pairs.append(np.stack([np.repeat(numbers[start + rows], count), numbers[others.ravel()]], 1))
    return np.sort(np.concatenate(pairs), axis=1)

"""Whether two pictures are near-identical, from their small copies: many pairs at a time.

Either nothing moved: then no value of the grey copies differs by much, or all of them by little (another tone curve).
Or the view was cropped: then a small shift and stretch explains part of the difference everywhere, which no object
that moves in a fixed view does.
"""

LUMA_PX, CHROMA_PX = 32, 8  # sides of the small copies: 4 % of a picture is still more than one value wide
SIGNATURE_BYTES = LUMA_PX**2 + 2 * CHROMA_PX**2

CONTRAST, BRIGHTNESS = 1.25, 50.0  # largest ratio of the contrasts, and difference of the mean grey levels
# Largest difference in the colour planes, and what is added for each level of their own standard deviation.
COLOUR_MEAN, COLOUR_MOST = (3.0, 0.08), (16.0, 0.4)
IN_PLACE, SHIFTED = 12.0, 45.0  # largest difference of one grey value; less where contrast is low
SHIFT = (0.05, 0.6)  # what a crop moves, in values of the halved copy (16 a side)
TONE, TONE_PEAK = 0.07, 5.5  # as MOVED and PEAK below, where nothing moved and the tone curve is another
MOVED = 0.6  # largest difference, in parts of the contrast, that a crop makes
PEAK = 7.5  # largest difference in parts of the mean one (rms) that a crop makes; an object of 8 % or less: 8 to 16
UNEXPLAINED = 0.93  # part of the difference that a shift may leave; a moved object leaves 0.94 to 1
REST = 0.22  # what a shift leaves, in parts of the contrast; another picture leaves more than 0.8
_CHUNK = 1024  # pairs at a time: 20 MB


class Copies:
    """The small copies of N pictures.

    `small` is uint8 [N, SIGNATURE_BYTES]: grey values, then the two colour planes. `mean` and `spread` (standard
    deviation) are those of the grey values, float [N].
    """

    def __init__(self, small):
        import numpy as np

        self.grey, self.colour = small[:, : LUMA_PX**2], small[:, LUMA_PX**2 :]
        parts = (self.grey[start : start + _CHUNK].astype(np.float32) for start in range(0, len(small), _CHUNK))
        self.mean, self.spread = np.concatenate([(part.mean(1), part.std(1)) for part in parts], axis=1)

    def compare(self, one, other):
        """Which pairs are near (bool [P]) and how large their difference is (float [P], 0: none, inf: not looked at).

        `one` and `other` are numbers of pictures, int [P], of which none may be without contrast.
        """
        import numpy as np

        near, size = np.zeros(len(one), bool), np.full(len(one), np.inf, np.float32)
        for start in range(0, len(one), _CHUNK):
            part = slice(start, start + _CHUNK)
            near[part], size[part] = self._compare(np.asarray(one[part]), np.asarray(other[part]))
        return near, size

    def _compare(self, one, other):
        import numpy as np

        near, size = self._same_light(one, other), np.full(len(one), np.inf, np.float32)
        rows = np.flatnonzero(near)
        one, other = one[rows], other[rows]
        spread = self.spread[one]
        first = self.grey[one] - self.mean[one, None]
        second = (self.grey[other] - self.mean[other, None]) * (spread / self.spread[other])[:, None]
        size[rows] = (first - second).std(1) / spread
        near[rows] = np.abs(first - second).max(1) <= _allowed(IN_PLACE, spread)
        rest = np.flatnonzero(~near[rows] & (size[rows] <= MOVED))
        near[rows[rest]] = _is_toned_or_shifted(halved(first[rest]), halved(second[rest]), spread[rest])
        return near, size

    def _same_light(self, one, other):
        """Whether brightness, contrast and colours are about the same."""
        import numpy as np

        ratio = self.spread[one] / self.spread[other]
        colours = self.colour[one].astype(np.float32)
        many = colours.reshape(-1, 2, CHROMA_PX**2).std(2).mean(1)
        colours = np.abs(colours - self.colour[other])
        return (
            (np.maximum(ratio, 1 / ratio) <= CONTRAST)
            & (np.abs(self.mean[one] - self.mean[other]) <= BRIGHTNESS)
            & (colours.mean(1) <= COLOUR_MEAN[0] + COLOUR_MEAN[1] * many)
            & (colours.max(1) <= COLOUR_MOST[0] + COLOUR_MOST[1] * many)
        )


def _allowed(levels: float, spread):
    """`levels` where the contrast is usual, less below: everything in a dark picture differs by little."""
    import numpy as np

    return levels * np.minimum(1, (2 + spread) / 22)


def halved(grey):
    """Float [P, S * S] made half as large, [P, S / 2 * S / 2]: each value the mean of four."""
    side = int(grey.shape[1] ** 0.5)
    return grey.reshape(-1, side // 2, 2, side // 2, 2).mean((2, 4)).reshape(-1, (side // 2) ** 2)


def _is_toned_or_shifted(one, other, spread):
    """Whether only another tone or a small shift and stretch is between grey copies, both float [P, 256]; bool [P]."""
    import numpy as np

    change = other - one
    rms = np.sqrt((change**2).mean(1))
    most = np.abs(change).max(1)
    shifted = (most <= TONE_PEAK * rms) & (rms <= TONE * spread)
    rows = np.flatnonzero((most <= PEAK * rms) & ~shifted)
    rest, shift, edges = _without_shift((one[rows] + other[rows]) / 2, change[rows])
    most = (np.abs(rest) - 0.2 * edges).max(1)  # what lies between the values is unknown: edges never fit quite
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
    """The change less the shift, stretch and brightness that explain it best (least squares), all float [P, 256].

    Also the largest shift in values, float [P], and how steep `middle` is.
    """
    import numpy as np

    count, values = middle.shape
    side = int(values**0.5)
    square = middle.reshape(count, side, side)
    down, right = np.gradient(square, axis=(1, 2))
    place = np.linspace(-1, 1, side, dtype=np.float32)
    terms = [np.ones_like(square), square, right, right * place, down, down * place[:, None]]
    terms = np.stack(terms, 1).reshape(count, len(terms), values)
    # The identity keeps the equations solvable where a picture has no edges in one direction.
    squares = terms @ terms.transpose(0, 2, 1) + np.eye(terms.shape[1], dtype=np.float32)
    weights = np.linalg.solve(squares, terms @ change[:, :, None])
    rest = change - (terms.transpose(0, 2, 1) @ weights)[:, :, 0]
    return rest, np.abs(weights[:, 2:, 0]).max(1), np.hypot(right, down).reshape(count, values)

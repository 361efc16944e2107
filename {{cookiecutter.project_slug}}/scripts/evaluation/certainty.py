"""When a test split is too small to tell."""

from scripts.evaluation.evaluate import points

FEWEST_PICTURES = 20
"""With fewer, what is right or wrong in all of them looks certain, whatever the interval says."""
TOLD_AP = 0.05
"""What one wants to tell of a single model: five points of AP."""


def cannot_tell(pictures: int, interval: tuple[float, float] | None, told_ap: float = TOLD_AP) -> str:
    """A plain sentence when `pictures` test pictures leave AP, or a loss of it, open by more than `told_ap`, else "".

    `interval` is the 95 % interval, fractions 0..1; None when no AP is defined.
    """
    low, high = interval or (0.0, 1.0)
    if pictures >= FEWEST_PICTURES and (high - low) / 2 <= told_ap:
        return ""
    return f"{pictures:,} test pictures cannot tell {points(told_ap)} points of AP from chance"

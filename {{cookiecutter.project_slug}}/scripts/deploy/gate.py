"""The gate of the file that ships: whether it lost more AP than is allowed and chance explains."""

from scripts.core.text import points
from scripts.evaluation.intervals import cannot_tell

# Calibration images from which more of them hardly change the ranges.
ENOUGH_IMAGES = 200


def passes(drop: float | None, interval: tuple[float, float] | None, allowed: float) -> bool:
    """Return whether a file passes the gate; all arguments are fractions of AP.

    A loss over `allowed` fails when its 95 % interval lies above zero, that is when chance does not
    explain it. A loss over twice `allowed` always fails, and so does one that cannot be computed.
    """
    if drop is None or interval is None:
        return False
    return drop <= allowed or (drop <= 2 * allowed and interval[0] <= 0)


def refusal(row: dict, settings, images: int) -> str:
    """Return why the shipped file failed and what to try, in one line.

    Args:
        row: that of the file in `tflite/metrics.json`.
        settings: the table `[tflite]`.
        images: how many test images there are.
    """
    lost = "an AP that cannot be compared"
    if row["ap_drop"] is not None:
        low, high = (points(edge) for edge in row["ap_drop_interval"])
        lost = (f"{points(row['ap_drop'])} points of AP "
                f"(95 % interval {low} to {high} on {images} test images)")
    return (f"{settings.ship} loses {lost}, {points(settings.max_ap_drop)} are allowed: "
            f"{row['file']}: in detector.toml set {what_to_try(settings)}")


def what_to_try(settings) -> str:
    """Return the line of `[tflite]` that most likely helps a shipped file that lost too much."""
    if settings.ship in ("int8", "int8_raw") and settings.calibration_images < ENOUGH_IMAGES:
        return f"calibration_images = {ENOUGH_IMAGES}"
    if settings.ship in ("int8", "dynamic"):
        return 'ship = "int8_qat", and name it in variants'
    return 'ship = "float16", and name it in variants'


def summary(row: dict, allowed: float, images: int) -> str:
    """Return the figures of the shipped file that passed, in one line; arguments as for `refusal`.
    """
    # A file that passes although it lost more than is allowed does so by its interval.
    low, high = row["ap_drop_interval"]
    remark = ""
    if row["ap_drop"] > allowed:
        remark = ", more than is allowed, but chance explains it"
    too_small = cannot_tell(images, row["ap_drop_interval"], allowed)
    remark += f"; {too_small}" if too_small else ""
    return (f"{row['file']}: AP {points(row['AP'])}, "
            f"{points(row['ap_drop'])} points below the checkpoint "
            f"(95 % interval {points(low)} to {points(high)}{remark}), "
            f"{row['bytes'] / 1e6:.1f} MB, {row['latency_ms']['median']:.1f} ms here")


def variant_line(name: str, row: dict) -> str:
    """Return the line that `invoke tflite` prints when it has measured a variant."""
    return (f"  {name:<8} {row['bytes'] / 1e6:5.1f} MB  AP {points(row['AP']):>5}  "
            f"AP50 {points(row['AP50']):>5}  drop {points(row['ap_drop']):>5}  "
            f"{row['latency_ms']['median']:6.1f} ms")

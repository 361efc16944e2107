"""The resize of training in NumPy, so that a `.tflite` can be fed without TensorFlow.

Bilinear with half-pixel centres and without antialiasing, as `tf.image.resize` does it by default: neighbours, weights
and the order of operations are the same. Another resize costs accuracy (Pillow's antialiased one 0.4 points of AP).
"""


def stretch(rgb, side_px: int):
    """The picture uint8 [height, width, 3] stretched to float32 [side_px, side_px, 3], values 0..255, not rounded."""
    return stretch_to(rgb, side_px, side_px)


def stretch_to(rgb, height_px: int, width_px: int):
    """The same to float32 [height_px, width_px, 3]."""
    import numpy as np

    top, bottom, down = _neighbours(rgb.shape[0], height_px)
    left, right, across = _neighbours(rgb.shape[1], width_px)
    across, down = across[None, :, None], down[:, None, None]
    rows = {}
    for name, index in (("top", top), ("bottom", bottom)):
        # Columns are picked before the cast: only the pixels that are read become floats.
        near, far = (rgb[np.ix_(index, columns)].astype(np.float32) for columns in (left, right))
        rows[name] = near + (far - near) * across
    return rows["top"] + (rows["bottom"] - rows["top"]) * down


def _neighbours(size_px: int, side_px: int):
    """For each target pixel the two source pixels around its centre and the float32 weight of the second."""
    import numpy as np

    scale = np.float32(size_px) / np.float32(side_px)
    centre = (np.arange(side_px, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    lower = np.floor(centre)
    first = np.maximum(lower.astype(int), 0)
    second = np.minimum(np.ceil(centre).astype(int), size_px - 1)
    return first, second, centre - lower

"""Pictures in the page: small JPEG files in base64 in its one data element, made visible when looked at."""

import base64
import io
from pathlib import Path

from PIL import Image

QUALITY = 72


def jpeg_base64(image: Image.Image) -> str:
    """The picture as JPEG, without metadata, in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def opened(path: Path, side_px: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """The stored pixels, at most `side_px` a side, and the size in px of the file; None when it cannot be read."""
    from scripts.pictures.decode import open_shrunk

    try:
        return open_shrunk(path, side_px)
    except (OSError, ValueError):
        return None

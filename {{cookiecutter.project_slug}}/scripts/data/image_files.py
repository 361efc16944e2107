"""One image file: is it complete, what is it really, how is it turned.

Bytes are kept as they are. An image is re-encoded only when TensorFlow could not decode it, or when
`source.exif` asks for the upright view.
"""

import hashlib
import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from scripts.data.duplicates import signature

EXIF_ORIENTATION = 0x0112
# Kept byte for byte. TensorFlow decodes gray, CMYK, palette, RGBA and 16 bit versions of both
# (tried with 2.20).
_KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
# Lossy originals become JPEG (a PNG of a photo is five times as large), all others PNG.
_LOSSY = {"WEBP", "AVIF", "JPEG2000"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNED_SIDE_PX = 640


@dataclass(frozen=True)
class ImageFacts:
    """What one reading of an image file found.

    `sha256` is that of the file; `source_format` and `mode` are Pillow's names for what it holds;
    `format` (`jpeg`, `png`) and the sizes are those of the copy in `images/`; `orientation` is the
    EXIF tag (1: upright); `staged` is the file with the re-encoded bytes ("": bytes are kept);
    `signature` is what near-duplicates are found by (b"": not asked for); `complete` that
    TensorFlow too can decode the copy in `images/`; `error` says why the image cannot be used
    ("": it can).
    """

    sha256: str = ""
    source_format: str = ""
    mode: str = "RGB"
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    orientation: int = 1
    staged: str = ""
    staged_sha256: str = ""
    signature: bytes = b""
    complete: bool = False
    error: str = ""


def inspect_image(task: tuple[str, str, str]) -> ImageFacts:
    """Read an image file, for a process pool.

    `task` is its path, `source.exif`, and the folder for re-encoded bytes ("": none are written).
    """
    path, exif, staging = task
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return ImageFacts(error=f"cannot be opened: {error.strerror}")
    facts, encoded = inspect_bytes(data, exif, signed=bool(staging))
    if encoded is None or not staging:
        return facts
    digest = hashlib.sha256(encoded).hexdigest()
    target = Path(staging) / digest
    target.write_bytes(encoded)
    return replace(facts, staged=str(target), staged_sha256=digest)


def inspect_bytes(data: bytes, exif: str = "stored",
                  signed: bool = False) -> tuple[ImageFacts, bytes | None]:
    """Decode an image fully and return its facts, and its new bytes when it has to be re-encoded.

    Args:
        data: the content of the file.
        exif: `source.exif`; only "displayed" turns pixels.
        signed: also compute the signature, of the upright view, so that a turned copy of a
            photograph is known as the same.
    """
    facts = ImageFacts(sha256=hashlib.sha256(data).hexdigest())
    try:
        image = _open(data)
    except Exception as error:  # Pillow's plugins raise whatever their format makes them.
        return replace(facts, error=_why_not(data, error)), None
    source_format, mode = image.format or "", image.mode
    turn = exif_orientation(image)
    image_format = _KEPT.get(source_format) or ("jpeg" if source_format in _LOSSY else "png")
    image_signature = _signature(image, turn) if signed else b""
    upright = exif == "displayed" and turn != 1
    if upright:
        profile = image.info.get("icc_profile")
        image = image.transpose(_UPRIGHT[turn])
        image.info["icc_profile"] = profile
    kept = source_format in _KEPT and not upright and is_complete(data, image_format)
    encoded = None if kept else _encode(image, image_format)
    facts = replace(facts, source_format=source_format, mode=mode, format=image_format,
                    orientation=turn, width_px=image.width, height_px=image.height,
                    signature=image_signature, complete=is_complete(encoded or data, image_format))
    return facts, encoded


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for a malformed tag, which no viewer follows."""
    try:
        value = int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises SyntaxError, struct.error, TypeError on real phone files.
        return 1
    return value if 1 <= value <= 8 else 1


def swaps_sides(orientation: int) -> bool:
    """Return whether the upright view has width and height exchanged."""
    return orientation >= 5


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") would clip 16 bit values at 255.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about transparency in palettes, which RGB does not have
        return image.convert("RGB")


def _encode(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    profile = image.info.get("icc_profile")
    if image_format == "jpeg":
        _to_rgb(image).save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=profile)
    else:
        _to_rgb(image).save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about EXIF and size; what matters is a finding
        image = Image.open(io.BytesIO(data))
        image.load()
    return image


def _why_not(data: bytes, error: Exception) -> str:
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "it is a HEIC image (iPhone), which is not read here: export it as JPEG"
    reason = " ".join(str(error).split())
    if "cannot identify" in reason:
        return "its content is no image"
    return reason or type(error).__name__


def _signature(image: Image.Image, orientation: int) -> bytes:
    # Every second or third pixel of a large image is enough for a mean, and half of the time.
    size = tuple(min(side, _SIGNED_SIDE_PX) for side in image.size)
    thinned = image.resize(size, Image.Resampling.NEAREST)
    plain = thinned if thinned.mode in ("RGB", "L") else _to_rgb(thinned)
    return signature(plain, _UPRIGHT.get(orientation))


# Images to look at.


def open_upright(data: bytes) -> Image.Image:
    """Decode an image in RGB as viewers show it, turned by its EXIF orientation.

    Raises:
        ValueError: it cannot be read; the text says why.
    """
    try:
        image = _open(data)
        turn = exif_orientation(image)
        return _to_rgb(image if turn == 1 else image.transpose(_UPRIGHT[turn]))
    except Exception as error:  # Pillow's plugins raise whatever their format makes them.
        raise ValueError(_why_not(data, error)) from error


def open_shrunk(path: Path, side_px: int) -> tuple[Image.Image, tuple[int, int]]:
    """Decode the stored pixels in RGB with the longer side at most `side_px`; EXIF is not applied.

    A large JPEG is decoded at a half, a quarter or an eighth, which takes that much less memory.

    Returns:
        The image, and the size in px that it really has.

    Raises:
        ValueError: it cannot be read; the text says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path)
            size = image.size
            scale = min(1.0, side_px / max(size))
            target = tuple(max(1, round(side * scale)) for side in size)
            image.draft(None, target)
            return _to_rgb(image).resize(target, Image.Resampling.LANCZOS), size
    except Exception as error:  # Pillow's plugins raise whatever their format makes them.
        start = path.read_bytes()[:64] if path.is_file() else b""
        raise ValueError(_why_not(start, error)) from error


# Completeness. Pillow takes some damaged files that TensorFlow refuses: a JPEG whose end mark is
# gone or swallowed by damage inside, a PNG with a wrong checksum. Of 120,000 damaged files the two
# agreed on all that passed this test.

# After 0xFF within the image data of a JPEG: an escaped 0xFF, fill bytes, restart marks. All others
# end the data.
_INSIDE = frozenset((0x00, 0xFF, *range(0xD0, 0xD8)))


def is_complete(data: bytes, image_format: str) -> bool:
    """Return whether the structure of a `jpeg` or `png` file is sound up to its end mark."""
    return _is_complete_jpeg(data) if image_format == "jpeg" else _is_complete_png(data)


def _is_complete_jpeg(data: bytes) -> bool:
    # Without its escapes, image data is searched at the speed of memory; positions stay.
    unescaped = data.replace(b"\xff\x00", b"\0\0")
    at = 2
    while data[at : at + 1] == b"\xff":
        while data[at + 1 : at + 2] == b"\xff":
            at += 1
        mark, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if mark == b"\xd9":
            return True
        if mark == b"\0" or length < 2:
            return False
        at += 2 + length
        if mark == b"\xda":
            at = _end_of_data(unescaped, at)
    return False


def _end_of_data(unescaped: bytes, at: int) -> int:
    """Return where the image data that begins at `at` ends: at a mark, or with the file."""
    at = unescaped.find(b"\xff", at)
    while 0 <= at < len(unescaped) - 1 and unescaped[at + 1] in _INSIDE:
        at = unescaped.find(b"\xff", at + 1)
    return at if at >= 0 else len(unescaped)


def _is_complete_png(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


# Taking the EXIF turn out of an image without touching a pixel.

_SHORT = 3  # TIFF's type of a 16 bit number
_XMP = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")


def without_turn(data: bytes) -> bytes | None:
    """Return a JPEG or PNG with orientation 1, its pixels untouched.

    None when its tag is not found where cameras write it.
    """
    patched = bytearray(_XMP.sub(rb"\g<1>1", data))
    for marker in (b"Exif\x00\x00", b"eXIf"):
        start = patched.find(marker)
        if start >= 0:
            _set_upright(patched, start + len(marker))
    if patched[:4] == b"\x89PNG":
        _renew_checksum(patched)
    return bytes(patched) if _is_upright(bytes(patched)) else None


def _set_upright(data: bytearray, tiff: int) -> None:
    """Write 1 into the orientation of the first directory of the TIFF header at `tiff`."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[tiff : tiff + 2]))
    if not order:
        return
    try:
        directory = tiff + struct.unpack_from(order + "I", data, tiff + 4)[0]
        for entry in range(struct.unpack_from(order + "H", data, directory)[0]):
            at = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag == EXIF_ORIENTATION and kind == _SHORT:
                struct.pack_into(order + "H", data, at + 8, 1)
    except struct.error:
        return  # a directory that points beyond the file


def _renew_checksum(data: bytearray) -> None:
    """Give the chunks `eXIf` and `iTXt` of a PNG the checksum of their new content."""
    at = 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        end = at + 8 + length
        if data[at + 4 : at + 8] in (b"eXIf", b"iTXt") and end + 4 <= len(data):
            struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


def _is_upright(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return exif_orientation(image) == 1
    except Exception:  # Pillow's plugins raise whatever their format makes them.
        return False

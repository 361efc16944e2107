"""Taking the EXIF turn out of a picture without touching a pixel."""

import io
import re
import struct
import zlib

from PIL import Image

from scripts.pictures.decode import EXIF_ORIENTATION, exif_orientation

_SHORT = 3  # TIFF's type of a 16 bit number
_XMP = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")


def without_turn(data: bytes) -> bytes | None:
    """The same JPEG or PNG with orientation 1; None when its tag is not found where cameras write it."""
    patched = bytearray(_XMP.sub(rb"\g<1>1", data))
    for marker in (b"Exif\x00\x00", b"eXIf"):
        start = patched.find(marker)
        if start >= 0:
            _set_upright(patched, start + len(marker))
    if patched[:4] == b"\x89PNG":
        _renew_checksum(patched)
    return bytes(patched) if _is_upright(bytes(patched)) else None


def _set_upright(data: bytearray, tiff: int) -> None:
    """Write 1 into the orientation of the first directory of the TIFF header at `tiff`, if there is one."""
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

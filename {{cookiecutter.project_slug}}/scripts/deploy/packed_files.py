"""The files that follow the network in a `.tflite`, in an uncompressed zip: labels and provenance.

The network and its metadata end where the zip begins, so the files can be renewed and every other byte stays.
"""

import io
import json
import zipfile
from pathlib import Path

PROVENANCE = "provenance.json"


def with_files(network: bytes, files: dict[str, str]) -> bytes:
    """The network followed by an uncompressed zip, which is the only kind that MediaPipe reads."""
    buffer = io.BytesIO(network)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980: the file does not depend on the hour
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode("utf-8"))
    return buffer.getvalue()


def provenance_text(provenance: dict) -> str:
    """The content of `provenance.json`."""
    return json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def split_files(data: bytes) -> tuple[bytes, dict[str, str]]:
    """The network with its metadata, and the files behind it by name; ({} for a `.tflite` without any)."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data, {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = min((entry.header_offset for entry in archive.infolist()), default=len(data))
        return data[:start], {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def provenance_of(path: Path) -> dict:
    """What `provenance.json` in a `.tflite` says; {} for any other file, a folder, or when there is none."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(PROVENANCE)) if PROVENANCE in archive.namelist() else {}


def with_more_provenance(data: bytes, more: dict) -> bytes:
    """The `.tflite` with `more` in its `provenance.json`; the network, its metadata and the labels keep every byte."""
    network, files = split_files(data)
    provenance = json.loads(files.get(PROVENANCE, "{}")) | more
    return with_files(network, files | {PROVENANCE: provenance_text(provenance)})

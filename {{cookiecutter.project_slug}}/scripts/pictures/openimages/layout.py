"""Where Open Images keeps what, by version, and where we keep it."""

import hashlib
from pathlib import Path

SPLITS = ("train", "validation", "test")
FOLDER = "images/source/openimages"
CLASSES_FILE = "class-descriptions-boxable.csv"
BOXES_FILE = "boxes.csv"
ATTRIBUTION_FILE = "ATTRIBUTION.csv"
# Folders with a dot are skipped by whoever reads a source: what is in them is not labelled data.
METADATA = ".metadata"
UNUSED = ".unused"

HIERARCHY = "2018_04/bbox_labels_600_hierarchy.json"
_V4_BOXES = "2018_04/{split}/{split}-annotations-bbox.csv"
_V5_BOXES = "v5/{split}-annotations-bbox.csv"
_V6_TRAIN = "v6/oidv6-train-annotations-bbox.csv"
_V5_CLASSES = "v5/class-descriptions-boxable.csv"
# Classes, boxes of train, boxes of validation and test. Later versions took over what they did not change.
_FILES = {
    "v4": ("2018_04/class-descriptions-boxable.csv", _V4_BOXES, _V4_BOXES),
    "v5": (_V5_CLASSES, _V4_BOXES, _V5_BOXES),
    "v6": (_V5_CLASSES, _V6_TRAIN, _V5_BOXES),
    "v7": ("v7/oidv7-class-descriptions-boxable.csv", _V6_TRAIN, _V5_BOXES),
}


def classes_path(version: str) -> str:
    """Path of the list of classes below `metadata_url`; `version` is v4, v5, v6 or v7."""
    return _FILES[version][0]


def boxes_path(version: str, split: str) -> str:
    """Path of the boxes of a split below `metadata_url`."""
    return _FILES[version][1 if split == "train" else 2].format(split=split)


def images_path(split: str) -> str:
    """Path of authors, licences and addresses of a split below `metadata_url`; the same for all versions."""
    # The list of all training pictures, boxes or not, is four times as long.
    boxable = "-boxable" if split == "train" else ""
    return f"2018_04/{split}/{split}-images{boxable}-with-rotation.csv"


def metadata_folder(root: Path, version: str, metadata_url: str) -> Path:
    """Folder of the filtered metadata. Another version or another server has another folder: slices never mix."""
    digest = hashlib.sha256(metadata_url.rstrip("/").encode()).hexdigest()[:8]
    return root / FOLDER / METADATA / f"{version}-{digest}"


def picture_path(root: Path, split: str, image_id: str) -> Path:
    """Where a picture is kept once it is whole."""
    return root / FOLDER / split / f"{image_id}.jpg"


def join_url(base: str, path: str) -> str:
    """`base` with or without a slash at its end, and a path below it."""
    return f"{base.rstrip('/')}/{path}"

"""Images in the page: small JPEG files in base64, with their boxes as thousandths of the image.

Whole test images for the slider, and crops of mistakes and of labels that look wrong. The page
holds as many as it can, those with most mistakes first. `templates/report.js` draws the boxes.
"""

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from scripts.core.runtime import map_items
from scripts.data.image_files import open_shrunk
from scripts.report.scores import IGNORED, RIGHT, WRONG, Counts, Found

QUALITY = 72
EXAMPLES, EXAMPLE_PX = 200, 320
CROPS, CROPS_A_CAUSE, SUSPECTS, CROP_PX = 120, 24, 20, 200
MARGIN = 0.5
"""Shown around the boxes in a crop, as a fraction of their longer side."""

LEAST_PX = 32
"""Side of the smallest crop: less shows nothing."""

DECODED_PX = 1600
"""A crop is cut from the image shrunk to this: a small object in a large photograph keeps its
pixels."""

FALSE_ALARM, ON_CROWD = -1, -2
"""In place of the number of a label: WRONG and IGNORED of `templates/report.js`."""

Edges = Sequence[float]


def jpeg_base64(image: Image.Image) -> str:
    """Return the image as JPEG, without metadata, in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def opened(path: Path, side_px: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """Return the stored pixels, at most `side_px` a side, and the size in px of the file; None when
    it cannot be read."""
    try:
        return open_shrunk(path, side_px)
    except (OSError, ValueError):
        return None


# Test images with all their boxes.


def examples(groundtruth: dict, counts: Counts, start_score: float, folder: Path) -> list[dict]:
    """Choose the EXAMPLES images with most mistakes at the score with which the page opens.

    Args:
        groundtruth: in COCO form.
        counts: of the same images.
        start_score: 0..1.
        folder: holds the image files.

    Returns:
        The images, worst first: `truth` [class, x, y, w, h, crowd], `found` [class, hundredths of
        the score, x, y, w, h, the number of the label that it found, or FALSE_ALARM or ON_CROWD].
        An image that cannot be read has an empty `jpeg`.
    """
    start = round(100 * start_score)
    labels: dict[int, list[dict]] = {row["id"]: [] for row in groundtruth["images"]}
    for row in groundtruth["annotations"]:
        labels[row["image_id"]].append(row)

    def worst_first(image: dict) -> tuple[int, str]:
        states = [found.state for found in counts.found[image["id"]] if found.hundredth >= start]
        missed = sum(not row["iscrowd"] for row in labels[image["id"]]) - states.count(RIGHT)
        return -(states.count(WRONG) + missed), image["file_name"]

    images = sorted(groundtruth["images"], key=worst_first)[:EXAMPLES]
    jpegs = map_items(_thumbnail, [folder / image["file_name"] for image in images], "images")
    numbers = {row["id"]: number for number, row in enumerate(groundtruth["categories"])}
    return [{"file": f"images/test/{image['file_name']}", "jpeg": jpeg,
             "size": [image["width"], image["height"]],
             **_boxes(image, labels[image["id"]], counts.found[image["id"]], numbers)}
            for image, jpeg in zip(images, jpegs, strict=True)]


def _boxes(image: dict, labels: list[dict], detections: list[Found],
           numbers: dict[int, int]) -> dict:
    scale = (1000 / image["width"], 1000 / image["height"]) * 2
    places = {row["id"]: number for number, row in enumerate(labels)}

    def thousandths(xywh_px) -> list[int]:
        return [round(value * factor) for value, factor in zip(xywh_px, scale, strict=True)]

    def label_of(found: Found) -> int:
        of_state = {WRONG: FALSE_ALARM, IGNORED: ON_CROWD}
        return of_state.get(found.state, places.get(found.annotation_id))

    return {
        "truth": [[numbers[row["category_id"]], *thousandths(row["bbox"]), row["iscrowd"]]
                  for row in labels],
        "found": [[found.class_number, found.hundredth, *thousandths(found.xywh_px),
                   label_of(found)]
                  for found in detections if found.hundredth >= 1],  # the slider goes no lower
    }


def _thumbnail(path: Path) -> str:
    found = opened(path, EXAMPLE_PX)
    return jpeg_base64(found[0]) if found else ""


# Crops of mistakes and of labels that look wrong, with the label's and the detector's box.


def chosen_errors(errors: list[dict]) -> list[dict]:
    """Return the CROPS worst mistakes and the CROPS_A_CAUSE worst of each cause, in their order."""
    of_cause: dict[str, int] = {}
    chosen = []
    for place, row in enumerate(errors):
        of_cause[row["cause"]] = of_cause.get(row["cause"], 0) + 1
        if place < CROPS or of_cause[row["cause"]] <= CROPS_A_CAUSE:
            chosen.append(row)
    return chosen


def error_crops(errors: list[dict], folder: Path) -> list[dict]:
    """Return the chosen mistakes of `eval/errors.json`; their file names are relative to `folder`.
    """
    keys = ("cause", "file", "class", "truth_class", "score", "iou", "annotation", "line")
    return _with_crops(chosen_errors(errors), keys, ("truth_box_xyxy_px", "box_xyxy_px"), folder)


def suspect_crops(suspects: list[dict], folder: Path) -> list[dict]:
    """Return the first SUSPECTS label issues of `eval/suspects.json`, as `error_crops` does."""
    keys = ("rank", "kind", "suspicion", "split", "file", "annotation", "line", "class",
            "suggested_class", "why")
    return _with_crops(suspects[:SUSPECTS], keys, ("box_xyxy_px", "suggested_box_xyxy_px"), folder)


def _with_crops(rows: list[dict], keys: Sequence[str], box_keys: tuple[str, str],
                folder: Path) -> list[dict]:
    """The `keys` of each row and its crop; each image is opened once."""
    by_file: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_file.setdefault(row["file"], []).append(place)
    jobs = [(file, [tuple(rows[place][key] for key in box_keys) for place in places])
            for file, places in by_file.items()]
    made = map_items(partial(_crops_of, folder), jobs, "crops")
    shown: list[dict] = [{}] * len(rows)
    for places, crops in zip(by_file.values(), made, strict=True):
        for place, crop in zip(places, crops, strict=True):
            shown[place] = {key: rows[place][key] for key in keys} | crop
    return shown


def _crops_of(folder: Path, job: tuple[str, list[tuple[Edges | None, Edges | None]]]) -> list[dict]:
    """A crop for each pair of boxes, with an empty `jpeg` where the image cannot be read."""
    file, pairs = job
    found = opened(folder / file, DECODED_PX)
    if not found:
        return [{"jpeg": "", "size": [1, 1], "label": None, "box": None} for _ in pairs]
    image, size_px = found
    scale = (image.width / size_px[0], image.height / size_px[1]) * 2

    def scaled(box: Edges | None) -> list[float] | None:
        return [edge * factor for edge, factor in zip(box, scale, strict=True)] if box else None

    return [_crop(image, scaled(label), scaled(box)) for label, box in pairs]


def _crop(image: Image.Image, label: Edges | None, box: Edges | None) -> dict:
    """`image` around both boxes (pixels of `image`), at most CROP_PX a side."""
    left, top, right, bottom = window(image.size, [edges for edges in (label, box) if edges])
    crop = image.crop((left, top, right, bottom))
    shrink = min(1.0, CROP_PX / max(crop.size))
    small_size = [max(1, round(side * shrink)) for side in crop.size]
    small = crop.resize(small_size, Image.Resampling.LANCZOS)

    def inside(edges: Edges | None) -> list[int] | None:
        if not edges:
            return None
        xmin, xmax = (round(1000 * (edge - left) / crop.width) for edge in edges[0::2])
        ymin, ymax = (round(1000 * (edge - top) / crop.height) for edge in edges[1::2])
        return [xmin, ymin, xmax - xmin, ymax - ymin]

    return {"jpeg": jpeg_base64(small), "size": list(crop.size), "label": inside(label),
            "box": inside(box)}


def window(size: tuple[int, int], boxes: list[Edges]) -> tuple[int, int, int, int]:
    """Return xyxy in px of a part of an image of `size`, near a square, that shows all `boxes`
    (xyxy px) with MARGIN around them."""
    if not boxes:
        return 0, 0, *size
    xmin, ymin = (min(box[axis] for box in boxes) for axis in (0, 1))
    xmax, ymax = (max(box[axis] for box in boxes) for axis in (2, 3))
    half = max(LEAST_PX, max(xmax - xmin, ymax - ymin) * (1 + 2 * MARGIN)) / 2
    edges = []
    for low, high, side in ((xmin, xmax, size[0]), (ymin, ymax, size[1])):
        middle = (low + high) / 2
        edges.append((int(max(0, min(side - 1, middle - half))),
                      int(max(1, min(side, round(middle + half))))))
    (left, right), (top, bottom) = edges
    return left, top, max(right, left + 1), max(bottom, top + 1)

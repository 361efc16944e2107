"""Crops of mistakes and of labels that look wrong, with both boxes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from scripts.pictures.pool import map_items
from scripts.report.material import Material
from scripts.report.thumbnails import jpeg_base64, opened

CROPS, CROPS_A_CAUSE, SUSPECTS, CROP_PX = 120, 24, 20, 200
MARGIN = 0.5
"""Of the longer side of the boxes, shown around them in a crop."""

LEAST_PX = 32
"""Side of the smallest crop: less shows nothing."""

DECODED_PX = 1600
"""A crop is cut from the picture shrunk to this: a small thing in a large photograph keeps its pixels."""

Edges = Sequence[float]


def chosen_errors(errors: dict) -> list[dict]:
    """The CROPS worst mistakes and the CROPS_A_CAUSE worst of each cause, in the order of `eval/errors.json`."""
    of_cause: dict[str, int] = {}
    chosen = []
    for place, row in enumerate(errors["errors"]):
        of_cause[row["cause"]] = of_cause.get(row["cause"], 0) + 1
        if place < CROPS or of_cause[row["cause"]] <= CROPS_A_CAUSE:
            chosen.append(row)
    return chosen


def error_crops(material: Material) -> list[dict]:
    """The chosen mistakes as the page shows them."""
    keys = ("cause", "file", "class", "truth_class", "score", "iou", "annotation", "line")
    rows = chosen_errors(material.errors) if material.errors else []
    crops = _crops(material.root, [(row["file"], row["truth_box_xyxy_px"], row["box_xyxy_px"]) for row in rows])
    return [{key: row[key] for key in keys} | crop for row, crop in zip(rows, crops, strict=True)]


def suspect_crops(material: Material) -> list[dict]:
    """The first SUSPECTS labels that look wrong, as the page shows them."""
    keys = ("rank", "kind", "suspicion", "split", "file", "annotation", "line", "class", "suggested_class", "why")
    rows = material.suspects["suspects"][:SUSPECTS] if material.suspects else []
    crops = _crops(material.root, [(row["file"], row["box_xyxy_px"], row["suggested_box_xyxy_px"]) for row in rows])
    return [{key: row[key] for key in keys} | crop for row, crop in zip(rows, crops, strict=True)]


def _crops(root: Path, wanted: list[tuple[str, Edges | None, Edges | None]]) -> list[dict]:
    """A crop for each file with the label's and the detector's box; each picture is opened once."""
    by_file: dict[str, list[int]] = {}
    for place, (file, *_) in enumerate(wanted):
        by_file.setdefault(file, []).append(place)
    jobs = [(file, [wanted[place][1:] for place in places]) for file, places in by_file.items()]
    crops: list[dict] = [{}] * len(wanted)
    for places, made in zip(by_file.values(), map_items(partial(_crops_of_one, root), jobs, "crops"), strict=True):
        for place, crop in zip(places, made, strict=True):
            crops[place] = crop
    return crops


def _crops_of_one(root: Path, job: tuple[str, list[tuple[Edges | None, Edges | None]]]) -> list[dict]:
    """`jpeg`, `size` in px of the crop, `label` and `box` in thousandths of it; "" where the picture cannot be read."""
    file, pairs = job
    found = opened(root / file, DECODED_PX)
    if not found:
        return [{"jpeg": "", "size": [1, 1], "label": None, "box": None} for _ in pairs]
    image, size_px = found
    scale = image.width / size_px[0], image.height / size_px[1]
    return [_crop(image, *([edge * scale[index % 2] for index, edge in enumerate(box)] if box else None
                           for box in pair)) for pair in pairs]


def _crop(image: Image.Image, label: Edges | None, box: Edges | None) -> dict:
    """`image` around both boxes (pixels of `image`), at most CROP_PX a side."""
    left, top, right, bottom = window(image.size, [one for one in (label, box) if one])
    crop = image.crop((left, top, right, bottom))
    shrink = min(1.0, CROP_PX / max(crop.size))
    small = crop.resize([max(1, round(side * shrink)) for side in crop.size], Image.Resampling.LANCZOS)

    def inside(edges: Edges | None) -> list[int] | None:
        if not edges:
            return None
        xmin, xmax = (round(1000 * (edge - left) / crop.width) for edge in edges[0::2])
        ymin, ymax = (round(1000 * (edge - top) / crop.height) for edge in edges[1::2])
        return [xmin, ymin, xmax - xmin, ymax - ymin]

    return {"jpeg": jpeg_base64(small), "size": list(crop.size), "label": inside(label), "box": inside(box)}


def window(size: tuple[int, int], boxes: list[Edges]) -> tuple[int, int, int, int]:
    """xyxy in px of a part of a picture of `size` that shows all `boxes` (xyxy px) and MARGIN around, near a square."""
    if not boxes:
        return 0, 0, *size
    xmin, ymin = (min(box[axis] for box in boxes) for axis in (0, 1))
    xmax, ymax = (max(box[axis] for box in boxes) for axis in (2, 3))
    half = max(LEAST_PX, max(xmax - xmin, ymax - ymin) * (1 + 2 * MARGIN)) / 2
    edges = []
    for low, high, side in ((xmin, xmax, size[0]), (ymin, ymax, size[1])):
        middle = (low + high) / 2
        edges.append((int(max(0, min(side - 1, middle - half))), int(max(1, min(side, round(middle + half))))))
    (left, right), (top, bottom) = edges
    return left, top, max(right, left + 1), max(bottom, top + 1)

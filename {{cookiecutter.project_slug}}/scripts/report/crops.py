"""Images in the page: small JPEG files in base64 in its one data element, made visible when looked
at."""

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from scripts.core.runtime import map_items
from scripts.core.text import counted
from scripts.data.image_files import open_shrunk
from scripts.report.html import Html, paragraph, row_name, tag
from scripts.report.material import Material, missing_text
from scripts.report.scores import IGNORED, RIGHT, WRONG, Counts, Found

QUALITY = 72


def jpeg_base64(image: Image.Image) -> str:
    """The image as JPEG, without metadata, in base64."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def opened(path: Path, side_px: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """The stored pixels, at most `side_px` a side, and the size in px of the file; None when it
    cannot be read."""
    try:
        return open_shrunk(path, side_px)
    except (OSError, ValueError):
        return None


# Crops of mistakes and of labels that look wrong, with both boxes.

CROPS, CROPS_A_CAUSE, SUSPECTS, CROP_PX = 120, 24, 20, 200
MARGIN = 0.5
"""Of the longer side of the boxes, shown around them in a crop."""

LEAST_PX = 32
"""Side of the smallest crop: less shows nothing."""

DECODED_PX = 1600
"""A crop is cut from the image shrunk to this: a small thing in a large photograph keeps its
pixels."""

Edges = Sequence[float]


def chosen_errors(errors: dict) -> list[dict]:
    """The CROPS worst mistakes and the CROPS_A_CAUSE worst of each cause, in the order of
    `eval/errors.json`."""
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
    """A crop for each file with the label's and the detector's box; each image is opened once."""
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
    """`jpeg`, `size` in px of the crop, `label` and `box` in thousandths of it; "" where the image
    cannot be read."""
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
    """xyxy in px of a part of an image of `size` that shows all `boxes` (xyxy px) and MARGIN
    around, near a square."""
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


# Test images with all their boxes, for the slider: so many as a page can hold, those with most
# mistakes first.

EXAMPLES, EXAMPLE_PX = 200, 320

FALSE_ALARM, ON_CROWD = -1, -2
"""In place of the number of a label, as `page/report.js` knows them."""


def examples(material: Material, counts: Counts) -> list[dict]:
    """The EXAMPLES images with most mistakes at the starting score, worst first, with their boxes.

    Boxes are thousandths of the image: `truth` [class, x, y, w, h, crowd], `found` [class,
    hundredths of the score, x, y, w, h, the number of the label that it found, or FALSE_ALARM or
    ON_CROWD]. An image that cannot be read has an empty `jpeg`.
    """
    start = round(100 * material.start_score)
    labels: dict[int, list[dict]] = {row["id"]: [] for row in material.groundtruth["images"]}
    for row in material.groundtruth["annotations"]:
        labels[row["image_id"]].append(row)

    def mistakes(image: dict) -> tuple[int, str]:
        shown = [one.state for one in counts.found[image["id"]] if one.hundredth >= start]
        boxes = sum(not row["iscrowd"] for row in labels[image["id"]])
        return -(shown.count(WRONG) + boxes - shown.count(RIGHT)), image["file_name"]

    images = sorted(material.groundtruth["images"], key=mistakes)[:EXAMPLES]
    paths = [material.root / "images/test" / image["file_name"] for image in images]
    numbers = {row["id"]: number for number, row in enumerate(material.groundtruth["categories"])}
    return [_example(image, jpeg, labels[image["id"]], counts.found[image["id"]], numbers)
            for image, jpeg in zip(images, map_items(_thumbnail, paths, "images"), strict=True)]


def _example(image: dict, jpeg: str, labels: list[dict], found: list[Found], numbers: dict[int, int]) -> dict:
    scale = (1000 / image["width"], 1000 / image["height"]) * 2
    place = {row["id"]: number for number, row in enumerate(labels)}

    def thousandths(xywh_px) -> list[int]:
        return [round(value * factor) for value, factor in zip(xywh_px, scale, strict=True)]

    def label_of(one: Found) -> int:
        return {WRONG: FALSE_ALARM, IGNORED: ON_CROWD}.get(one.state, place.get(one.annotation_id))

    return {
        "file": f"images/test/{image['file_name']}", "jpeg": jpeg, "size": [image["width"], image["height"]],
        "truth": [[numbers[row["category_id"]], *thousandths(row["bbox"]), row["iscrowd"]] for row in labels],
        "found": [[one.class_number, one.hundredth, *thousandths(one.xywh_px), label_of(one)]
                  for one in found if one.hundredth >= 1],  # the slider goes no lower
    }


def _thumbnail(path: Path) -> str:
    found = opened(path, EXAMPLE_PX)
    return jpeg_base64(found[0]) if found else ""


# The slider of the lowest score, the counts that follow it, and the place of the examples.

COLUMNS = ("right", "false", "missed", "precision", "recall", "F1")


def example_parts(material: Material, shown: int) -> list[Html]:
    """Slider, summary, table of counts and filters; numbers and images are filled in by the page's
    script."""
    if not material.scored:
        return [paragraph(missing_text("No examples", "detections"))]
    whole = len(material.groundtruth["images"])
    remark = (f"{shown:,} of {whole:,} test images are in this page, those with most mistakes; the counts are of all."
              if shown < whole else f"All {counted(whole, 'test image')}, those with most mistakes first.")
    return [
        paragraph("Move the lowest score: boxes below it are not shown. Right: a box of the right class that overlaps "
                  "a label by half (IoU 0.5). " + remark, "remark"),
        tag("div", _slider(material), _summary(), class_="bar-top"),
        _table(material), _filters(material),
        tag("div", id="example-list", class_="images"),
        tag("button", "Show more", id="more-examples", class_="more", type="button"),
    ]


def _slider(material: Material) -> Html:
    start = round(100 * material.start_score)
    advised = {}
    if material.analysis:
        of_all = material.analysis["thresholds"]["all"]
        titles = (("best_f1", "best F1"), ("best_cost", "least cost"))
        advised = {title: of_all[key]["score"] for key, title in titles if of_all.get(key)}
    buttons = [tag("button", f"{title}: {score:.2f}", type="button", data_score=round(100 * score))
               for title, score in advised.items()]
    slider = tag("input", type="range", id="score", min=1, max=99, step=1, value=start, aria_label="lowest score")
    return tag("div", tag("label", "Score from ", slider, tag("output", f"{start / 100:.2f}", id="score-now"),
                          class_="score"), *buttons, class_="row")


def _summary() -> Html:
    def now(name: str) -> Html:
        return tag("output", id=f"now-{name}")

    return tag("div", tag("span", now("right"), " right", class_="right-text"),
               tag("span", now("false"), " false alarms", class_="wrong-text"),
               tag("span", now("missed"), " missed", class_="miss-text"),
               tag("span", "precision ", now("precision")), tag("span", "recall ", now("recall")),
               tag("span", "F1 ", now("f1")), class_="row")


def _table(material: Material) -> Html:
    """Rows without numbers: the script writes them for the score that the slider shows."""
    def row(name: str, **attributes) -> Html:
        return tag("tr", row_name(name), *(tag("td", class_="number") for _ in COLUMNS), **attributes)

    head = tag("tr", tag("th", "class"), *(tag("th", name, class_="number") for name in COLUMNS))
    body = tag("tbody", *(row(name) for name in material.classes), id="class-counts")
    whole = tag("tbody", row("all", id="all-counts"))
    return tag("div", tag("table", tag("thead", head), whole, body, aria_label="Counts"), class_="wide")


def _filters(material: Material) -> Html:
    options = [tag("option", "all classes", value="")]
    options += [tag("option", name, value=number) for number, name in enumerate(material.classes)]
    keys = (("", "right"), ("wrong", "false alarm"), ("missed", "missed label"), ("label", "found label"))
    legend = tag("div", *(tag("span", tag("i", class_=f"box key {kind}"), name) for kind, name in keys),
                 class_="row remark")
    return tag("div", legend, tag(
        "div", tag("select", *options, id="class", aria_label="class"),
        tag("label", tag("input", type="checkbox", id="mistakes"), "only with mistakes", class_="check"),
        tag("label", tag("input", type="checkbox", id="labels"), "also labels that were found", class_="check"),
        tag("span", id="example-count", class_="remark"), class_="row"))

"""Test pictures with all their boxes, for the slider: so many as a page can hold, those with most mistakes first."""

from pathlib import Path

from scripts.pictures.pool import map_items
from scripts.report.counts import IGNORED, RIGHT, WRONG, Counts, Found
from scripts.report.material import Material
from scripts.report.thumbnails import jpeg_base64, opened

EXAMPLES, EXAMPLE_PX = 200, 320

FALSE_ALARM, ON_CROWD = -1, -2
"""In place of the number of a label, as `page/report.js` knows them."""


def examples(material: Material, counts: Counts) -> list[dict]:
    """The EXAMPLES pictures with most mistakes at the starting score, worst first, with their boxes.

    Boxes are thousandths of the picture: `truth` [class, x, y, w, h, crowd], `found` [class, hundredths of the score,
    x, y, w, h, the number of the label that it found, or FALSE_ALARM or ON_CROWD]. A picture that cannot be read has an
    empty `jpeg`.
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
            for image, jpeg in zip(images, map_items(_thumbnail, paths, "pictures"), strict=True)]


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

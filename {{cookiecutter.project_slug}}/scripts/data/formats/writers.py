"""Writers of COCO and YOLO. What they write reads back as the same boxes, and a box inside its
image stays inside.

That needs no care but all digits: an edge on the border is a whole number (0, 1 or the side), and
the two roundings of `xmin + (xmax - xmin)`, or of center and length, err by less than what
separates it from the next number above.
"""

import csv
import io
import json
from collections.abc import Sequence

import yaml

from scripts.data.dataset import Box, Image
from scripts.data.formats.voc import FLAGS
from scripts.data.formats.yolo import FLAGS_HEADER


def _plain(value: float) -> float | int:
    """12 and not 12.0: most files have whole pixels."""
    return int(value) if value == int(value) else float(value)


_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def coco_annotation(box: Box, number: int, image: int, category: int) -> dict:
    """One element of `annotations`; our flags but `is_crowd` stand in `attributes`, as CVAT writes
    them."""
    xmin, ymin, xmax, ymax = box.xyxy_px
    width, height = xmax - xmin, ymax - ymin
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [_plain(value) for value in (xmin, ymin, width, height)],
        "area": _plain(width * height),
        "iscrowd": int(box.is_crowd),
        "segmentation": [],
        "attributes": {flag: getattr(box, flag) for flag in FLAGS if flag != "is_crowd"},
    }


def coco_text(images: Sequence[Image], ids: dict[str, int]) -> str:
    """A COCO detection file of `images`, in their order; `ids` are the numbers of all classes by
    name."""
    rows, annotations = [], []
    for number, image in enumerate(images, start=1):
        sides = {"width": image.width_px, "height": image.height_px}
        rows.append({"id": number, "file_name": image.path.name, **sides})
        for box in image.boxes:
            annotations.append(coco_annotation(box, len(annotations) + 1, number, ids[box.class_name]))
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
    arrays = {"licenses": [], "categories": categories, "images": rows, "annotations": annotations}
    # One element a line: findings can point to it, and it is much faster than an indented file.
    texts = [f'"{name}": [\n' + ",\n".join(map(_as_json, elements)) + "\n]" for name, elements in arrays.items()]
    return "{\n" + ",\n".join(['"info": {}', *texts]) + "\n}\n"


def _center_and_length(low_px: float, high_px: float, side_px: int) -> tuple[float, float]:
    low, high = low_px / side_px, high_px / side_px
    return (low + high) / 2, high - low


def yolo_text(image: Image, numbers: dict[str, int]) -> str:
    """The label file of an image: a line a box, in order; `numbers` are those of the classes, from
    0."""
    lines = []
    for box in image.boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        x, width = _center_and_length(xmin, xmax, image.width_px)
        y, height = _center_and_length(ymin, ymax, image.height_px)
        # repr is the shortest text that reads back as the same number; six decimals would move
        # large images' boxes.
        lines.append(f"{numbers[box.class_name]} " + " ".join(repr(float(value)) for value in (x, y, width, height)))
    return "".join(line + "\n" for line in lines)


def yolo_yaml(splits: Sequence[str], names: Sequence[str]) -> str:
    """`data.yaml`: where the images of each split are, and the class names in the order of their
    numbers."""
    folders = {key: f"{name}/images" for key, name in (("train", "train"), ("val", "validation"), ("test", "test"))}
    content = {key: folder for key, folder in folders.items() if folder.split("/")[0] in splits}
    content |= {"nc": len(names), "names": list(names)}
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=1000)


def flags_text(labeled: Sequence[tuple[str, Image]]) -> str:
    """The flags that YOLO cannot hold, as `yolo_names` reads them: a row for each box that has any.

    `labeled` are images with the path of their label file.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(FLAGS_HEADER)
    for label, image in labeled:
        for line, box in enumerate(image.boxes, start=1):
            flags = [int(getattr(box, flag)) for flag in FLAGS]
            if any(flags):
                rows.writerow([label, line, *flags])
    return text.getvalue()

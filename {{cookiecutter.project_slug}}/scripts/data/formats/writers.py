"""Writers of COCO and YOLO. What they write reads back as the same boxes, and a box inside its picture stays inside.

That needs no care but all digits: an edge on the border is a whole number (0, 1 or the side), and the two roundings of
`xmin + (xmax - xmin)`, or of centre and length, err by less than what separates it from the next number above.
"""

import csv
import io
import json
from collections.abc import Sequence

import yaml

from scripts.data.dataset import Box, Picture
from scripts.data.formats.voc import FLAGS
from scripts.data.formats.yolo import FLAGS_HEADER


def _plain(value: float) -> float | int:
    """12 and not 12.0: most files have whole pixels."""
    return int(value) if value == int(value) else float(value)


_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def coco_annotation(box: Box, number: int, image: int, category: int) -> dict:
    """One element of `annotations`; our flags but `is_crowd` stand in `attributes`, as CVAT writes them."""
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


def coco_text(pictures: Sequence[Picture], ids: dict[str, int]) -> str:
    """A COCO detection file of `pictures`, in their order; `ids` are the numbers of all classes by name."""
    images, annotations = [], []
    for number, picture in enumerate(pictures, start=1):
        sides = {"width": picture.width_px, "height": picture.height_px}
        images.append({"id": number, "file_name": picture.path.name, **sides})
        for box in picture.boxes:
            annotations.append(coco_annotation(box, len(annotations) + 1, number, ids[box.class_name]))
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
    arrays = {"licenses": [], "categories": categories, "images": images, "annotations": annotations}
    # One element a line: findings can point to it, and it is much faster than an indented file.
    texts = [f'"{name}": [\n' + ",\n".join(map(_as_json, elements)) + "\n]" for name, elements in arrays.items()]
    return "{\n" + ",\n".join(['"info": {}', *texts]) + "\n}\n"


def _centre_and_length(low_px: float, high_px: float, side_px: int) -> tuple[float, float]:
    low, high = low_px / side_px, high_px / side_px
    return (low + high) / 2, high - low


def yolo_text(picture: Picture, numbers: dict[str, int]) -> str:
    """The label file of a picture: a line a box, in order; `numbers` are those of the classes, from 0."""
    lines = []
    for box in picture.boxes:
        xmin, ymin, xmax, ymax = box.xyxy_px
        x, width = _centre_and_length(xmin, xmax, picture.width_px)
        y, height = _centre_and_length(ymin, ymax, picture.height_px)
        # repr is the shortest text that reads back as the same number; six decimals would move large pictures' boxes.
        lines.append(f"{numbers[box.class_name]} " + " ".join(repr(float(value)) for value in (x, y, width, height)))
    return "".join(line + "\n" for line in lines)


def yolo_yaml(splits: Sequence[str], names: Sequence[str]) -> str:
    """`data.yaml`: where the pictures of each split are, and the class names in the order of their numbers."""
    folders = {key: f"{name}/images" for key, name in (("train", "train"), ("val", "validation"), ("test", "test"))}
    content = {key: folder for key, folder in folders.items() if folder.split("/")[0] in splits}
    content |= {"nc": len(names), "names": list(names)}
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=1000)


def flags_text(labelled: Sequence[tuple[str, Picture]]) -> str:
    """The flags that YOLO cannot hold, as `yolo_names` reads them: a row for each box that has any.

    `labelled` are pictures with the path of their label file.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(FLAGS_HEADER)
    for label, picture in labelled:
        for line, box in enumerate(picture.boxes, start=1):
            flags = [int(getattr(box, flag)) for flag in FLAGS]
            if any(flags):
                rows.writerow([label, line, *flags])
    return text.getvalue()

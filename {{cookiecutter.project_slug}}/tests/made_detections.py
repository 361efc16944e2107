"""COCO ground truths and detections on them, drawn at random: for tests that need no images and no
detector."""

import numpy as np


def made(count: int, seed: int = 0, classes: int = 3, crowds: float = 0.1) -> tuple[dict, list[dict]]:
    """Ground truth with none to five boxes an image, and detections that find most of them and
    other things."""
    dice = np.random.default_rng(seed)
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 300, "height": 300}
              for number in range(1, count + 1)]
    boxes, found = [], []
    for image in images:
        for _ in range(dice.integers(0, 6)):
            boxes.append(_box(dice, image["id"], len(boxes) + 1, classes, crowds))
            if dice.random() < 0.8:
                found.append(_detection(boxes[-1], dice.normal(0, 4, 4), dice.beta(4, 2)))
        for _ in range(dice.integers(0, 6)):
            stray = _box(dice, image["id"], 0, classes, 0)
            found.append(_detection(stray, np.zeros(4), dice.beta(2, 4)))
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)]
    return {"images": images, "annotations": boxes, "categories": categories}, found


def _box(dice, image_id: int, number: int, classes: int, crowds: float) -> dict:
    x, y, width, height = (float(value) for value in (*dice.uniform(0, 200, 2), *dice.uniform(20, 100, 2)))
    return {"id": number, "image_id": image_id, "category_id": int(dice.integers(1, classes + 1)),
            "bbox": [x, y, width, height], "area": width * height, "iscrowd": int(dice.random() < crowds)}


def _detection(box: dict, shift, score: float) -> dict:
    bbox = [max(1.0, float(value + moved)) for value, moved in zip(box["bbox"], shift, strict=True)]
    return {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": bbox, "score": float(score)}

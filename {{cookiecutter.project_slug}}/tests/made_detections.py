"""COCO ground truths and detections on them, drawn at random: for tests that need no images and no
detector."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st


def made(
    count: int, seed: int = 0, classes: int = 3, crowds: float = 0.1) -> tuple[dict, list[dict]]:
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
    x, y, width, height = (
        float(value) for value in (*dice.uniform(0, 200, 2), *dice.uniform(20, 100, 2)))
    return {"id": number, "image_id": image_id, "category_id": int(dice.integers(1, classes + 1)),
            "bbox": [x, y, width, height], "area": width * height,
            "iscrowd": int(dice.random() < crowds)}


def _detection(box: dict, shift, score: float) -> dict:
    bbox = [max(1.0, float(value + moved)) for value, moved in zip(box["bbox"], shift, strict=True)]
    return {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": bbox,
            "score": float(score)}


# Ground truths and detections as a person writes them, drawn by hypothesis, and matched by COCO's
# rules written out.


APPLE, PEAR = 1, 2
BOX, ELSEWHERE = [10.0, 20.0, 100.0, 50.0], [400.0, 300.0, 100.0, 50.0]


def groundtruth(boxes, count=2, names=("apple", "pear")):
    """COCO form of (image, class, bbox[, crowd]) rows."""
    annotations = [
        {"id": number, "image_id": image, "category_id": label, "bbox": bbox,
         "area": bbox[2] * bbox[3],
         "iscrowd": int(any(crowd))}
        for number, (image, label, bbox, *crowd) in enumerate(boxes, start=1)
    ]  # fmt: skip
    images = [{"id": number, "width": 640, "height": 480} for number in range(1, count + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def found(image, label, bbox, confidence=0.9):
    return {"image_id": image, "category_id": label, "bbox": bbox, "score": confidence}


# Whole numbers and few scores, so that equal overlaps and equal scores are common; some boxes of
# every size of COCO.
SIDES = st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6)
XYWH_PX = st.tuples(*SIDES).map(lambda box: [24.0 * value for value in box])
LABELS = st.integers(1, 5)
DETECTIONS = st.lists(st.builds(
    found, st.integers(1, 4), LABELS, XYWH_PX, st.sampled_from([0.1, 0.35, 0.5, 0.9])),
                      max_size=20)
# Of image 5 nothing is known, and of class 6 there is no box.
TRUTHS = st.lists(st.tuples(st.integers(1, 4), LABELS, XYWH_PX, st.booleans()), max_size=12).map(
    lambda boxes: groundtruth(boxes, 5, ("apple", "pear", "plum", "fig", "quince", "none")))


def matched(truth, detections, by_class=True) -> dict[int, tuple]:
    """Place of each detection -> (id of the box that it found or None, whether it only lies on a
    crowd)."""
    outcome, taken = {}, set()
    for place in sorted(range(len(detections)),
                        key=lambda n: (-detections[n]["score"], detections[n]["category_id"])):
        row = detections[place]
        near = [(overlap(row["bbox"], box["bbox"], box["iscrowd"]), box)
                for box in truth["annotations"]
                if box["image_id"] == row["image_id"]
                and (not by_class or box["category_id"] == row["category_id"])]
        near = [(iou, box) for iou, box in near if iou >= 0.5]
        free = [(iou, box["category_id"], box["id"]) for iou, box in near
                if not box["iscrowd"] and box["id"] not in taken]
        # of equal ones the last: pycocotools goes through classes, then ids
        best = max(free)[2] if free else None
        taken.add(best)
        outcome[place] = (best, not free and any(box["iscrowd"] for _, box in near))
    return outcome


def overlap(one, other, crowd) -> float:
    """IoU of two xywh boxes; of a crowd the share of the detection that lies in it."""
    sides = [
        min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / (one[2] * one[3] + (0 if crowd else other[2] * other[3] - both))


# COCO's figures straight from pycocotools and two files; the code that is tested has no part in
# it.


NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def figures_of_files(groundtruth: Path, detections: Path) -> dict:
    """"" and each class -> the twelve figures, None where pycocotools gives -1, and precision at
    IoU 0.5 over recall.

    A class's are those of an evaluation of that class alone.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(groundtruth))
        # pycocotools cannot read an empty list.
        found = truth.loadRes(str(detections)) if json.loads(
            detections.read_text("utf-8")) else COCO()
        result = {}
        classes = {row["name"]: [row["id"]] for row in truth.dataset["categories"]}
        for name, ids in {"": truth.getCatIds(), **classes}.items():
            run = COCOeval(truth, found, "bbox")
            run.params.catIds, run.params.imgIds = ids, truth.getImgIds()
            run.evaluate(), run.accumulate(), run.summarize()
            figures = {key: None if value < 0 else value
                       for key, value in zip(NAMES, run.stats, strict=True)}
            result[name] = figures | {"precision": run.eval["precision"][0, :, 0, 0, 2].tolist()}
    return result


def differences(metrics: dict, analysis: dict, independent: dict) -> list[float]:
    """How far every figure of `eval/metrics.json` and `eval/analysis.json` is from that of
    `figures_of_files`."""
    pairs = [(metrics[key], independent[""][key]) for key in NAMES]
    for name, figures in metrics["per_class"].items():
        pairs += [(figures[key], independent[name][key]) for key in ("AP", "AP50", "AR100")]
    for name, sizes in analysis["sizes"].items():
        own = independent["" if name == "all" else name]
        pairs += [(part["AP"], own[f"AP{size[0]}"]) for size, part in sizes.items()]
    for name in metrics["per_class"]:
        # a class without a box is left out, and pycocotools gives -1
        nothing = {"precision": [-1.0] * 101}
        pairs += zip(analysis["pr"].get(name, nothing)["precision"], independent[name]["precision"],
                     strict=True)
    assert all(
        (ours is None) == (theirs is None) for ours, theirs in pairs), "undefined in one only"
    return [abs(ours - theirs) for ours, theirs in pairs if ours is not None]

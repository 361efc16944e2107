"""Ground truths and detections as a person writes them, drawn by hypothesis, and matched by COCO's
rules written out.

Nothing here uses the code that is tested, nor pycocotools.
"""

from hypothesis import strategies as st

APPLE, PEAR = 1, 2
BOX, ELSEWHERE = [10.0, 20.0, 100.0, 50.0], [400.0, 300.0, 100.0, 50.0]


def groundtruth(boxes, count=2, names=("apple", "pear")):
    """COCO form of (image, class, bbox[, crowd]) rows."""
    annotations = [
        {"id": number, "image_id": image, "category_id": label, "bbox": bbox, "area": bbox[2] * bbox[3],
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
DETECTIONS = st.lists(st.builds(found, st.integers(1, 4), LABELS, XYWH_PX, st.sampled_from([0.1, 0.35, 0.5, 0.9])),
                      max_size=20)
# Of image 5 nothing is known, and of class 6 there is no box.
TRUTHS = st.lists(st.tuples(st.integers(1, 4), LABELS, XYWH_PX, st.booleans()), max_size=12).map(
    lambda boxes: groundtruth(boxes, 5, ("apple", "pear", "plum", "fig", "quince", "none")))


def matched(truth, detections, by_class=True) -> dict[int, tuple]:
    """Place of each detection -> (id of the box that it found or None, whether it only lies on a
    crowd)."""
    outcome, taken = {}, set()
    for place in sorted(range(len(detections)), key=lambda n: (-detections[n]["score"], detections[n]["category_id"])):
        row = detections[place]
        near = [(overlap(row["bbox"], box["bbox"], box["iscrowd"]), box) for box in truth["annotations"]
                if box["image_id"] == row["image_id"] and (not by_class or box["category_id"] == row["category_id"])]
        near = [(iou, box) for iou, box in near if iou >= 0.5]
        free = [(iou, box["category_id"], box["id"]) for iou, box in near
                if not box["iscrowd"] and box["id"] not in taken]
        best = max(free)[2] if free else None  # of equal ones the last: pycocotools goes through classes, then ids
        taken.add(best)
        outcome[place] = (best, not free and any(box["iscrowd"] for _, box in near))
    return outcome


def overlap(one, other, crowd) -> float:
    """IoU of two xywh boxes; of a crowd the share of the detection that lies in it."""
    sides = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / (one[2] * one[3] + (0 if crowd else other[2] * other[3] - both))

"""How often the 95 % intervals hold the truth, and what `invoke compare` says of detectors that are
equal or are not.

python -m benchmarks.intervals [--draws 500] [--sizes 20,60,200] [--questions coverage,equal,better]

4,000 drawn images stand for all images there are: AP on them is the truth. Test sets of some size
are taken from them again and again, and the project's own functions say what they say on each.
Detectors find, miss and misplace boxes by how hard an image and a box are, so that errors come in
clusters, as on photographs; classes are 6 : 3 : 1. Two equal detectors: every image stands there
twice, and the two change places on the second.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tools.bake import TEMPLATE

sys.path.insert(0, str(next(TEMPLATE.glob("{{*"))))

from scripts.evaluation import intervals as bootstrap
from scripts.evaluation.intervals import ClassMatches, Redraw, matched, overall

IMAGES, SIDE_PX, CLASSES = 4000, 500, (0.6, 0.3, 0.1)
HELD = ((2, 4), (5, 9), (10, 19), (20, 10_000))
"""Test images with a class, for the coverage of its interval."""


def groundtruth(count: int, dice) -> tuple[dict, np.ndarray]:
    """COCO ground truth with one to ten boxes an image, and how hard each image is (normal)."""
    images = [{"id": number, "file_name": "", "width": SIDE_PX, "height": SIDE_PX}
              for number in range(count)]
    boxes = []
    for image in images:
        kinds = dice.choice(len(CLASSES), size=dice.integers(1, 3), p=CLASSES)
        for _ in range(min(10, dice.geometric(0.4))):
            bbox = drawn_box(dice)
            boxes.append({"id": len(boxes) + 1, "image_id": image["id"],
                          "category_id": int(dice.choice(kinds)) + 1,
                          "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
    categories = [
        {"id": number + 1, "name": f"class {number + 1}"} for number in range(len(CLASSES))]
    return {"images": images, "annotations": boxes, "categories": categories}, dice.normal(
        size=count)


def drawn_box(dice) -> list[float]:
    """x, y, width, height in pixels; the sides are log-normal, 74 px at the median."""
    sides = np.minimum(np.exp(dice.normal(4.3, 0.6, 2)), 0.8 * SIDE_PX)
    return [float(value) for value in (*dice.uniform(0, SIDE_PX - sides), *sides)]


def detector(truth: dict, hard: np.ndarray, skill: float, dice) -> list[dict]:
    """COCO results of a made-up detector: easy boxes are found more often, closer, with better
    class and score."""
    rows = []
    for box in truth["annotations"]:
        ease = skill - 0.7 * hard[box["image_id"]] + 0.8 * dice.normal()
        if dice.random() < logistic(ease + 1):
            moved = dice.normal(0, 0.09 * np.exp(-0.35 * ease), 4) * (box["bbox"][2:] * 2)
            bbox = np.maximum(np.add(box["bbox"], moved), [-np.inf, -np.inf, 2, 2])
            right = dice.random() < logistic(ease + 2)
            rows.append({"image_id": box["image_id"], "bbox": bbox.tolist(),
                         "score": logistic(0.8 * ease + 0.8 *
                         dice.normal()), "category_id": box["category_id"] if right
                         else box["category_id"] % 3 + 1})
    for image in truth["images"]:
        for _ in range(dice.poisson(3 * np.exp(0.3 * hard[image["id"]] - 0.3 * skill))):
            rows.append({"image_id": image["id"],
                         "category_id": int(dice.choice(len(CLASSES), p=CLASSES)) + 1,
                         "bbox": drawn_box(dice), "score": logistic(-2.2 + 0.9 * dice.normal())})
    return rows


def logistic(value: float) -> float:
    """0..1."""
    return float(1 / (1 + np.exp(-value)))


def doubled(truth: dict) -> dict:
    """Every image twice; the number of the second is larger by that of all images."""
    more = len(truth["images"])
    boxes = truth["annotations"]
    again = [
        {**row, "id": row["id"] + len(boxes), "image_id": row["image_id"] + more} for row in boxes]
    return {**truth, "images": truth["images"]
            + [{**row, "id": row["id"] + more} for row in truth["images"]],
            "annotations": boxes + again}


def changing_places(first: list[dict], second: list[dict], images: int) -> list[dict]:
    """The first on the images, the second on their copies."""
    return first + [{**row, "image_id": row["image_id"] + images} for row in second]


@dataclass(frozen=True)
class Pool:
    """All images there are, matched once, and the true AP, AP50 and AP by class, 0..1."""

    redraw: Redraw
    ap: float
    ap50: float
    classes: np.ndarray

    def taken(self, positions: np.ndarray) -> Redraw:
        """The matches of a test set of the images at these positions, of which one may stand there
        twice."""
        classes = []
        for one in self.redraw.classes:
            order = np.argsort(one.image, kind="stable")
            starts = np.searchsorted(one.image[order], np.arange(len(one.boxes) + 1))
            parts = [order[starts[place]:starts[place + 1]] for place in positions]
            rows, place = np.concatenate(parts), np.repeat(
                np.arange(len(positions)), [len(part) for part in parts])
            best_first = np.argsort(rows, kind="stable")
            rows = rows[best_first]
            classes.append(ClassMatches(place[best_first], one.hit[:, rows], one.counted[:, rows],
                                        one.boxes[positions]))
        return Redraw(list(range(len(positions))), self.redraw.names, self.redraw.recalls, classes)


def pool(truth: dict, detections: list[dict]) -> Pool:
    """The pool with its truth."""
    redraw = matched(truth, detections)
    ap, ap50 = redraw.ap(np.ones((1, len(redraw.image_ids)), int))
    return Pool(redraw, float(overall(ap)[0]), float(overall(ap50)[0]), ap[0])


def coverage(one: Pool, size: int, repeats: int, dice) -> dict:
    """Shares of test sets whose interval holds the truth, mean width in points, and shares that lie
    all above it."""
    count = defaultdict(list)
    for _ in range(repeats):
        test = one.taken(dice.integers(0, len(one.redraw.image_ids), size))
        found = bootstrap.redraw_intervals([test], seed=int(dice.integers(1 << 30)))
        for name, truth in (("AP", one.ap), ("AP50", one.ap50)):
            low, high = found[name]
            count[f"{name} holds"].append(low <= truth <= high)
            count[f"{name} above"].append(low > truth)
            count[f"{name} points wide"].append(100 * (high - low))
        for matches, part, truth in zip(
            test.classes, found["per_class"].values(), one.classes, strict=True):
            held = int((matches.boxes > 0).sum())
            for least, most in HELD:
                if least <= held <= most and part["AP"]:
                    count[f"class in {least}-{most} images holds"].append(
                        part["AP"][0] <= truth <= part["AP"][1])
    return {"size": size} | {
        name: [round(float(np.mean(values)), 3), len(values)] for name, values in count.items()}


def verdicts(first: Pool, second: Pool, size: int, repeats: int, dice) -> dict:
    """Shares of test sets on which the second is called better, and worse, by AP and by AP50."""
    count = defaultdict(list)
    for _ in range(repeats):
        positions = dice.integers(0, len(first.redraw.image_ids), size)
        found = bootstrap.redraw_intervals([second.taken(positions), first.taken(positions)],
                                           seed=int(dice.integers(1 << 30)))
        for name in ("AP", "AP50"):
            count[f"{name} better"].append(found[name][0] > 0)
            count[f"{name} worse"].append(found[name][1] < 0)
    return {"size": size, "true AP": round(100 * (second.ap - first.ap), 2),
            "true AP50": round(100 * (second.ap50 - first.ap50), 2)} | {
                name: round(float(np.mean(values)), 3) for name, values in count.items()}


def main() -> None:
    """Print a JSON line for each size and question."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--sizes", default="20,60,200")
    parser.add_argument("--questions", default="coverage,equal,better",
                        help="the last with two fifths of the draws")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    dice = np.random.default_rng(7)
    truth, hard = groundtruth(IMAGES, dice)
    base, equal, *others = [detector(truth, hard, skill, dice) for skill in (1.0, 1.0, 1.12, 1.33)]
    twice = doubled(truth)
    pools = {"base": pool(truth, base),
             **{f"better {place}": pool(truth, rows) for place, rows in enumerate(others, start=1)},
             "equal 1": pool(twice, changing_places(base, equal, IMAGES)),
             "equal 2": pool(twice, changing_places(equal, base, IMAGES))}
    print(json.dumps(
        {name: [round(100 * one.ap, 2), round(100 * one.ap50, 2)] for name, one in pools.items()}))
    for size in sizes if "coverage" in asked.questions else ():
        print(json.dumps({"what": "coverage", **coverage(pools["base"], size, asked.draws, dice)}),
              flush=True)
    pairs = {
        "equal": [("equal 1", "equal 2")], "better": [("base", "better 1"), ("base", "better 2")]}
    for question, repeats in (("equal", asked.draws), ("better", asked.draws * 2 // 5)):
        for first, second in pairs[question] if question in asked.questions else ():
            for size in sizes:
                row = verdicts(pools[first], pools[second], size, repeats, dice)
                print(json.dumps({"what": f"{second} than {first}", **row}), flush=True)


if __name__ == "__main__":
    main()

"""Boxes of the page that `invoke web` makes, in headless Chromium, beside those of our reader on
the same `.tflite`.

DETECTOR_TASKS_VISION=/path/to/package python -m benchmarks.browser PROJECT [PROJECT ...] [--variant
int8] [--worst 3]

All test images of each project. A box of ours is matched by one of the same class with IoU 0.9 or
more, each used once, best score first. `page` is the page; `plain` is MediaPipe as its
documentation has it, given the image itself. Milliseconds are medians: of the page, resizing and
network; of `plain`, all of MediaPipe's call. AP is in points.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tools.bake import TEMPLATE

SCORES, LEAST_IOU = (0.3, 0.05), 0.9
PAGE = "return await page.detectUrl(url);"
PLAIN = """
    const answer = await fetch(url);
    const image = await createImageBitmap(await answer.blob());
    const begin = performance.now();
    const found = plain.detect(image).detections;
    const milliseconds = performance.now() - begin;
    const detections = found.map(({ boundingBox: box, categories: [best] }) => ({ class: best.categoryName,
      score: best.score, box_xyxy_px: [box.originX, box.originY, box.originX + box.width, box.originY + box.height] }));
    return { file: url, width: image.width, height: image.height, detections, milliseconds };"""
PLAIN_DETECTOR = """
    const { FilesetResolver, ObjectDetector } = await import("/vision_bundle.mjs");
    const plain = await ObjectDetector.createFromOptions(await FilesetResolver.forVisionTasks("/wasm"), {
      baseOptions: { modelAssetPath: "/detector.tflite", delegate: "CPU" }, runningMode: "IMAGE", scoreThreshold: 0 });
    plain.detect(new ImageData(8, 8));"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="+", type=Path, metavar="PROJECT")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--worst", type=int, default=0,
                        help="how many of the largest differences to show of each set")
    options = parser.parse_args()
    project = TEMPLATE / "{{cookiecutter.project_slug}}"
    sys.path[:0] = [str(project), str(project / "tests")]
    from browser import VARIABLE, missing

    if missing():
        sys.exit(missing())
    print("| set | way | score from | boxes of ours | matched | within 1 px | largest px | largest score | "
          "unmatched of theirs | AP of ours | AP of theirs | ms |\n" + "|---" * 12 + "|")
    for root in options.projects:
        compare(root.resolve(), options.variant, Path(os.environ[VARIABLE]), options.worst)


def compare(root: Path, variant: str, package: Path, worst: int) -> None:
    """Print the rows of one project."""
    from browser import predicted_rows
    from scripts.tools.web import make_web

    truth = json.loads((root / "eval/groundtruth.json").read_text(encoding="utf-8"))
    paths = [root / "images/test" / image["file_name"] for image in truth["images"]]
    with tempfile.TemporaryDirectory() as folder:
        model = root / f"tflite/detector_{variant}.tflite"
        ours = {path.name: predicted_rows(path, model)[1] for path in paths}
        make_web(model, package, Path(folder))
        for way, before, script in (("page", "", PAGE), ("plain", PLAIN_DETECTOR, PLAIN)):
            rows = visit(Path(folder), paths, before, script)
            theirs = {name: row["detections"] for name, row in rows.items()}
            last = f"{ap(truth, ours)} | {ap(truth, theirs)}"
            time_ms = statistics.median(row["milliseconds"] for row in rows.values())
            for score in SCORES:
                print(f"| {root.name} | {way} | {score} | {figures(ours, theirs, score)} | {last} | {time_ms:.0f} |",
                      flush=True)
            for text in sorted(differences(ours, theirs, SCORES[-1]), reverse=True)[:worst]:
                print("   ", *text)


def ap(truth: dict, found: dict[str, list[dict]]) -> str:
    """AP in points of what was found in the test images."""
    from scripts.core.text import points
    from scripts.evaluation.metrics import score

    numbers = {one["name"]: one["id"] for one in truth["categories"]}
    rows = []
    for image in truth["images"]:
        for one in found[image["file_name"]]:
            left, top, right, bottom = one["box_xyxy_px"]
            rows.append({"image_id": image["id"], "category_id": numbers[one["class"]],
                         "score": one["score"],
                         "bbox": [left, top, right - left, bottom - top]})
    return points(score(truth, rows)["AP"])


def visit(folder: Path, paths: list[Path], before: str, script: str) -> dict[str, dict]:
    """What the browser finds: name of the image -> row."""
    from browser import Site

    files = {f"/images/{number}{path.suffix}": path for number, path in enumerate(paths)}
    with Site(folder, files) as site:
        rows = site.visit(f"""{before}
            const one = async (url) => {{ {script} }};
            const rows = [];
            for (const url of {json.dumps(list(files))}) rows.push(await one(url));
            return rows;""", wait_s=1800)
    return {files[row["file"]].name: row for row in rows}


def figures(ours: dict, theirs: dict, score: float) -> str:
    """Counts and largest differences of all boxes with this score or more."""
    boxes, matched, close, edge, off, left = 0, 0, 0, 0.0, 0.0, 0
    for name, own in ours.items():
        kept = [one for one in own if one["score"] >= score]
        pairs = matches(kept, theirs[name])
        boxes, matched = boxes + len(kept), matched + len(pairs)
        close += sum(largest_edge(*pair) <= 1 for pair in pairs)
        edge = max([edge, *(largest_edge(*pair) for pair in pairs)])
        off = max([off, *(abs(one["score"] - other["score"]) for one, other in pairs)])
        confident = [other for other in theirs[name] if other["score"] >= score]
        left += len(confident) - len(matches(confident, own))
    return f"{boxes} | {matched} | {close} | {edge:.2f} | {off:.4f} | {left}"


def differences(ours: dict, theirs: dict, score: float):
    """(largest edge difference in px, image, score, class, our box, their box or None) of each box
    of ours."""
    for name, own in ours.items():
        kept = [one for one in own if one["score"] >= score]
        found = {id(one): other for one, other in matches(kept, theirs[name])}
        for one in kept:
            other = found.get(id(one))
            yield (round(largest_edge(one, other), 2) if other else 9999.0, name,
                   round(one["score"], 3), one["class"],
                   one["box_xyxy_px"],
                   [round(edge, 2) for edge in other["box_xyxy_px"]] if other else None)


def matches(own: list[dict], others: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs of boxes of one class with IoU of LEAST_IOU or more, each used once."""
    free, pairs = list(others), []
    for one in own:
        fitting = [other for other in free if other["class"] == one["class"]]
        best = max(
            fitting, key=lambda other: iou(one["box_xyxy_px"], other["box_xyxy_px"]), default=None)
        if best is not None and iou(one["box_xyxy_px"], best["box_xyxy_px"]) >= LEAST_IOU:
            free.remove(best)
            pairs.append((one, best))
    return pairs


def largest_edge(one: dict, other: dict) -> float:
    """The largest difference of an edge in pixels."""
    return max(abs(a - b) for a, b in zip(one["box_xyxy_px"], other["box_xyxy_px"], strict=True))


def iou(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes xmin, ymin, xmax, ymax."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / max(areas - width * height, 1e-9)


if __name__ == "__main__":
    main()

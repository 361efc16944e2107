"""Real clients of a shipped `.tflite` on all test images of a project: do they find what our reader
finds?

python -m benchmarks.clients PROJECT [PROJECT ...] [--file tflite/detector_int8.tflite] [--threads
2]

Our reader, LiteRT read by index and by signature, and MediaPipe Tasks' ObjectDetector, which needs
libEGL and libGLESv2 (`apt-get install -y libegl1 libgles2`). All get the same decoded pixels; for
the LiteRT clients they are resized as our reader does it, MediaPipe resizes by itself. A box is
equal when the other client has one of the same class, none of whose edges is more than 1 pixel of
the image away and whose score differs by no more than 0.01; it is missing when none of the same
class overlaps it by half. Boxes are clipped to the image before.

The lines "ours ..." take what MediaPipe does otherwise into our reader, one by one: its resize, the
whole pixels in which it gives boxes. The last line holds MediaPipe against both together: what is
left has another cause.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tools.bake import TEMPLATE

EQUAL_PX, EQUAL_SCORE, SCORES = 1.0, 0.01, (0.05, 0.3)
LIMIT = 100
BOTH = "ours with both"
HEADS = ("client", "AP", "AP50", "below ours (95 %)", *(head for least in SCORES for head in (
    f"ours >= {least:g}", "equal", "missing", "most px", "most score")))


def main() -> None:
    """Print a table for each project."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="+", type=Path, metavar="PROJECT")
    parser.add_argument("--file", default="tflite/detector_int8.tflite")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))
    for project in options.projects:
        measure(project.resolve(), options.file, options.threads)


def measure(project: Path, file: str, threads: int) -> None:
    """Run every client over the test split and print what it found beside what ours found."""
    from scripts.core.layout import Layout
    from scripts.data.label_map import read_label_map
    from scripts.evaluation.detections import coco_groundtruth, decode_rgb, record_images

    layout = Layout(project)
    files = layout.records("test")
    images = [(image, decode_rgb(image.encoded)) for image in record_images(files)]
    groundtruth = coco_groundtruth(files, read_label_map(layout.label_map))
    print(f"\n{project.name}, {file}: {len(images)} test images; AP of the best {LIMIT} of an image from a score "
          "of 0.01 on, in points\n")
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    found = {}
    with ExitStack() as stack:
        for name, client in clients(project / file, threads, stack).items():
            found[name] = [client(rgb) for _, rgb in images]
            print(row(name, found["ours"], found[name], images, groundtruth), flush=True)
    print(row(
        "MediaPipe beside the line above", found[BOTH], found["MediaPipe"], images, groundtruth))


def clients(path: Path, threads: int, stack: ExitStack) -> dict[str, Callable]:
    """Functions from an image uint8 [height, width, 3] to `Detections`; `stack` closes what has to
    be closed."""
    from scripts.deploy.reader import TfliteDetector

    ours = TfliteDetector(path, threads)
    side_px = ours.input_px
    return {
        "ours": ours.detect, "LiteRT by index": by_index(path, threads, side_px),
        "LiteRT by signature": by_signature(path, threads, side_px),
        "MediaPipe": by_mediapipe(path, ours.labels, stack),
        "ours with MediaPipe's whole pixels": lambda rgb: whole_pixels(ours.detect(rgb), rgb.shape),
        "ours with MediaPipe's resize": lambda rgb: ours.detect(warped(rgb, side_px)),
        BOTH: lambda rgb: whole_pixels(ours.detect(warped(rgb, side_px)), rgb.shape)}


def by_index(path: Path, threads: int, side_px: int) -> Callable:
    """What a reader does that knows the order of outputs only."""
    from ai_edge_litert.interpreter import Interpreter
    from scripts.deploy.reader import first_slots, stretch

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,), outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def detect(rgb):
        interpreter.set_tensor(
            taken["index"], np.rint(stretch(rgb, side_px))[None].astype(taken["dtype"]))
        interpreter.invoke()
        return first_slots(*(interpreter.get_tensor(one["index"]) for one in outputs))

    return detect


def by_signature(path: Path, threads: int, side_px: int) -> Callable:
    """What a reader does that knows names only."""
    from ai_edge_litert.interpreter import Interpreter
    from scripts.deploy.metadata import OUTPUTS
    from scripts.deploy.reader import first_slots, stretch

    run = Interpreter(model_path=str(path), num_threads=threads).get_signature_runner(
        "serving_default")
    kind = run.get_input_details()["images"]["dtype"]

    def detect(rgb):
        found = run(images=np.rint(stretch(rgb, side_px))[None].astype(kind))
        return first_slots(*(found[name] for name in OUTPUTS))

    return detect


def by_mediapipe(path: Path, labels: list[str], stack: ExitStack) -> Callable:
    """MediaPipe Tasks with its defaults: every score, every detection. Its boxes are whole pixels.
    """
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision
    from scripts.evaluation.detections import Detections

    options = vision.ObjectDetectorOptions(BaseOptions(model_asset_path=str(path)))
    detector = stack.enter_context(vision.ObjectDetector.create_from_options(options))

    def detect(rgb):
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        found = detector.detect(image).detections
        corners = [(one.bounding_box.origin_y, one.bounding_box.origin_x) for one in found]
        sides = [(one.bounding_box.height, one.bounding_box.width) for one in found]
        edges = np.concatenate([corners, np.add(corners, sides)], 1) if found else np.zeros((0, 4))
        best = [one.categories[0] for one in found]
        class_ids = np.array([labels.index(one.category_name) for one in best], int)
        scores = np.array([one.score for one in best], np.float32)
        return Detections(edges / np.tile(rgb.shape[:2], 2), class_ids, scores)

    return detect


def warped(rgb, side_px: int):
    """The resize of MediaPipe on a CPU, OpenCV's warpPerspective as it was up to 4.10.

    Bilinear without half-pixel centers, target x shows source x * scale, in steps of 1/32 pixel.
    Written out here, because later OpenCV computes it in float; by way of the matrix, whose last
    bits decide where a step ends in a tie.
    """
    import cv2

    height_px, width_px = rgb.shape[:2]
    source = cv2.boxPoints(((width_px / 2, height_px / 2), (width_px, height_px), 0.0)).astype(
        np.float32)
    target = np.float32([[0, side_px], [0, 0], [side_px, 0], [side_px, side_px]])
    back = cv2.invert(cv2.getPerspectiveTransform(source, target))[1]
    x, y = np.meshgrid(np.arange(side_px, dtype=float), np.arange(side_px, dtype=float))
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in back)
    across, down = (np.rint(part * (32 / depth)).astype(int) for part in (across, down))
    parts = ((down & 31) * 32 + (across & 31)).astype(np.uint16)
    return cv2.remap(rgb, np.stack([across >> 5, down >> 5], -1).astype(np.int16), parts,
                     cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def whole_pixels(found, shape: tuple):
    """Boxes as MediaPipe gives them: fractions are cut off the corner and off height and width.

    A corner outside the image moves to its border, and the box keeps its size.
    """
    from scripts.evaluation.detections import Detections

    size = np.array(shape[:2])
    corners = np.floor(np.maximum(found.yxyx_norm[:, :2], 0) * size)
    sides = np.floor((found.yxyx_norm[:, 2:] - found.yxyx_norm[:, :2]) * size)
    return Detections(np.concatenate([corners, corners + sides], 1) / np.tile(size, 2),
                      found.class_ids, found.scores)


def coco_rows(found: list, images: list) -> list[dict]:
    """Detections of all images in COCO form, the best LIMIT of each."""
    from scripts.evaluation.detections import Detections, coco_detections

    rows = []
    for (image, _), one in zip(images, found, strict=True):
        kept = Detections(*(part[:LIMIT] for part in (one.yxyx_norm, one.class_ids, one.scores)))
        rows += coco_detections(image.image_id, image.width_px, image.height_px, kept)
    return rows


def row(name: str, ours: list, theirs: list, images: list, groundtruth: dict) -> str:
    """One line: AP of `theirs`; for each least score the boxes of `ours`, how many are equal, how
    many missing, and by how much the others differ at most."""
    from scripts.evaluation.intervals import ap_drop_interval
    from scripts.evaluation.metrics import score

    rows = coco_rows(theirs, images)
    figures = score(groundtruth, rows)
    low, high = ap_drop_interval(groundtruth, coco_rows(ours, images), rows)
    cells = [name, *(f"{100 * figures[key]:.2f}" for key in ("AP", "AP50")),
             f"{100 * low:.1f} to {100 * high:.1f}"]
    for least in SCORES:
        apart = [pair for (image, _), one, other in zip(images, ours, theirs, strict=True)
                 for pair in differences(one, other, image, least)]
        pairs = [pair for pair in apart if pair is not None]
        equal = sum(pixels <= EQUAL_PX and scores <= EQUAL_SCORE for pixels, scores in pairs)
        most = np.max(pairs, 0) if pairs else (0, 0)
        cells += [f"{len(apart):,}", f"{equal:,} ({100 * equal / max(len(apart), 1):.1f} %)",
                  f"{len(apart) - len(pairs):,}", *(f"{one:.3f}" for one in most)]
    return "| " + " | ".join(cells) + " |"


def differences(ours, theirs, image, least: float) -> list:
    """For each box of ours from this score on: the largest difference of its edges (px) and that of
    its score.

    The other box is the nearest of the same class that none before has taken; None where it
    overlaps by less than half.
    """
    from scripts.evaluation.detections import clipped_xyxy_px

    boxes, others = (
        clipped_xyxy_px(one.yxyx_norm, image.width_px, image.height_px) for one in (ours, theirs))
    free, found = np.ones(len(others), bool), []
    for index in np.flatnonzero(np.asarray(ours.scores) >= least):
        same = free & (theirs.class_ids == ours.class_ids[index])
        edges = np.where(same, np.abs(others - boxes[index]).max(1), np.inf)
        nearest = int(edges.argmin()) if same.any() else None
        if nearest is None or overlap(boxes[index], others[nearest]) < 0.5:
            found.append(None)
            continue
        free[nearest] = False
        found.append(
            (float(edges[nearest]), abs(float(theirs.scores[nearest]) - float(ours.scores[index]))))
    return found


def overlap(one, other) -> float:
    """Intersection over union of two boxes xyxy."""
    sides = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return float(np.prod(sides) / max(sum(areas) - np.prod(sides), 1e-9))


if __name__ == "__main__":
    main()

"""How well the anchors fit the boxes of labeled sets: what docs/recipe.md says of them.

python -m benchmarks.anchors --out FOLDER NAME=PATH [NAME=PATH ...] [--model lite0-256]

Boxes are those of all splits, stretched to the input. A box is reachable when an anchor overlaps it
with IoU 0.5 or more, and has candidates when the center of an anchor lies inside it; one without
learns from the nearest.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pandas

from benchmarks.recipe import prepare
from tools.bake import TEMPLATE

SHAPES = {"one square of 4 strides": {},
          "nine of 3 strides": {
              "anchor_size": 3.0, "anchor_scales": 3, "anchor_aspects": (0.5, 1.0, 2.0)}}


def main() -> None:
    """Print one row for each set and each kind of anchors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="lite0-256")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))
    from scripts.modeling.zoo import ENTRIES

    print("| set | boxes | anchors | reachable at IoU 0.5 | with candidates | median best IoU |\n"
          + "|---" * 6 + "|")
    for name, path in (each.split("=", 1) for each in options.sets):
        project = options.out.resolve() / name
        prepare(project, Path(path).resolve())
        boxes_px = truth_yxyx_px(project, ENTRIES[options.model].input_px)
        for shape, fields in SHAPES.items():
            anchors_px = anchors_yxyx_px(dataclasses.replace(ENTRIES[options.model], **fields))
            best = best_iou(boxes_px, anchors_px)
            print(f"| {name} | {len(boxes_px)} | {shape} | {100 * np.mean(best >= 0.5):.1f} % | "
                  f"{100 * np.mean(has_center(boxes_px, anchors_px)):.1f} % | {np.median(best):.2f} |", flush=True)


def truth_yxyx_px(project: Path, side_px: int) -> np.ndarray:
    """Boxes of the project's tables in pixels of the input, [boxes, 4]."""
    table = pandas.concat(
        pandas.read_csv(path) for path in sorted((project / "annotations").glob("*_labels.csv")))
    table = table.dropna(subset=["xmin"])
    return np.stack([table[edge] / table["height" if edge[0] == "y" else "width"] * side_px
                     for edge in ("ymin", "xmin", "ymax", "xmax")], axis=1)


def anchors_yxyx_px(entry) -> np.ndarray:
    """The anchors of a model of the zoo."""
    from scripts.modeling.experiment import model_config
    from scripts.training import task as detector

    config = detector.DetectorModel()
    config.override(model_config(entry, 1), is_strict=False)
    return detector.anchors_yxyx_px(config).numpy()


def best_iou(boxes_px: np.ndarray, anchors_px: np.ndarray) -> np.ndarray:
    """The highest IoU of each box with an anchor."""
    from scripts.training.losses import pairwise_iou

    return pairwise_iou(boxes_px[None].astype(np.float32), anchors_px[None]).numpy()[0].max(axis=1)


def has_center(boxes_px: np.ndarray, anchors_px: np.ndarray) -> np.ndarray:
    """Whether the center of an anchor lies in a box."""
    centers = (anchors_px[:, :2] + anchors_px[:, 2:]) / 2
    return ((centers > boxes_px[:, None, :2]) & (centers < boxes_px[:, None, 2:])).all(-1).any(1)


if __name__ == "__main__":
    main()

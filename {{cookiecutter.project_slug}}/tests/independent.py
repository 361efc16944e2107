"""COCO's figures straight from pycocotools and two files; the code that is tested has no part in
it."""

import contextlib
import io
import json
from pathlib import Path

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
        found = truth.loadRes(str(detections)) if json.loads(detections.read_text("utf-8")) else COCO()
        result = {}
        classes = {row["name"]: [row["id"]] for row in truth.dataset["categories"]}
        for name, ids in {"": truth.getCatIds(), **classes}.items():
            run = COCOeval(truth, found, "bbox")
            run.params.catIds, run.params.imgIds = ids, truth.getImgIds()
            run.evaluate(), run.accumulate(), run.summarize()
            figures = {key: None if value < 0 else value for key, value in zip(NAMES, run.stats, strict=True)}
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
        nothing = {"precision": [-1.0] * 101}  # a class without a box is left out, and pycocotools gives -1
        pairs += zip(analysis["pr"].get(name, nothing)["precision"], independent[name]["precision"], strict=True)
    assert all((ours is None) == (theirs is None) for ours, theirs in pairs), "undefined in one only"
    return [abs(ours - theirs) for ours, theirs in pairs if ours is not None]

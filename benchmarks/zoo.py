"""Weights, int8 file and latency of every model of the zoo: what stands under MEASURED in
`scripts/modeling/zoo.py`.

python -m benchmarks.zoo [ID ...] [--threads 2] [--runs 100]

Run it alone on the machine. Each network has three classes, the weights that it starts from (COCO
archives are not fetched: fresh ones) and a head without training. Detections are asked for from a
score of 0.5 on, so that the time is that of the network; with many detections in an image the
suppression in the file adds a little.
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks.drawn import draw_set
from tools.bake import TEMPLATE

CLASSES, IMAGES, SCORE_THRESHOLD = 3, 8, 0.5


def main() -> None:
    """Measure and print the lines to put into zoo.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="models; none: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))
    from scripts.modeling.zoo import ENTRIES

    print(f'MEASURED_ON = "int8 with {options.threads} threads on {processor()}"\nMEASURED = {{')
    with tempfile.TemporaryDirectory() as name:
        draw_set(Path(name) / "drawn", IMAGES, (640, 480))
        for model_id in options.ids or ENTRIES:
            print(
                f'    "{model_id}": {measure(ENTRIES[model_id], Path(name), options)},', flush=True)
    print("}")


def measure(entry, folder: Path, options):
    """The figures of one model; its file is run, which shows that it fits TFLite."""
    from scripts.core.layout import Layout
    from scripts.deploy.conversion import convert
    from scripts.deploy.quantization import equalize
    from scripts.deploy.reader import TfliteDetector, time_detector
    from scripts.evaluation.detector import TrainedModel
    from scripts.modeling.experiment import build_network
    from scripts.modeling.weights import restore
    from scripts.modeling.zoo import Measured
    from scripts.steps.pretrained import pretrained

    network, config = build_network(entry, CLASSES)
    if not entry.experimental:
        pretrained(folder, entry)
        restore(network, str(Layout(folder).pretrained(entry.id)))
    model = TrainedModel(network, config, "untrained")
    images = calibration(folder, entry.input_px)
    equalize(model, images)
    path = folder / f"{entry.id}.tflite"
    path.write_bytes(convert(model, "int8", SCORE_THRESHOLD, images))
    latency = time_detector(
        TfliteDetector(path, options.threads), images[0].astype("uint8"), options.runs)
    parameters = sum(variable.shape.num_elements() for variable in network.variables)
    return Measured(parameters, path.stat().st_size, latency["median"])


def calibration(folder: Path, side_px: int) -> list:
    """The drawn images at the input size, then black and white: float32 [side, side, 3]."""
    import numpy as np
    from PIL import Image

    paths = sorted((folder / "drawn").rglob("*.jpg"))
    drawn = [np.asarray(Image.open(path).resize((side_px, side_px)), np.float32) for path in paths]
    return [*drawn, *(np.full((side_px, side_px, 3), value, np.float32) for value in (0, 255))]


def processor() -> str:
    """Number and kind of the processors, as far as the system says."""
    found = Path("/proc/cpuinfo")
    lines = found.read_text(encoding="utf-8").splitlines() if found.is_file() else []
    kind = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")),
                platform.machine())
    return f"{os.cpu_count()} cores of {kind}"


if __name__ == "__main__":
    main()

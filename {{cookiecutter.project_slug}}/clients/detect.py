"""What a .tflite of this project finds: python detect.py detector_int8.tflite image.jpg [lowest score]

Needs numpy, pillow and ai-edge-litert (or tflite-runtime) and nothing of the project: copy it into your program.
"""

import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or the one of tflite_runtime.interpreter
from PIL import Image, ImageOps


def neighbors(length, side):
    """Bilinear with half-pixel centers and no antialiasing, as in training: Pillow's own resize costs accuracy."""
    place = np.clip((np.arange(side, dtype=np.float32) + 0.5) * (length / side) - 0.5, 0, length - 1)
    return np.floor(place).astype(int), np.ceil(place).astype(int), (place % 1)[:, None]


def detect(run, labels, image, lowest):
    """Class name, score 0..1 and xmin, ymin, xmax, ymax in pixels of each object in an upright RGB image."""
    rgb, ((name, tensor),) = np.asarray(image, np.float32), run.get_input_details().items()
    (top, bottom, down), (left, right, across) = (neighbors(length, tensor["shape"][1]) for length in rgb.shape[:2])
    upper, lower = (rgb[y][:, left] + (rgb[y][:, right] - rgb[y][:, left]) * across for y in (top, bottom))
    pixels = upper + (lower - upper) * down[:, None]  # 0 to 255, stretched: the network normalizes by itself
    pixels = np.rint(pixels) if tensor["dtype"] == np.uint8 else pixels
    found = {key: value[0] for key, value in run(**{name: pixels[None].astype(tensor["dtype"])}).items()}
    for slot in range(int(found["num_detections"])):  # the slots after these are undefined
        ymin, xmin, ymax, xmax = found["detection_boxes"][slot].clip(0, 1).tolist()
        box_px = xmin * image.width, ymin * image.height, xmax * image.width, ymax * image.height
        if found["detection_scores"][slot] >= lowest:
            yield labels[int(found["detection_classes"][slot])], float(found["detection_scores"][slot]), box_px


if __name__ == "__main__":
    runner, names = Interpreter(sys.argv[1]).get_signature_runner(), zipfile.ZipFile(sys.argv[1]).read("labels.txt")
    upright = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
    for label, score, edges in detect(runner, names.decode().split("\n"), upright, float([*sys.argv, "0.3"][3])):
        print(label, f"{score:.3f}", *(round(edge) for edge in edges), sep="\t")

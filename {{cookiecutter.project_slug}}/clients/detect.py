"""What a .tflite of this project finds: python detect.py detector_int8.tflite image.jpg [score]"""
# Needs numpy, pillow and ai-edge-litert, and nothing of the project: copy it into your program.

import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # or the one of tflite_runtime.interpreter
from PIL import Image, ImageOps


def stretch(rgb, side):
    """Bilinear, half-pixel centers, no antialiasing, as in training: Pillow's costs accuracy."""
    for axis in (1, 0):
        at = ((np.arange(side) + 0.5) * rgb.shape[axis] / side - 0.5).clip(0, rgb.shape[axis] - 1)
        low, high = (rgb.take(np.int32(edge(at)), axis) for edge in (np.floor, np.ceil))
        rgb = low + (high - low) * (at % 1).reshape((-1, 1, 1)[: 3 - axis])
    return rgb


def detect(run, labels, image, lowest):
    """Class, score 0..1 and xmin, ymin, xmax, ymax in pixels of each object in an upright image."""
    ((name, tensor),) = run.get_input_details().items()
    pixels = stretch(np.asarray(image, np.float32), tensor["shape"][1])  # 0 to 255, as they are
    pixels = np.rint(pixels) if tensor["dtype"] == np.uint8 else pixels
    found = run(**{name: pixels[None].astype(tensor["dtype"])})
    for slot in range(int(found["num_detections"][0])):  # the slots after these are undefined
        score, box = float(found["detection_scores"][0, slot]), found["detection_boxes"][0, slot]
        ymin, xmin, ymax, xmax = (box.clip(0, 1) * (image.size * 2)[::-1]).tolist()
        if score >= lowest:
            yield labels[int(found["detection_classes"][0, slot])], score, (xmin, ymin, xmax, ymax)


if __name__ == "__main__":
    model, photo, lowest = *sys.argv[1:3], float([*sys.argv, "0.3"][3])
    names = zipfile.ZipFile(model).read("labels.txt").decode().split("\n")
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    for name, score, box in detect(Interpreter(model).get_signature_runner(), names, image, lowest):
        print(name, f"{score:.3f}", *(round(edge) for edge in box), sep="\t")

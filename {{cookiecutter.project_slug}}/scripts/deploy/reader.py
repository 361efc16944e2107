"""Detectors as clients see them: a `.tflite` in LiteRT, or the SavedModel; both give `Detections`.

Nothing here needs TensorFlow for a `.tflite`: the resize of training is done in NumPy, and what a
raw file leaves to its reader in NumPy and OpenCV.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scripts.core.runtime import silence_native
from scripts.core.text import DetectorError
from scripts.deploy.metadata import OUTPUTS, RAW_OUTPUTS, read_anchors_yxhw
from scripts.deploy.provenance import provenance_of
from scripts.deploy.tflite_file import LABELS, packed_text, parse_labels
from scripts.evaluation.detections import Detections

ADVICE = "use a .tflite that `invoke tflite` made"
WARM_UP_RUNS, LEAST_RUNS = 5, 20


# The resize of training.

def stretch(rgb, side_px: int):
    """Return an image uint8 [height, width, 3] stretched to a square, float32 [side, side, 3].

    Values are 0..255, not rounded; bilinear with half-pixel centers and no antialiasing, as
    `tf.image.resize` does it in training.
    """
    return stretch_to(rgb, side_px, side_px)


def stretch_to(rgb, height_px: int, width_px: int):
    """Return the same as float32 [height_px, width_px, 3]."""
    top, bottom, down = _neighbors(rgb.shape[0], height_px)
    left, right, across = _neighbors(rgb.shape[1], width_px)
    across, down = across[None, :, None], down[:, None, None]
    rows = []
    for index in (top, bottom):
        # Columns are picked before the cast: only the pixels that are read become floats.
        near, far = (rgb[np.ix_(index, columns)].astype(np.float32) for columns in (left, right))
        rows.append(near + (far - near) * across)
    return rows[0] + (rows[1] - rows[0]) * down


def _neighbors(size_px: int, side_px: int):
    """Return the two source pixels around each target pixel's center, and the second's weight."""
    scale = np.float32(size_px) / np.float32(side_px)
    center = (np.arange(side_px, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    lower = np.floor(center)
    first = np.maximum(lower.astype(int), 0)
    second = np.minimum(np.ceil(center).astype(int), size_px - 1)
    return first, second, center - lower


# What follows a network without post-processing: boxes from anchors, scores, suppression.

class RawDecoder:
    """Turns the outputs `raw_boxes` and `raw_logits` of a `.tflite` into detections.

    `boxes` and `logits` are the details of these outputs as LiteRT gives them. Anchors, suppression
    and threshold are those in the file's metadata; DetectorError if it has none.
    """

    def __init__(self, path: Path, boxes: dict, logits: dict):
        self._quantizations = [output["quantization"] for output in (boxes, logits)]
        self._anchors = read_anchors_yxhw(path)
        self._decoding = provenance_of(path).get("decoding")
        if self._anchors is None or self._decoding is None:
            raise DetectorError("file without post-processing has no anchors in its metadata: "
                                f"{path}: {ADVICE}")

    def __call__(self, raw_boxes, raw_logits) -> Detections:
        """Decode `raw_boxes` [1, anchors, 4] (ty, tx, th, tw), `raw_logits` [1, anchors, n]."""
        encoded, logits = (
            real_numbers(values[0], *quantization) for values, quantization in
            zip((raw_boxes, raw_logits), self._quantizations, strict=True))
        # Boxes: an offset in sides of the anchor, and the logarithm of a size in the same.
        centers = self._anchors[:, :2] + encoded[:, :2] * self._anchors[:, 2:]
        halves = np.exp(encoded[:, 2:]) * self._anchors[:, 2:] / 2
        boxes = np.concatenate([centers - halves, centers + halves], 1)
        # Each anchor stands for its best class, as in the post-processing operation.
        scores = 1 / (1 + np.exp(-logits.max(1)))
        kept = self._suppressed(boxes, scores)
        return Detections(np.clip(boxes[kept], 0, 1).astype(np.float32), logits.argmax(1)[kept],
                          scores[kept].astype(np.float32))

    def _suppressed(self, boxes, scores):
        """Return the positions of the detections that stay, best first."""
        import cv2

        xywh = np.concatenate([boxes[:, 1::-1], (boxes[:, 2:] - boxes[:, :2])[:, ::-1]], 1)
        kept = cv2.dnn.NMSBoxes(
            xywh.astype(np.float64), scores.astype(np.float32),
            self._decoding["score_threshold"], self._decoding["suppression_iou"])
        return np.asarray(kept, int).ravel()[: self._decoding["max_detections"]]


def real_numbers(values, scale: float, zero_point: int):
    """Return quantized values as the numbers that they stand for, float32; scale 0 means none."""
    return (values.astype(np.float32) - zero_point) * scale if scale else values.astype(np.float32)


def first_slots(boxes, classes, scores, count) -> Detections:
    """Return the detections in outputs of the contract: [1, n, 4], [1, n], [1, n] and [1].

    Slots past the count are never read: what stands there may come from an earlier image.
    """
    used = int(np.clip(round(float(np.ravel(count)[0])), 0, scores.shape[1]))
    class_ids = np.rint(classes[0, :used]).astype(int)
    return Detections(boxes[0, :used].astype(np.float32), class_ids,
                      scores[0, :used].astype(np.float32))


# The detectors.

class TfliteDetector:
    """A `.tflite` of the contract in docs/deploy.md, run by LiteRT on the CPU.

    Outputs are read by the keys of the signature when there is one, else by index 0..3. A file that
    ends before the post-processing is finished by `RawDecoder`. DetectorError for a file of another
    shape.
    """

    advice = ADVICE

    def __init__(self, path: Path, threads: int = 2):
        from ai_edge_litert.interpreter import Interpreter

        self.path, self.threads = Path(path), threads
        try:
            with silence_native():
                self._interpreter = Interpreter(model_content=self.path.read_bytes(),
                                                num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise DetectorError(f"LiteRT cannot run it ({_one_line(error)}): {path}: "
                                f"{self.advice}") from None
        self._input = self._only_input()
        self._outputs, self._finish = self._reading()

    @property
    def input_px(self) -> int:
        """The side of the square input."""
        return int(self._input["shape"][1])

    @property
    def is_raw(self) -> bool:
        """Whether the file ends before the post-processing, as `int8_raw` does."""
        return len(self._outputs) == len(RAW_OUTPUTS)

    @property
    def labels(self) -> list[str]:
        """Class names by class id: `labels.txt` in the file, else beside it, else none."""
        inside = packed_text(self.path, LABELS)
        return _labels_in(self.path.parent) if inside is None else parse_labels(inside)

    def detect(self, rgb) -> Detections:
        """Detect in an image uint8 [height, width, 3], which is stretched to the input."""
        self.prepare(rgb)
        self.invoke()
        return self._finish(*(self._interpreter.get_tensor(index) for index in self._outputs))

    def prepare(self, rgb) -> None:
        """Put an image into the input tensor."""
        self._interpreter.set_tensor(self._input["index"], self.pixels(rgb))

    def pixels(self, rgb):
        """Return what the input tensor gets of an image: raw values 0..255, [1, S, S, 3]."""
        pixels = stretch(rgb, self.input_px)
        if self._input["dtype"] == np.uint8:
            pixels = np.rint(pixels).astype(np.uint8)
        return pixels[None]

    def invoke(self) -> None:
        """Run the network on what `prepare` put in."""
        self._interpreter.invoke()

    def _only_input(self) -> dict:
        inputs = self._interpreter.get_input_details()
        shape = tuple(int(side) for side in inputs[0]["shape"])
        fits = len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] and shape[3] == 3
        if len(inputs) != 1 or not fits or inputs[0]["dtype"] not in (np.uint8, np.float32):
            form = f"{inputs[0]['dtype'].__name__} {list(shape)}"
            raise DetectorError(f"input is {form}, not float32 or uint8 [1, S, S, 3]: {self.path}: "
                                f"{ADVICE}")
        return inputs[0]

    def _reading(self):
        """Return the indices of the output tensors, and the function that makes Detections."""
        # Names are safer than the order, which converters differ in.
        for key in self._interpreter.get_signature_list():
            details = self._interpreter.get_signature_runner(key).get_output_details()
            if set(OUTPUTS) <= set(details):
                return [details[name]["index"] for name in OUTPUTS], first_slots
            if set(RAW_OUTPUTS) <= set(details):
                outputs = [details[name] for name in RAW_OUTPUTS]
                return [output["index"] for output in outputs], RawDecoder(self.path, *outputs)
        details = self._interpreter.get_output_details()
        if len(details) != len(OUTPUTS):
            raise DetectorError(f"{len(details)} outputs, not the four of a detector: {self.path}: "
                                f"{ADVICE}")
        return [detail["index"] for detail in details], first_slots


class SavedModelDetector:
    """`inference/saved_model`, run by TensorFlow; it resizes by itself."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self.path = Path(folder)
        try:
            self._model = tf.saved_model.load(str(folder))
            self._run = self._model.signatures["serving_default"]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise DetectorError(f"TensorFlow cannot load it ({_one_line(error)}): {folder}: "
                                "run `invoke export`") from None

    @property
    def labels(self) -> list[str]:
        """Class names by class id: `labels.txt` in the folder, else beside it, else none."""
        return _labels_in(self.path) or _labels_in(self.path.parent)

    def detect(self, rgb) -> Detections:
        """Detect in an image uint8 [height, width, 3]."""
        import tensorflow as tf

        found = self._run(images=tf.constant(rgb[None], tf.uint8))
        return first_slots(*(found[name].numpy() for name in OUTPUTS))


def open_detector(path: Path, threads: int = 2) -> TfliteDetector | SavedModelDetector:
    """Open a `.tflite`, the folder of a SavedModel or the one above it; else DetectorError."""
    path = Path(path)
    if path.is_dir():
        for folder in (path, path / "saved_model"):
            if (folder / "saved_model.pb").is_file():
                return SavedModelDetector(folder)
        raise DetectorError(f"folder holds no saved_model.pb: {path}: run `invoke export`, or name "
                            "a .tflite file")
    if not path.exists():
        step = "tflite" if path.suffix == ".tflite" else "export"
        raise DetectorError(f"model is missing: {path}: run `invoke {step}` first")
    if path.suffix.lower() != ".tflite":
        raise DetectorError(f"not a model: {path}: name a .tflite file or the folder of a "
                            "SavedModel")
    return TfliteDetector(path, threads)


def _labels_in(folder: Path) -> list[str]:
    path = folder / LABELS
    return parse_labels(path.read_text("utf-8-sig")) if path.is_file() else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# Time.

def time_detector(detector: TfliteDetector, rgb, runs: int = LEAST_RUNS) -> dict:
    """Return milliseconds of `invoke` alone on one image: `median`, `p90`, and the `threads`."""
    detector.prepare(rgb)
    return {**latency(times_ms(detector.invoke, runs)), "threads": detector.threads}


def times_ms(invoke: Callable[[], None], runs: int = LEAST_RUNS) -> list[float]:
    """Return the milliseconds of each of at least 20 calls, after some that warm up."""
    for _ in range(WARM_UP_RUNS):
        invoke()
    times = []
    for _ in range(max(runs, LEAST_RUNS)):
        start_s = time.perf_counter()
        invoke()
        times.append(1000 * (time.perf_counter() - start_s))
    return times


def latency(milliseconds: list[float]) -> dict:
    """Return their `median` and 90th percentile, `p90`."""
    median, p90 = np.percentile(milliseconds, [50, 90])
    return {"median": round(float(median), 3), "p90": round(float(p90), 3)}

"""From a trained model to `.tflite` bytes.

The network ends in `TFLite_Detection_PostProcess`, the operation that every TFLite object detection
client reads. Its outputs stay float32: quantized outputs cost 22 points of AP when measured,
because the unfilled slots stretch their ranges. Only `int8_raw` ends before it, for accelerators
that run nothing but int8.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from scripts.core.runtime import silence_libraries, silence_native
from scripts.data.box_table import read_table, table_path
from scripts.deploy.metadata import (
    OUTPUTS,
    RAW_OUTPUTS,
    advised,
    description,
    read_about,
    with_metadata,
)
from scripts.evaluation.detections import decode_rgb, record_images
from scripts.modeling.experiment import SUPPRESSION_IOU


def convert(model, variant: str, score_threshold: float, calibration: Iterable) -> bytes:
    """`.tflite` bytes of a `TrainedModel`.

    `variant`: one of `core/schema.py`; `model` is a quantization-aware one (`qat.py`) for
    `int8_qat`. `calibration`: float32 [side, side, 3] images, RGB 0..255, read for `int8` and
    `int8_raw`; they should reach 0 and 255, so that the uint8 input is the raw pixel.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, silence_libraries(), silence_native():
        module = _raw_module(model) if variant == "int8_raw" else _module(model, score_threshold)
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = True
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif variant == "int8":
            return _quantized(converter, list(calibration))
        elif variant == "int8_raw":
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        elif variant == "int8_qat":
            converter.inference_input_type = tf.uint8
        return converter.convert()


def _quantized(converter, calibration: list) -> bytes:
    """int8 inside, uint8 in, float32 out; the sigmoid of the scores stays float.

    An int8 sigmoid has steps of 1/256: all confident detections tie at 0.996 and their order is
    lost (measured: 0.9 points of AP on photographs of raccoons). The documented way to keep an
    operation in float is the debugger's list.
    """
    import tensorflow as tf
    from tensorflow.lite.python.util import modify_model_io_type

    converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["LOGISTIC"])
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: ([image[None]] for image in calibration[:1]),
        debug_options=options)
    return bytes(modify_model_io_type(debugger.get_nondebug_quantized_model(), tf.uint8, tf.float32))


def _module(model, score_threshold: float):
    """A tf.Module whose `serve` takes [1, side, side, 3] pixels and ends in the post-processing
    operation."""
    import tensorflow as tf

    side, anchors = model.input_px, tf.constant(anchors_yxhw(model))
    module = tf.Module()
    module.variables_used = model.network.variables  # Not the network: Keras would trace each of its layers anew.
    post_process = _post_process(model.config.num_classes - 1, score_threshold)

    @tf.function(input_signature=[tf.TensorSpec([1, side, side, 3], tf.float32, name="images")])
    def serve(images):
        boxes, scores = model.predict(images)
        return dict(zip(OUTPUTS, post_process(boxes, scores, anchors), strict=True))

    module.serve = serve
    return module


def _raw_module(model):
    """A tf.Module whose `serve` gives RAW_OUTPUTS: encoded boxes, and scores before their sigmoid.

    An int8 sigmoid has steps of 1/256, so the client computes it (see `_quantized`).
    """
    import tensorflow as tf

    module = tf.Module()
    module.variables_used = model.network.variables

    @tf.function(input_signature=[tf.TensorSpec([1, model.input_px, model.input_px, 3], tf.float32, name="images")])
    def serve(images):
        return dict(zip(RAW_OUTPUTS, model.predict_logits(images), strict=True))

    module.serve = serve
    return module


def anchors_yxhw(model):
    """Anchors of a `TrainedModel` as center and size in 0..1 of the input, float32 [anchors, 4]."""
    yxyx = model.anchors_yxyx_px().numpy() / float(model.input_px)
    return np.concatenate([(yxyx[:, :2] + yxyx[:, 2:]) / 2.0, yxyx[:, 2:] - yxyx[:, :2]], 1).astype(np.float32)


def _post_process(classes: int, score_threshold: float):
    """A function that the converter replaces by TFLite_Detection_PostProcess; in TensorFlow it
    returns dummies.

    Attributes: tensorflow/lite/kernels/detection_postprocess.cc. Suppression is that of
    `evaluation/detector.py`, which says why it is not the "regular" one.
    """
    import tensorflow as tf

    from scripts.evaluation.detector import DETECTIONS

    attributes = {
        "max_detections": f"i: {DETECTIONS}", "max_classes_per_detection": "i: 1",
        "detections_per_class": f"i: {DETECTIONS}", "use_regular_nms": "b: false",
        "nms_score_threshold": f"f: {score_threshold:f}", "nms_iou_threshold": f"f: {SUPPRESSION_IOU:f}",
        "y_scale": "f: 1.0", "x_scale": "f: 1.0", "h_scale": "f: 1.0", "w_scale": "f: 1.0",
        "num_classes": f"i: {classes}",
    }
    signature = 'name: "TFLite_Detection_PostProcess" ' + " ".join(
        f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in attributes.items())

    @tf.function(experimental_implements=signature)
    def post_process(boxes, scores, anchors):
        return (tf.zeros([1, DETECTIONS, 4]), tf.zeros([1, DETECTIONS]), tf.zeros([1, DETECTIONS]), tf.zeros([1]))

    return post_process


def calibration_images(root: Path, side_px: int, count: int) -> list:
    """Un-augmented training images, float32 [side, side, 3] in 0..255, spread over the split; then
    black and white.

    Black and white pin the input to 0..255, so that a uint8 input value is the pixel itself.
    """
    from scripts.evaluation.detector import stretch

    every = max(1, len(read_table(table_path(root, "train"))) // max(count, 1))
    chosen = [image for index, image in enumerate(record_images(root, "train")) if index % every == 0][:count]
    images = [stretch(decode_rgb(image.encoded), side_px).numpy() for image in chosen]
    return [*images, *(np.full((side_px, side_px, 3), value, np.float32) for value in (0.0, 255.0))]


# The bytes of each variant of the file, with metadata: what is scored is what is shipped.

CALIBRATED = ("int8", "int8_qat", "int8_raw")
"""Variants whose ranges are measured on training images."""


def variant_bytes(root: Path, model, name: str, variant: str, labels: list[str], metrics: dict, settings,
                  advice) -> bytes:
    """A `.tflite` of a `TrainedModel`, whose weights stay as they are.

    `name` stands for the one in `pyproject.toml` where that has none; `metrics` are those of
    `eval/metrics.json`, `settings` a `Settings`, `advice` an `Advice` or None.
    """
    model, calibration = _prepared(root, model, variant, settings)
    data = convert(model, variant, settings.evaluate.score_threshold, calibration)
    about = read_about(root)
    return with_metadata(
        data, labels, name=about.name or name, description=description(settings.model.id, variant, advice),
        author=about.author, license=about.license,
        provenance=_provenance(root, model, variant, metrics, settings, advice, len(calibration)),
        anchors_yxhw=anchors_yxhw(model) if variant == "int8_raw" else None)


def _prepared(root: Path, model, variant: str, settings) -> tuple:
    """The model to convert and the images that set its ranges, none for a variant without."""
    from scripts.deploy.quantization import equalize, quantization_aware
    from scripts.evaluation.detector import load_model

    if variant not in CALIBRATED:
        return model, []
    images = calibration_images(root, model.input_px, settings.tflite.calibration_images)
    model = load_model(root, settings.export.checkpoint)  # Its weights are rewritten; the float files keep theirs.
    equalize(model, images)
    if variant == "int8_qat":
        model = quantization_aware(root, model, settings.tflite.qat_share, images)
    return model, images


def _provenance(root: Path, model, variant: str, metrics: dict, settings, advice, images: int) -> dict:
    """Where the file comes from; of `int8_raw` also what its reader does after the network."""
    from scripts.evaluation.detector import DETECTIONS
    from scripts.training.run_file import installed_versions, read_run

    run = read_run(root) or {}
    facts = {
        "model": settings.model.id, "variant": variant, "checkpoint": model.checkpoint,
        "checkpoint_AP": metrics["AP"], "data_sha256": run.get("data_sha256"), "weights": run.get("weights"),
        "versions": installed_versions(), "calibration_images": images,
        "settings": settings.subset(["model.id", "train", "evaluate", "overrides"]),
        "training": {key: run.get(key) for key in ("steps", "seconds", "stopped_by", "seed")}, **advised(advice)}
    if variant == "int8_raw":
        facts["decoding"] = {"score_threshold": settings.evaluate.score_threshold, "suppression_iou": SUPPRESSION_IOU,
                             "max_detections": DETECTIONS}
    return facts

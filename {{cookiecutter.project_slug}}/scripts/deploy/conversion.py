"""From a trained model to `.tflite` bytes.

The network ends in `TFLite_Detection_PostProcess`, the operation that every TFLite object detection
client reads. Its outputs stay float32: quantized outputs cost 22 points of AP when measured,
because the unfilled slots stretch their ranges. Only `int8_raw` ends before it, for accelerators
that run nothing but int8.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from scripts.core.runtime import silence_libraries, silence_native
from scripts.core.schema import SLOTS
from scripts.deploy.metadata import OUTPUTS, RAW_OUTPUTS, with_metadata
from scripts.evaluation.detections import RecordImage, decode_rgb
from scripts.evaluation.detector import TrainedModel, stretch
from scripts.modeling.experiment import SUPPRESSION_IOU

# Variants whose ranges are measured on training images.
CALIBRATED = ("int8", "int8_qat", "int8_raw")


def variant_bytes(model: TrainedModel, variant: str, calibration: Sequence, score_threshold: float,
                  labels: list[str], about: dict, provenance: dict) -> bytes:
    """Return a variant as a `.tflite` with metadata, labels and provenance.

    Args:
        model: for a variant in CALIBRATED already fitted to int8, see `deploy/quantization.py`.
        variant: one of `VARIANTS` in `core/schema.py`.
        calibration: as for `convert`.
        score_threshold: the post-processing drops detections below this score, 0..1.
        labels: class names by 0-based class id.
        about: `name`, `description`, `author` and `license`.
        provenance: what all variants share; what this one adds is added here.
    """
    images = len(calibration) if variant in CALIBRATED else 0
    facts = provenance | {"variant": variant, "calibration_images": images}
    anchors = None
    if variant == "int8_raw":
        # A reader does the post-processing itself: it needs the anchors and these three numbers.
        anchors = anchors_yxhw(model)
        facts["decoding"] = {"score_threshold": score_threshold, "max_detections": SLOTS,
                             "suppression_iou": SUPPRESSION_IOU}
    data = convert(model, variant, score_threshold, calibration)
    return with_metadata(data, labels, **about, provenance=facts, anchors_yxhw=anchors)


def convert(model: TrainedModel, variant: str, score_threshold: float,
            calibration: Iterable) -> bytes:
    """Return the bare `.tflite` bytes of a variant.

    Args:
        model: a `QuantizationAware` one for `int8_qat`.
        variant: one of `VARIANTS` in `core/schema.py`.
        score_threshold: as for `variant_bytes`.
        calibration: float32 [side, side, 3] images, RGB 0..255, read for `int8` and `int8_raw`.
            They should reach 0 and 255, so that the uint8 input is the raw pixel.
    """
    calibration = list(calibration)
    with tempfile.TemporaryDirectory() as folder, silence_libraries(), silence_native():
        is_raw = variant == "int8_raw"
        module = _raw_module(model) if is_raw else _module(model, score_threshold)
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = True  # The post-processing operation is one.
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif variant == "int8":
            return _quantized(converter, calibration)
        elif variant == "int8_raw":
            converter.representative_dataset = _batches_of_one(calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        elif variant == "int8_qat":
            # Its ranges stand in the network, so no images are needed.
            converter.inference_input_type = tf.uint8
        return converter.convert()


def _quantized(converter, calibration: list) -> bytes:
    """Convert to int8 inside, uint8 in, float32 out; the sigmoid of the scores stays float.

    An int8 sigmoid has steps of 1/256: all confident detections tie at 0.996 and their order is
    lost (measured: 0.9 points of AP on photographs of raccoons). The documented way to keep an
    operation in float is the debugger's list:
    https://www.tensorflow.org/lite/performance/quantization_debugger.
    """
    from tensorflow.lite.python.util import modify_model_io_type

    converter.representative_dataset = _batches_of_one(calibration)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=_batches_of_one(calibration[:1]),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["LOGISTIC"]))
    quantized = debugger.get_nondebug_quantized_model()
    return bytes(modify_model_io_type(quantized, tf.uint8, tf.float32))


def _batches_of_one(images: list) -> Callable:
    """Return a representative dataset in the form that the converter asks for."""
    return lambda: ([image[None]] for image in images)


def _module(model: TrainedModel, score_threshold: float) -> tf.Module:
    """Return a module whose `serve` ends in the post-processing operation."""
    anchors = tf.constant(anchors_yxhw(model))
    post_process = _post_process(model.config.num_classes - 1, score_threshold)

    def outputs(images):
        boxes, scores = model.predict(images)
        return dict(zip(OUTPUTS, post_process(boxes, scores, anchors), strict=True))

    return _serving(model, outputs)


def _raw_module(model: TrainedModel) -> tf.Module:
    """Return a module whose `serve` gives RAW_OUTPUTS: encoded boxes, scores before the sigmoid.

    The sigmoid is left to the client for the reason that `_quantized` gives.
    """
    return _serving(model, lambda images: dict(zip(RAW_OUTPUTS, model.predict_logits(images),
                                                   strict=True)))


def _serving(model: TrainedModel, outputs: Callable) -> tf.Module:
    """Return a module whose `serve` takes float32 pixels [1, side, side, 3]."""
    module = tf.Module()
    # The variables and not the network: Keras would trace each of its layers anew.
    module.variables_used = model.network.variables
    shape = [1, model.input_px, model.input_px, 3]
    signature = [tf.TensorSpec(shape, tf.float32, "images")]
    module.serve = tf.function(outputs, input_signature=signature)
    return module


def anchors_yxhw(model: TrainedModel) -> np.ndarray:
    """Return the anchors as center and size in 0..1 of the input, float32 [anchors, 4]."""
    yxyx = model.anchors_yxyx_px().numpy() / float(model.input_px)
    centers, sizes = (yxyx[:, :2] + yxyx[:, 2:]) / 2.0, yxyx[:, 2:] - yxyx[:, :2]
    return np.concatenate([centers, sizes], 1).astype(np.float32)


def _post_process(classes: int, score_threshold: float) -> Callable:
    """Return a function that the converter replaces by TFLite_Detection_PostProcess.

    In TensorFlow it returns zeros. Attributes: tensorflow/lite/kernels/detection_postprocess.cc.
    Suppression is that of `evaluation/detector.py`, which says why it is not the "regular" one.
    """
    attributes = {
        "max_detections": f"i: {SLOTS}", "max_classes_per_detection": "i: 1",
        "detections_per_class": f"i: {SLOTS}", "use_regular_nms": "b: false",
        "nms_score_threshold": f"f: {score_threshold:f}",
        "nms_iou_threshold": f"f: {SUPPRESSION_IOU:f}",
        "y_scale": "f: 1.0", "x_scale": "f: 1.0", "h_scale": "f: 1.0", "w_scale": "f: 1.0",
        "num_classes": f"i: {classes}",
    }
    signature = 'name: "TFLite_Detection_PostProcess" ' + " ".join(
        f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in attributes.items())

    @tf.function(experimental_implements=signature)
    def post_process(boxes, scores, anchors):
        return tf.zeros([1, SLOTS, 4]), tf.zeros([1, SLOTS]), tf.zeros([1, SLOTS]), tf.zeros([1])

    return post_process


def calibration_images(images: Iterable[RecordImage], total: int, side_px: int, count: int) -> list:
    """Return images to measure ranges on: float32 [side, side, 3], RGB 0..255.

    The last two are black and white: they pin the input to 0..255, so that a uint8 value is the
    pixel itself.

    Args:
        images: those of the training split, `total` of them; `count` are taken, evenly spread.
        side_px: the side of the network's input.
    """
    # Spread over the split: images that lie side by side often show one scene.
    every = max(1, total // count)
    chosen = [image for index, image in enumerate(images) if index % every == 0][:count]
    pixels = [stretch(decode_rgb(image.encoded), side_px).numpy() for image in chosen]
    return [*pixels, *(np.full((side_px, side_px, 3), value, np.float32) for value in (0.0, 255.0))]

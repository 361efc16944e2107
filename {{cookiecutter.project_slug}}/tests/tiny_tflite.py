"""A detector of 16 cells that needs no training: what the `.tflite` contract is tested with.

The image is cut into 4 x 4 cells. A cell whose mean color is that of a class is an object of it:
the class with number i has the color of `COLORS[i]`, and black is none. The purer the color, the
higher the score.
"""

import functools
import tempfile

SIDE_PX, CELLS = 32, 4
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
          (255, 255, 255))
LABELS = ("red", "green", "blue", "yellow", "magenta", "cyan", "белый")
NAMES = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
SLOTS = 100


@functools.cache
def tiny_tflite(variant: str = "int8") -> bytes:
    """The model as `.tflite` without metadata: `float32` (float input) or `int8` (uint8 input);
    float32 outputs."""
    import numpy as np
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        module = _module()
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = True
        if variant == "int8":
            images = [np.full((1, SIDE_PX, SIDE_PX, 3), color, np.float32)
                      for color in ((0, 0, 0), *COLORS)]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.float32
        return converter.convert()


def _module():
    import numpy as np
    import tensorflow as tf

    module, size = tf.Module(), 1 / CELLS
    centers = [(row + 0.5, column + 0.5) for row in range(CELLS) for column in range(CELLS)]
    anchors = tf.constant([[y * size, x * size, size, size] for y, x in centers], tf.float32)
    colors = np.float32(COLORS) / 127.5 - 1
    # The score is the likeness of two colors of -1..1 a channel: 3 when equal, 1 when one channel
    # differs.
    kernel = tf.constant(colors.T.reshape(1, 1, 3, -1))
    post_process = _post_process(len(COLORS))

    @tf.function(
        input_signature=[tf.TensorSpec([1, SIDE_PX, SIDE_PX, 3], tf.float32, name="images")])
    def serve(images):
        means = tf.nn.avg_pool2d(images / 127.5 - 1.0, SIDE_PX // CELLS, SIDE_PX // CELLS, "VALID")
        likeness = tf.nn.conv2d(means, kernel, 1, "VALID")
        scores = tf.sigmoid(tf.reshape(likeness, [1, CELLS * CELLS, len(COLORS)]) * 4.0 - 8.0)
        boxes = tf.reshape(tf.concat([means, means[..., :1]], -1), [1, CELLS * CELLS, 4]) * 0.1
        return dict(zip(NAMES, post_process(boxes, scores, anchors), strict=True))

    module.serve = serve
    return module


def _post_process(classes: int):
    import tensorflow as tf

    attributes = {
        # Not regular suppression: LiteRT 2.3 and TensorFlow 2.20 then skip class id N when run with
        # N threads.
        "max_detections": f"i: {SLOTS}", "max_classes_per_detection": "i: 1",
        "detections_per_class": f"i: {SLOTS}",
        "use_regular_nms": "b: false", "nms_score_threshold": "f: 0.3",
        "nms_iou_threshold": "f: 0.5",
        "y_scale": "f: 1.0", "x_scale": "f: 1.0", "h_scale": "f: 1.0", "w_scale": "f: 1.0",
        "num_classes": f"i: {classes}",
    }  # fmt: skip
    listed = " ".join(
        f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in attributes.items())

    @tf.function(experimental_implements=f'name: "TFLite_Detection_PostProcess" {listed}')
    def post_process(boxes, scores, anchors):
        return tf.zeros([1, SLOTS, 4]), tf.zeros([1, SLOTS]), tf.zeros([1, SLOTS]), tf.zeros([1])

    return post_process


def edited(model: bytes, edit) -> bytes:
    """The network after `edit(network)`, which gets it as the object of the schema; metadata files
    are dropped."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    network = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(model), 0))
    edit(network)
    builder = flatbuffers.Builder(1024)
    builder.Finish(network.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def image(cells: dict[tuple[int, int], int], side_px: int = SIDE_PX, dim: float = 1.0):
    """An image uint8 [side_px, side_px, 3] with the color of a class in each cell (row, column),
    black elsewhere."""
    import numpy as np

    rgb, step = np.zeros((side_px, side_px, 3), np.uint8), side_px // CELLS
    for (row, column), class_id in cells.items():
        color = (np.float32(COLORS[class_id]) * dim).astype(np.uint8)
        rgb[row * step : (row + 1) * step, column * step : (column + 1) * step] = color
    return rgb

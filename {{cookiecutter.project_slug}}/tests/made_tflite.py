"""Detectors built by hand with the schema, without TensorFlow: stand-ins for files of others.

Every pixel of the input is an anchor, every channel a class (red, green, blue), and the score is
the real number that stands in the input: what the reader puts there is what the detector says.
"""

import functools
import io
import tempfile
import zipfile
from dataclasses import dataclass, field

import numpy as np

HEIGHT, WIDTH, SLOTS = 2, 3, 6
RED, GREEN, BLUE = 0, 1, 2
ROLES = ("boxes", "classes", "scores", "count")
TYPES = {np.float32: 0, np.int32: 2, np.uint8: 3, np.int64: 4, np.int8: 9}


@dataclass
class Made:
    """What a file shall be like; `order` is that of its outputs, `quantized` the type of outputs
    behind QUANTIZE."""

    kind: type = np.uint8
    scale: float = 1 / 255
    zero_point: int = 0
    order: tuple = ROLES
    names: dict = field(default_factory=dict)
    signature: dict | None = None
    quantized: type | None = None
    pixel_anchors: bool = False
    slots: int = SLOTS
    num_classes: int = 3
    classes_each: int = 1
    shape: tuple = (1, HEIGHT, WIDTH, 3)
    with_operation: bool = True
    free: tuple | None = None


class _Network:
    """A network that grows: `tensor` and `operation` add to it."""

    def __init__(self):
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.model, self.graph = schema, schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description, self.graph.name = 3, b"made by hand", b"main"
        self.model.subgraphs, self.model.buffers, self.model.operatorCodes = [self.graph], [
            schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, name, kind, shape, data=None, scale=0.0, zero_point=0) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.type, tensor.shape, tensor.buffer = name, TYPES[kind], list(shape), 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.asarray(data, kind).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operation(self, kind, inputs, outputs, custom=None) -> None:
        code, operator = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        if kind == "CUSTOM":
            code.customCode = "TFLite_Detection_PostProcess"
            operator.customOptions = np.frombuffer(custom, np.uint8)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(
            self.model.operatorCodes), inputs, outputs
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def bytes(self) -> bytes:
        import flatbuffers

        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def made(**wishes) -> bytes:
    """The bytes of a `Made`, without metadata."""
    wish, network = Made(**wishes), _Network()
    scores = _scores(network, wish)
    cells = HEIGHT * WIDTH
    boxes = network.tensor("encodings", np.float32, (1, cells, 4), np.zeros((1, cells, 4)))
    anchors = network.tensor("anchors", np.float32, (cells, 4), _anchors(wish.pixel_anchors))
    rows = wish.slots * wish.classes_each
    shapes = {"boxes": (1, rows, 4), "classes": (1, rows), "scores": (1, rows), "count": (1,)}
    roles = {role: network.tensor(wish.names.get(role, role), np.float32, shapes[role],
                                  None if wish.with_operation else np.ones(shapes[role]))
                                  for role in ROLES}
    if wish.with_operation:
        network.operation("CUSTOM", [boxes, scores, anchors], list(roles.values()), _options(wish))
    if wish.quantized:
        for role, index in list(roles.items()):
            scale = {"scores": 1 / 256, "boxes": 1 / 128}.get(role, 1 / 16)
            small = network.tensor(f"small {role}", wish.quantized, shapes[role], scale=scale,
                                   zero_point=-128 if wish.quantized is np.int8 else 0)
            network.operation("QUANTIZE", [index], [small])
            roles[role] = small
    network.graph.outputs = [roles[role] for role in wish.order]
    if wish.signature is not None:
        network.model.signatureDefs = [_signature(network.schema, wish.signature, roles)]
    return network.bytes()


def _scores(network: _Network, wish: Made) -> int:
    """The input, and the tensor [1, cells, 3] of its real numbers."""
    quantized = wish.kind is not np.float32
    pixels = network.tensor(
        "image", wish.kind, wish.shape, None, wish.scale if quantized else 0, wish.zero_point)
    network.graph.inputs = [pixels]
    if wish.free:
        network.graph.tensors[pixels].shapeSignature = list(wish.free)
    if quantized and wish.scale:
        real = network.tensor("real", np.float32, wish.shape)
        network.operation("DEQUANTIZE", [pixels], [real])
        pixels = real
    shape = [1, HEIGHT * WIDTH, 3]
    scores = network.tensor("scores in", np.float32, shape)
    network.operation("RESHAPE", [pixels, network.tensor("shape", np.int32, (3,), shape)], [scores])
    return scores


def _anchors(in_pixels: bool):
    """Each pixel of the input as center y, center x, height, width, in fractions or in pixels."""
    down, across = (1, 1) if in_pixels else (1 / HEIGHT, 1 / WIDTH)
    cells = [(row + 0.5, column + 0.5) for row in range(HEIGHT) for column in range(WIDTH)]
    return [[row * down, column * across, down, across] for row, column in cells]


def _options(wish: Made) -> bytes:
    from flatbuffers import flexbuffers

    return bytes(flexbuffers.Dumps({
        "max_detections": wish.slots, "max_classes_per_detection": wish.classes_each,
        "num_classes": wish.num_classes,
        "detections_per_class": wish.slots, "use_regular_nms": False, "nms_score_threshold": 0.25,
        "nms_iou_threshold": 0.5, "y_scale": 1.0, "x_scale": 1.0, "h_scale": 1.0, "w_scale": 1.0}))


def _signature(schema, names: dict, roles: dict):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [], []
    for name, role in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, roles[role]
        signature.outputs.append(entry)
    return signature


def described(model: bytes, labels=(), mean=None, std=None, outputs=(), packed=None) -> bytes:
    """The model with metadata as the Task Library's writer makes it; `packed` replaces its packed
    bytes."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    network = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(model), 0))
    builder = flatbuffers.Builder(1024)
    builder.Finish(_metadata(labels, mean, std, outputs).Pack(builder), b"M001")
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(builder.Output()) if packed is None else packed, np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(network.buffers)
    network.buffers.append(buffer)
    network.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(network.Pack(builder), b"TFL3")
    data = io.BytesIO(bytes(builder.Output()))
    if labels:
        with zipfile.ZipFile(data, "a") as archive:
            archive.writestr("labelmap.txt", "\n".join(labels) + "\n")
    return data.getvalue()


def _metadata(labels, mean, std, outputs):
    from scripts.deploy.tflite_file import metadata_schema

    schema = metadata_schema()
    metadata, graph = schema.ModelMetadataT(), schema.SubGraphMetadataT()
    image = schema.TensorMetadataT()
    metadata.name, metadata.subgraphMetadata = "stand-in", [graph]
    graph.inputTensorMetadata, graph.outputTensorMetadata, image.name = [image], [], "image"
    if mean is not None:
        unit, options = schema.ProcessUnitT(), schema.NormalizationOptionsT()
        options.mean, options.std = list(mean), list(std)
        unit.optionsType, unit.options = schema.ProcessUnitOptions.NormalizationOptions, options
        image.processUnits = [unit]
    for name in outputs or ("location", "category", "score", "number of detections"):
        tensor = schema.TensorMetadataT()
        tensor.name = name
        graph.outputTensorMetadata.append(tensor)
    if labels:
        file = schema.AssociatedFileT()
        file.name, file.type = "labelmap.txt", schema.AssociatedFileType.TENSOR_VALUE_LABELS
        graph.outputTensorMetadata[1].associatedFiles = [file]
    return metadata


# A detector of 16 cells that needs no training: what the `.tflite` contract is tested with.


SIDE_PX, CELLS = 32, 4
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
          (255, 255, 255))
LABELS = ("red", "green", "blue", "yellow", "magenta", "cyan", "белый")
NAMES = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
SLOTS_OF_TINY_TFLITE = 100


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
        "max_detections": f"i: {SLOTS_OF_TINY_TFLITE}", "max_classes_per_detection": "i: 1",
        "detections_per_class": f"i: {SLOTS_OF_TINY_TFLITE}",
        "use_regular_nms": "b: false", "nms_score_threshold": "f: 0.3",
        "nms_iou_threshold": "f: 0.5",
        "y_scale": "f: 1.0", "x_scale": "f: 1.0", "h_scale": "f: 1.0", "w_scale": "f: 1.0",
        "num_classes": f"i: {classes}",
    }  # fmt: skip
    listed = " ".join(
        f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in attributes.items())

    @tf.function(experimental_implements=f'name: "TFLite_Detection_PostProcess" {listed}')
    def post_process(boxes, scores, anchors):
        return tf.zeros([1, SLOTS_OF_TINY_TFLITE, 4]), tf.zeros(
            [1, SLOTS_OF_TINY_TFLITE]), tf.zeros([1, SLOTS_OF_TINY_TFLITE]), tf.zeros([1])

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

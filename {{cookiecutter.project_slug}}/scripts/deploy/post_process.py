"""The operation in which most detectors end, TFLite_Detection_PostProcess: its options, its anchors."""

from typing import Any

from scripts.deploy.tflite_file import TfliteFile, dtype_name, operation_name

POST_PROCESS = "TFLite_Detection_PostProcess"


def post_process_options(file: TfliteFile) -> dict[str, Any]:
    """The options of the post-processing operation, such as `num_classes`; empty when there is none."""
    from flatbuffers import flexbuffers

    operator = post_process(file)
    options = None if operator is None else operator.customOptions
    return {} if options is None or len(options) == 0 else flexbuffers.Loads(bytes(options))


def rows_each(file: TfliteFile) -> tuple[int, int]:
    """Rows of the outputs that one counted detection has, and how many of them are filled.

    The operation counts anchors, and gives the same box for each of the best `max_classes_per_detection` classes.
    """
    options = post_process_options(file)
    rows = 1 if options.get("use_regular_nms") else max(1, int(options.get("max_classes_per_detection", 1)))
    return rows, min(rows, max(1, int(options.get("num_classes", rows))))


def anchors(file: TfliteFile):
    """The anchors of the post-processing operation, real [N, 4] as centre y, centre x, height, width, or None."""
    import numpy as np

    operator, graph = post_process(file), file.network.subgraphs[0]
    if operator is None or len(operator.inputs) < 3:
        return None
    tensor = graph.tensors[operator.inputs[2]]
    data = file.network.buffers[tensor.buffer].data
    kind = dtype_name(tensor.type)
    if data is None or len(data) == 0 or kind not in ("float32", "float16", "uint8", "int8"):
        return None
    values = np.frombuffer(bytes(data), kind).astype(np.float32).reshape(-1, 4)
    quantization = tensor.quantization
    if "int8" in kind and quantization is not None and quantization.scale is not None:
        return (values - quantization.zeroPoint[0]) * quantization.scale[0]
    return values


def post_process(file: TfliteFile):
    """The post-processing operation of the main graph, None when there is none."""
    operators = file.network.subgraphs[0].operators or []
    return next((one for one in operators if operation_name(file.network, one) == (POST_PROCESS, True)), None)

"""Boxes of a `.tflite` end at the picture: two operations behind the one that suppresses.

A box may reach over the border. MediaPipe Tasks moves the first edge of such a box to the border and keeps its width,
so that the other edge lands inside the object, on every phone. Done on the finished network: what the converter is
given before it quantises, it would quantise too, in steps of 1/255 of the picture.
"""

BOXES = "detection_boxes"


def clip_boxes(network) -> None:
    """Let the output `detection_boxes` of `network` (a ModelT of the schema) be cut to 0..1, once.

    Nothing happens to a network without that output in its signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    entries = [entry for signature in network.signatureDefs or [] for entry in signature.outputs
               if entry.name.decode() == BOXES]
    if not entries or _is_clipped(network, entries[0].tensorIndex):
        return
    graph, before = network.subgraphs[0], entries[0].tensorIndex
    operators = schema.BuiltinOperator
    after = _append(network, operators.MINIMUM, before, 1.0)
    after = _append(network, operators.MAXIMUM, after, 0.0)
    graph.outputs = [after if index == before else index for index in graph.outputs]
    for entry in entries:
        entry.tensorIndex = after


def _is_clipped(network, tensor: int) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    makers = [one for one in network.subgraphs[0].operators if tensor in one.outputs]
    return any(network.operatorCodes[one.opcodeIndex].builtinCode == schema.BuiltinOperator.MAXIMUM for one in makers)


def _append(network, code: int, tensor: int, limit: float) -> int:
    """Add an operation of `tensor` and the number `limit`, and return the tensor that it makes."""
    from ai_edge_litert import schema_py_generated as schema

    graph = network.subgraphs[0]
    before = graph.tensors[tensor]
    operator = schema.OperatorT()
    operator.opcodeIndex = _code_index(network, code)
    operator.inputs = [tensor, _tensor(network, f"limit {limit}", [], limit)]
    operator.outputs = [_tensor(network, f"{BOXES} {limit}", before.shape)]
    operator.builtinOptionsType = schema.BuiltinOptions.MaximumMinimumOptions
    operator.builtinOptions = schema.MaximumMinimumOptionsT()
    graph.operators.append(operator)
    return operator.outputs[0]


def _code_index(network, code: int) -> int:
    """Where `code` stands in the list of operations; added when it does not."""
    from ai_edge_litert import schema_py_generated as schema

    for index, known in enumerate(network.operatorCodes):
        if known.builtinCode == code:
            return index
    added = schema.OperatorCodeT()
    added.builtinCode = added.deprecatedBuiltinCode = code
    added.version = 1
    network.operatorCodes.append(added)
    return len(network.operatorCodes) - 1


def _tensor(network, name: str, shape, value: float | None = None) -> int:
    """Add a float32 tensor, a constant if it has a value, and return its index."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    if value is not None:
        buffer.data = np.frombuffer(np.float32(value).tobytes(), np.uint8)
    network.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.FLOAT32
    tensor.buffer = len(network.buffers) - 1
    network.subgraphs[0].tensors.append(tensor)
    return len(network.subgraphs[0].tensors) - 1

"""Whether a training step fits into memory, asked before it is tried: an operating system that ends a process does not
say why."""

import math
from pathlib import Path

import tensorflow as tf

from scripts.pipeline.errors import DetectorError

# Measured as peak of the process (lite0-256, lite2-448, mnv2-320, mnv2-256-coco; 4 to 64 pictures; 2 CPU cores): a step
# keeps 0.70 to 0.73 of what the trained part of the network computes, and 0.2 to 0.5 GB whatever the batch.
KEPT_SHARE = 0.75
FIXED_BYTES = 5e8
# Weights, gradients, two moments of Adam, the moving average and its copy while an evaluation runs.
COPIES_OF_WEIGHTS = 6
# Limit, use, and the file cache that is given back when asked for: of control groups version 2 and 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def refuse_large_batch(model, pictures: int) -> None:
    """Raises DetectorError, with the most that fit, if `pictures` a step and device exceed the free memory.

    Of a GPU nothing is asked: there TensorFlow's own error is explained when it comes.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    for_one, fixed, free = bytes_of_picture(model), fixed_bytes(model), free_memory_bytes()
    if fixed + pictures * for_one <= free:
        return
    most = int((free - fixed) // for_one)
    advice = f"train.batch_size = {most}" if most >= 1 else "a smaller model.id"
    raise DetectorError(f"a step of {pictures} pictures needs about {(fixed + pictures * for_one) / 1e9:.1f} GB, "
                        f"{free / 1e9:.1f} GB are free: memory of this machine: try {advice} in detector.toml, or "
                        "close other programs")


def bytes_of_picture(model) -> float:
    """Memory that a training step of a Keras model keeps for each of its pictures, estimated."""
    shape = [1, *model.backbone.input_shape[1:]]
    graph = tf.function(lambda pixels: model(pixels, training=True)).get_concrete_function(tf.TensorSpec(shape)).graph
    trained = {id(variable.handle) for variable in model.trainable_variables}
    following = {inner.name for outer, inner in graph.captures if id(outer) in trained}
    total = 0
    for operation in graph.get_operations():
        if following.isdisjoint(tensor.name for tensor in operation.inputs):
            continue
        following.update(tensor.name for tensor in operation.outputs)
        if operation.type != "ReadVariableOp":
            total += sum(_bytes(tensor) for tensor in operation.outputs)
    return KEPT_SHARE * total


def _bytes(tensor) -> int:
    fixed = tensor.dtype.is_floating and tensor.shape.is_fully_defined()
    return math.prod(tensor.shape) * tensor.dtype.size if fixed else 0


def fixed_bytes(model) -> float:
    """Memory of a training whatever the batch, estimated."""
    return FIXED_BYTES + COPIES_OF_WEIGHTS * sum(_bytes(weight) for weight in model.weights)


def free_memory_bytes() -> float:
    """Memory that this process may still take: of the machine, or of the container it runs in."""
    import psutil

    return min([psutil.virtual_memory().available, *_container_memory(Path("/sys/fs/cgroup"))])


def _container_memory(groups: Path):
    for limit, used, statistics, reclaimable in CGROUP_FILES:
        try:
            texts = [(groups / name).read_text(encoding="ascii") for name in (limit, used, statistics)]
        except OSError:
            continue
        facts = dict(line.split() for line in texts[2].splitlines())
        if texts[0].strip().isdigit():  # "max" is no limit.
            yield int(texts[0]) - int(texts[1]) + int(facts.get(reclaimable, 0))

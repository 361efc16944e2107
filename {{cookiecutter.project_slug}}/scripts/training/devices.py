"""Devices and machines of a training: TensorFlow's strategy for `[runtime]`, and how several
machines stay one.

Task 0 decides and writes; the others compute the same and write nothing. All see one project
folder.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import tensorflow as tf
from official.common import distribute_utils

from scripts.core.runtime import silence_libraries
from scripts.core.text import DetectorError


@dataclass(frozen=True)
class Machines:
    """TensorFlow's strategy over all devices; `is_first` says whether this machine decides and
    writes."""

    strategy: tf.distribute.Strategy
    count: int
    is_first: bool

    @property
    def replicas(self) -> int:
        """Devices of all machines together; each takes an equal share of a batch."""
        return self.strategy.num_replicas_in_sync

    def agreed(self, values: list[float]) -> list[float]:
        """What the first machine passes here, on every machine; each has to call it at the same
        point."""
        return self._added(values, only_first=True)

    def any(self, wish: bool) -> bool:
        """Whether any machine passes True here; each has to call it at the same point."""
        return self._added([float(wish)], only_first=False)[0] > 0

    def _added(self, values: list[float], only_first: bool) -> list[float]:
        """The sum over all devices, or what the first one has."""
        if self.count == 1:
            return values

        @tf.function
        def added():
            def share():
                context = tf.distribute.get_replica_context()
                counts = tf.equal(context.replica_id_in_sync_group, 0) if only_first else True
                return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(counts, 1.0, 0.0) * tf.constant(values))

            return self.strategy.run(share)

        return self.strategy.experimental_local_results(added())[0].numpy().tolist()


def open_machines(runtime, batch_size: int) -> Machines:
    """The devices of `[runtime]` (a Model Garden `RuntimeConfig`); waits until all machines are
    there.

    Raises DetectorError if devices are missing or a batch cannot be shared evenly among them. With
    several machines it has to come before anything else of TensorFlow in the process.
    """
    os.environ.pop("TF_CONFIG", None)  # Of an earlier run in this process, or of the user's: settings alone count.
    hosts = [host for host in (runtime.worker_hosts or "").split(",") if host]
    several = runtime.distribution_strategy == "multi_worker_mirrored" and len(hosts) > 1
    if several:
        print(f"train: waiting for {len(hosts)} machines: {', '.join(hosts)}; this is {runtime.task_index}", flush=True)
        distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    try:
        with silence_libraries():
            strategy = distribute_utils.get_distribution_strategy(
                distribution_strategy=runtime.distribution_strategy, all_reduce_alg=runtime.all_reduce_alg,
                num_gpus=_gpus(runtime), tpu_address=runtime.tpu)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DetectorError(f"{runtime.distribution_strategy} does not start ({str(error).splitlines()[0]}): [runtime] "
                            "in detector.toml: try distribution_strategy = \"one_device\"") from None
    require_even_batch(batch_size, strategy.num_replicas_in_sync)
    return Machines(strategy, len(hosts) if several else 1, not several or runtime.task_index == 0)


def require_even_batch(batch_size: int, devices: int) -> None:
    """Raises DetectorError, with the next batch size that does, if a batch cannot be shared evenly.
    """
    if batch_size % devices:
        raise DetectorError(f"train.batch_size = {batch_size} cannot be shared among {devices} devices: detector.toml: "
                            f"make it a multiple, such as {-(-batch_size // devices) * devices}")


def _gpus(runtime) -> int:
    """GPUs to use: those of `[overrides]`, else all there are, or one where the strategy takes no
    more."""
    found = len(tf.config.list_physical_devices("GPU"))
    if runtime.num_gpus > found:
        raise DetectorError(f'"runtime.num_gpus" = {runtime.num_gpus}, but TensorFlow finds {found}: [overrides] in '
                            "detector.toml: lower it, or see invoke doctor")
    wanted = runtime.num_gpus or found
    return min(wanted, 1) if runtime.distribution_strategy in ("one_device", "off") else wanted


# Whether a training step fits into memory, asked before it is tried: an operating system that ends
# a process does not say why.

# Measured as peak of the process (lite0-256, lite2-448, mnv2-320, mnv2-256-coco; 4 to 64 images; 2
# CPU cores): a step keeps 0.70 to 0.73 of what the trained part of the network computes, and 0.2 to
# 0.5 GB whatever the batch.
KEPT_SHARE = 0.75
FIXED_BYTES = 5e8
# Weights, gradients, two moments of Adam, the moving average and its copy while an evaluation runs.
COPIES_OF_WEIGHTS = 6
# Limit, use, and the file cache that is given back when asked for: of control groups version 2 and
# 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def check_batch_fits(model, images: int) -> None:
    """Raises DetectorError, with the most that fit, if `images` a step and device exceed the free
    memory.

    Of a GPU nothing is asked: there TensorFlow's own error is explained when it comes.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    for_one, fixed, free = bytes_of_image(model), fixed_bytes(model), free_memory_bytes()
    if fixed + images * for_one <= free:
        return
    most = int((free - fixed) // for_one)
    advice = f"train.batch_size = {most}" if most >= 1 else "a smaller model.id"
    raise DetectorError(f"a step of {images} images needs about {(fixed + images * for_one) / 1e9:.1f} GB, "
                        f"{free / 1e9:.1f} GB are free: memory of this machine: try {advice} in detector.toml, or "
                        "close other programs")


def bytes_of_image(model) -> float:
    """Memory that a training step of a Keras model keeps for each of its images, estimated."""
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


# Measures how long a training step takes on this machine, to turn `train.minutes` into steps.

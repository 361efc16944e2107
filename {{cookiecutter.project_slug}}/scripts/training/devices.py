"""Devices, machines and memory of a training: TensorFlow's strategy for `[runtime]`.

Of several machines, task 0 decides and writes; the others compute the same and write nothing. All
see one project folder.
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
    """The devices of a training.

    Attributes:
        strategy: TensorFlow's strategy over all of them.
        count: How many machines there are.
        is_first: Whether this machine decides and writes.
    """

    strategy: tf.distribute.Strategy
    count: int
    is_first: bool

    @property
    def replicas(self) -> int:
        """Devices of all machines together; each takes an equal share of a batch."""
        return self.strategy.num_replicas_in_sync

    def agreed(self, values: list[float]) -> list[float]:
        """Return what the first machine passes; all have to call this at the same point."""
        return self._added(values, only_first=True)

    def any(self, flag: bool) -> bool:
        """Return whether any machine passes True; all have to call this at the same point."""
        return self._added([float(flag)], only_first=False)[0] > 0

    def _added(self, values: list[float], only_first: bool) -> list[float]:
        """Return the sum over all devices, or what the first one has."""
        if self.count == 1:
            return values

        @tf.function
        def added():
            def share():
                context = tf.distribute.get_replica_context()
                counts = tf.equal(context.replica_id_in_sync_group, 0) if only_first else True
                weighted = tf.where(counts, 1.0, 0.0) * tf.constant(values)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, weighted)

            return self.strategy.run(share)

        return self.strategy.experimental_local_results(added())[0].numpy().tolist()


def open_machines(runtime, batch_size: int) -> Machines:
    """Open the devices of `[runtime]`; wait until all machines are there.

    With several machines this has to come before anything else of TensorFlow in the process.

    Args:
        runtime: A Model Garden `RuntimeConfig`.
        batch_size: Images of a batch over all devices.

    Raises:
        DetectorError: Devices are missing, or a batch cannot be shared evenly among them.
    """
    # The settings alone count, not what an earlier run in this process, or the user, left there.
    os.environ.pop("TF_CONFIG", None)
    hosts = [host for host in (runtime.worker_hosts or "").split(",") if host]
    several = runtime.distribution_strategy == "multi_worker_mirrored" and len(hosts) > 1
    if several:
        print(f"train: waiting for {len(hosts)} machines: {', '.join(hosts)}; this is "
              f"{runtime.task_index}", flush=True)
        distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    try:
        with silence_libraries():
            strategy = distribute_utils.get_distribution_strategy(
                distribution_strategy=runtime.distribution_strategy,
                all_reduce_alg=runtime.all_reduce_alg, num_gpus=_gpus(runtime),
                tpu_address=runtime.tpu)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DetectorError(f"{runtime.distribution_strategy} does not start ({reason}): [runtime] "
                            'in detector.toml: try distribution_strategy = "one_device"') from None
    require_even_batch(batch_size, strategy.num_replicas_in_sync)
    count = len(hosts) if several else 1
    return Machines(strategy, count, is_first=count == 1 or runtime.task_index == 0)


def require_even_batch(batch_size: int, devices: int) -> None:
    """Raise DetectorError, with the next larger size that works, for an uneven batch."""
    if batch_size % devices:
        raise DetectorError(f"train.batch_size = {batch_size} cannot be shared among {devices} "
                            "devices: detector.toml: make it a multiple, such as "
                            f"{math.ceil(batch_size / devices) * devices}")


def _gpus(runtime) -> int:
    """Return how many GPUs to use: those of `[overrides]`, else all.

    It is one at most where the strategy takes no more.
    """
    found = len(tf.config.list_physical_devices("GPU"))
    if runtime.num_gpus > found:
        raise DetectorError(f'"runtime.num_gpus" = {runtime.num_gpus}, but TensorFlow finds '
                            f"{found}: [overrides] in detector.toml: lower it, or see invoke "
                            "doctor")
    wanted = runtime.num_gpus or found
    single = runtime.distribution_strategy in ("one_device", "off")
    return min(wanted, 1) if single else wanted


# Whether a training step fits into memory, asked before it is tried: an operating system that ends
# a process does not say why.

# Measured as the peak of the process (lite0-256, lite2-448, mnv2-320, mnv2-256-coco; 4 to 64
# images; 2 CPU cores): a step keeps 0.70 to 0.73 of what the trained part of the network computes,
# and 0.2 to 0.5 GB whatever the batch.
KEPT_SHARE = 0.75
FIXED_BYTES = 5e8
# Weights, gradients, two moments of Adam, the moving average and its copy while an evaluation runs.
COPIES_OF_WEIGHTS = 6
# Limit, use, and the file cache that the system gives back when asked for: of control groups
# version 2 and 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
     "total_inactive_file"),
)


def check_batch_fits(model, images: int) -> None:
    """Raise DetectorError if a step of so many images on one device exceeds the free memory.

    The message names the most that fit. Nothing is asked of a GPU: there TensorFlow's own error is
    explained when it comes.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    of_image, fixed, free = bytes_of_image(model), fixed_bytes(model), free_memory_bytes()
    needed = fixed + images * of_image
    if needed <= free:
        return
    most = int((free - fixed) // of_image)
    advice = f"train.batch_size = {most}" if most >= 1 else "a smaller model.id"
    raise DetectorError(f"a step of {images} images needs about {needed / 1e9:.1f} GB, "
                        f"{free / 1e9:.1f} GB are free: memory of this machine: try {advice} in "
                        "detector.toml, or close other programs")


def bytes_of_image(model) -> float:
    """Estimate the memory that a training step of a Keras model keeps for each of its images.

    That is the size of all that the graph computes from a trained weight.
    """
    shape = [1, *model.backbone.input_shape[1:]]
    forward = tf.function(lambda pixels: model(pixels, training=True))
    graph = forward.get_concrete_function(tf.TensorSpec(shape)).graph
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
    """Estimate the memory of a training whatever the batch."""
    return FIXED_BYTES + COPIES_OF_WEIGHTS * sum(_bytes(weight) for weight in model.weights)


def free_memory_bytes() -> float:
    """Return what this process may still take: of the machine, or of its container."""
    return min([psutil.virtual_memory().available, *_container_memory(Path("/sys/fs/cgroup"))])


def _container_memory(groups: Path):
    for limit, used, statistics, reclaimable in CGROUP_FILES:
        try:
            texts = [(groups / name).read_text(encoding="ascii")
                     for name in (limit, used, statistics)]
        except OSError:
            continue
        facts = dict(line.split() for line in texts[2].splitlines())
        if texts[0].strip().isdigit():  # "max" is no limit.
            yield int(texts[0]) - int(texts[1]) + int(facts.get(reclaimable, 0))


"""Devices and machines of a training: TensorFlow's strategy for `[runtime]`, and how several machines stay one.

Task 0 decides and writes; the others compute the same and write nothing. All see one project folder.
"""

import os
from dataclasses import dataclass

import tensorflow as tf
from official.common import distribute_utils

from scripts.pipeline.errors import DetectorError
from scripts.training.quiet import quiet_libraries


@dataclass(frozen=True)
class Machines:
    """TensorFlow's strategy over all devices; `is_first` says whether this machine decides and writes."""

    strategy: tf.distribute.Strategy
    count: int
    is_first: bool

    @property
    def replicas(self) -> int:
        """Devices of all machines together; each takes an equal share of a batch."""
        return self.strategy.num_replicas_in_sync

    def agreed(self, values: list[float]) -> list[float]:
        """What the first machine passes here, on every machine; each has to call it at the same point."""
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
    """The devices of `[runtime]` (a Model Garden `RuntimeConfig`); waits until all machines are there.

    Raises DetectorError if devices are missing or a batch cannot be shared evenly among them. With several machines
    it has to come before anything else of TensorFlow in the process.
    """
    os.environ.pop("TF_CONFIG", None)  # Of an earlier run in this process, or of the user's: settings alone count.
    hosts = [host for host in (runtime.worker_hosts or "").split(",") if host]
    several = runtime.distribution_strategy == "multi_worker_mirrored" and len(hosts) > 1
    if several:
        print(f"train: waiting for {len(hosts)} machines: {', '.join(hosts)}; this is {runtime.task_index}", flush=True)
        distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    try:
        with quiet_libraries():
            strategy = distribute_utils.get_distribution_strategy(
                distribution_strategy=runtime.distribution_strategy, all_reduce_alg=runtime.all_reduce_alg,
                num_gpus=_gpus(runtime), tpu_address=runtime.tpu)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DetectorError(f"{runtime.distribution_strategy} does not start ({str(error).splitlines()[0]}): [runtime] "
                            "in detector.toml: try distribution_strategy = \"one_device\"") from None
    refuse_uneven(batch_size, strategy.num_replicas_in_sync)
    return Machines(strategy, len(hosts) if several else 1, not several or runtime.task_index == 0)


def refuse_uneven(batch_size: int, devices: int) -> None:
    """Raises DetectorError, with the next batch size that does, if a batch cannot be shared evenly."""
    if batch_size % devices:
        raise DetectorError(f"train.batch_size = {batch_size} cannot be shared among {devices} devices: detector.toml: "
                            f"make it a multiple, such as {-(-batch_size // devices) * devices}")


def _gpus(runtime) -> int:
    """GPUs to use: those of `[overrides]`, else all there are, or one where the strategy takes no more."""
    found = len(tf.config.list_physical_devices("GPU"))
    if runtime.num_gpus > found:
        raise DetectorError(f'"runtime.num_gpus" = {runtime.num_gpus}, but TensorFlow finds {found}: [overrides] in '
                            "detector.toml: lower it, or see invoke doctor")
    wanted = runtime.num_gpus or found
    return min(wanted, 1) if runtime.distribution_strategy in ("one_device", "off") else wanted

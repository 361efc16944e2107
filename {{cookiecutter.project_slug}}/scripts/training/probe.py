"""Measures how long a training step takes on this machine, to turn `train.minutes` into steps."""

import time
from pathlib import Path

WARM_UP_STEPS = 3
TIMED_STEPS = 9


def refuse_unfit(experiment) -> None:
    """Raises DetectorError for a batch that does not fit into memory on one device."""
    from scripts.training import detector
    from scripts.training.memory import refuse_large_batch
    from scripts.training.quiet import quiet_libraries

    with quiet_libraries():
        model = detector.DetectorTask(experiment.task).build_model()
        refuse_large_batch(model, experiment.task.train_data.global_batch_size)


def measure_step_s(experiment, root: Path) -> float:
    """Seconds a step: the median of a few real steps on the real records, with fresh weights that are thrown away.

    Raises DetectorError for a batch that does not fit into memory.
    """
    import statistics

    import tensorflow as tf

    from scripts.training import detector
    from scripts.training.experiment import with_absolute_paths
    from scripts.training.memory import refuse_large_batch
    from scripts.training.quiet import quiet_libraries

    with quiet_libraries():
        task_config = with_absolute_paths(experiment, root).task
        task = detector.DetectorTask(task_config)
        model = task.build_model()
        refuse_large_batch(model, task_config.train_data.global_batch_size)
        optimizer = task.create_optimizer(experiment.trainer.optimizer_config, experiment.runtime)
        if hasattr(optimizer, "shadow_copy"):  # Model Garden's trainer does this for moving averages.
            optimizer.shadow_copy(model)
        step = tf.function(lambda inputs: task.train_step(inputs, model=model, optimizer=optimizer)["loss"])
        seconds, started_s = [], time.perf_counter()
        for inputs in task.build_inputs(task_config.train_data).take(WARM_UP_STEPS + TIMED_STEPS):
            step(inputs).numpy()
            seconds.append(time.perf_counter() - started_s)
            started_s = time.perf_counter()
    return round(statistics.median(seconds[WARM_UP_STEPS:] or seconds), 4)

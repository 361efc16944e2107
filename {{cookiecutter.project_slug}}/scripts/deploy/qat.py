"""`int8_qat`: a trained detector trained on with the rounding of int8 in it.

Model Garden's quantisation-aware RetinaNet: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3. Weights,
activations and the input are rounded in the forward pass as the int8 file will round them.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.evaluation.model import TrainedModel

RATE_SHARE = 0.1
"""Learning rate at the start, as a share of that of the training; it falls to a hundredth of it."""


@dataclasses.dataclass(frozen=True)
class QuantisationAware(TrainedModel):
    """A `TrainedModel` whose network rounds as an int8 file does, from the pixels on."""

    def predict_logits(self, pixels) -> tuple[Any, Any]:
        """As a `TrainedModel`'s; the steps of the normalisation are rounded too."""
        return self._heads(rounded_normalisation(pixels))


def rounded_normalisation(pixels):
    """RGB 0..255 to -1..1 with the rounding of int8 after each step, so that a uint8 input is the raw pixel."""
    import tensorflow as tf

    from scripts.training.inputs import PIXEL_CENTRE

    rounded = tf.quantization.fake_quant_with_min_max_args
    centred = rounded(rounded(pixels, 0.0, 255.0) - PIXEL_CENTRE, -128.0, 127.0)
    return rounded(centred / PIXEL_CENTRE, -1.0, 1.0)


def quantisation_aware(root: Path, model: TrainedModel, share: float, pictures: Sequence) -> QuantisationAware:
    """Trains `model` on for `share` of the steps of its training; the same again for the same seed, on a CPU.

    `pictures`: float32 [side, side, 3], RGB 0..255, for the ranges of activations. Weights of `model` are changed.
    """
    from scripts.deploy.qat_network import quantised_network
    from scripts.training.configure import EXPERIMENT
    from scripts.training.experiment import read_experiment, with_absolute_paths
    from scripts.training.quiet import quiet_libraries
    from scripts.training.runner import make_repeatable

    experiment = with_absolute_paths(read_experiment(root / EXPERIMENT), root)
    make_repeatable(experiment.task.train_data.seed)
    with quiet_libraries():
        network = quantised_network(model, pictures)
        _train(network, experiment, round(share * experiment.trainer.train_steps))
    return QuantisationAware(network, model.config, model.checkpoint)


def _train(network, experiment, steps: int) -> None:
    """Trains with the ranges as they are: they were measured, and the weights move little."""
    import tensorflow as tf
    from tqdm import tqdm

    from scripts.deploy.qat_network import ranges
    from scripts.training.detector import DetectorTask

    task = DetectorTask(experiment.task)
    optimizer = task.create_optimizer(_shorter(experiment.trainer.optimizer_config, max(1, steps)))
    step = tf.function(lambda inputs: task.train_step(inputs, model=network, optimizer=optimizer)["loss"])
    batches = task.build_inputs(experiment.task.train_data).take(steps)
    with ranges(measure=False):
        for inputs in tqdm(batches, desc="int8_qat", total=steps, unit="step", disable=None, leave=False):
            step(inputs)


def _shorter(optimizer_config, steps: int):
    """The optimizer of the training for a few more steps at a lower rate, without averages of weights."""
    rate = optimizer_config.learning_rate.get().initial_learning_rate * RATE_SHARE
    return optimizer_config.replace(
        ema=None, learning_rate={"type": "cosine", "cosine": {"initial_learning_rate": rate, "decay_steps": steps,
                                                              "alpha": 0.01}},
        warmup={"type": "linear", "linear": {"warmup_steps": max(1, steps // 10), "warmup_learning_rate": rate / 100}})

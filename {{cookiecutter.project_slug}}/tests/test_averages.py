"""The averaged weights of a training: what is scored and shipped, and what training goes on from.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def trained_steps():
    """A small network after three steps of the optimizer that trainings have, and its optimizer."""
    import tensorflow as tf
    import tf_keras
    from official.modeling.optimization import EMAConfig, OptimizationConfig

    from scripts.training.task import DetectorTask

    network = tf_keras.Sequential([tf_keras.layers.Dense(5, input_shape=(3,)), tf_keras.layers.BatchNormalization()])
    config = OptimizationConfig({"optimizer": {"type": "adam"}, "learning_rate": {"type": "constant"},
                                 "ema": EMAConfig(average_decay=0.9, trainable_weights_only=False).as_dict()})
    optimizer = DetectorTask.create_optimizer(config)
    optimizer.shadow_copy(network)

    @tf.function
    def step(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(inputs, training=True) ** 3)
        weights = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    for seed in range(3):
        step(tf.random.stateless_normal([8, 3], [seed, 7]))
    return network, optimizer, step


def test_averages_are_scored_and_training_goes_on_from_the_same_bits(trained_steps):
    network, optimizer, _ = trained_steps
    weights = [weight.numpy() for weight in network.weights]
    averages = [optimizer.get_slot(weight, "average").numpy() for weight in network.weights]
    assert not any(map(np.array_equal, weights, averages))
    optimizer.swap_weights()
    assert all(map(np.array_equal, network.weights, averages))
    optimizer.swap_weights()
    assert all(map(np.array_equal, network.weights, weights))


def test_the_first_step_creates_nothing_so_that_it_is_traced_once(trained_steps):
    assert trained_steps[2].experimental_get_tracing_count() == 1

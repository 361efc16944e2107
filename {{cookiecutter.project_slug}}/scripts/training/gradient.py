"""The size of the gradient, noted on its way to the optimizer."""

import tensorflow as tf


class NormNoting:
    """An optimizer that tells a metric the norm of every gradient before it is clipped, and computes as before."""

    def __init__(self, optimizer, norm):
        self._optimizer, self._norm = optimizer, norm

    @property
    def __class__(self):
        return type(self._optimizer)  # Model Garden asks what kind of optimizer it has.

    def __getattr__(self, name: str):
        return getattr(self._optimizer, name)

    def apply_gradients(self, gradients_and_weights: list) -> None:
        """As the optimizer does."""
        self._norm.update_state(tf.linalg.global_norm([gradient for gradient, _ in gradients_and_weights]))
        self._optimizer.apply_gradients(gradients_and_weights)

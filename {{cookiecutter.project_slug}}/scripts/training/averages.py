"""Moving averages of the weights that are put into the network, and taken out again, to the bit."""

from official.modeling.optimization import ema_optimizer


class ExactAverages(ema_optimizer.ExponentialMovingAverage):
    """Model Garden's optimizer with moving averages; it computes the same, and a training starts sooner with it."""

    def shadow_copy(self, model) -> None:
        """Creates the averages, and with them what the optimizer keeps of each weight.

        Variables that come to be in a first step have TensorFlow trace that step twice.
        """
        super().shadow_copy(model)
        self._optimizer._create_all_weights(model.trainable_variables)

    def swap_weights(self) -> None:
        """Exchanges the weights and their averages.

        Model Garden adds and subtracts, which rounds, in a graph that takes as long to build as some training steps:
        a training that evaluated would go on from other weights than one that had done so before it was stopped.
        """
        for average, weight in zip(self._average_weights, self._model_weights, strict=True):
            value = weight.numpy()
            weight.assign(average.numpy())
            average.assign(value)

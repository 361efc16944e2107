"""Builds the network of a zoo entry as Model Garden's factory does for an experiment."""

from scripts.training.zoo import ZooEntry


def build_network(entry: ZooEntry, classes: int):
    """(RetinaNet with fresh weights, its configuration) for so many classes without background."""
    import tf_keras
    from official.vision.modeling import factory

    from scripts.training import detector
    from scripts.training.experiment import model_config

    config = detector.DetectorModel()
    config.override(model_config(entry, classes), is_strict=False)
    specs = tf_keras.layers.InputSpec(shape=[None, *config.input_size])
    return factory.build_retinanet(input_specs=specs, model_config=config), config


def stem(backbone) -> tuple:
    """(first convolution, its batch norm) of our backbone, or of Model Garden's `mobilenet`."""
    if hasattr(backbone, "convolution_layers"):
        return backbone.convolution_layers()[0]
    block = next(layer for layer in backbone.layers if hasattr(layer, "_conv0"))
    return block._conv0, block._norm0

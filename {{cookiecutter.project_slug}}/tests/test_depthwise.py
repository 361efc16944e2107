"""Gradients of 5 x 5 depthwise filters: TensorFlow's own, only sooner."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (16, 2), (7, 1), (7, 2), (2, 1), (1, 2)])
def test_a_filter_in_two_parts_has_the_gradient_of_the_whole(size, stride):
    from scripts.modeling.hooks import filter_gradient

    x = tf.random.stateless_normal([2, size, size, 6], [1, size])
    upstream = tf.random.stateless_normal([2, -(-size // stride), -(-size // stride), 6], [2, size])
    whole = tf.nn.depthwise_conv2d_backprop_filter(x, [5, 5, 6, 1], upstream, [1, stride, stride, 1], "SAME")
    np.testing.assert_allclose(filter_gradient(x, upstream, 5, stride), whole, rtol=1e-4, atol=1e-4)


@pytest.fixture
def float64():
    """Layers in float64: batch norms of fresh weights raise the rounding of float32 to percents on
    some processors."""
    import tf_keras

    tf_keras.backend.set_floatx("float64")
    yield tf.float64
    tf_keras.backend.set_floatx("float32")


def test_a_network_learns_the_same_and_is_left_as_it_was(float64):
    from scripts.modeling.backbone import InvertedBottleneckNet
    from scripts.modeling.hooks import quick_gradients

    tf.keras.utils.set_random_seed(1)
    model = InvertedBottleneckNet("lite0", frozen_groups=3)
    images = tf.random.stateless_uniform([2, 64, 64, 3], [3, 3], -1.0, 1.0, float64)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            features = model(images, training=True)
            loss = tf.add_n([tf.reduce_mean(tf.square(level)) for level in features.values()])
        return tape.gradient(loss, model.trainable_variables)

    def filters_of_three_columns(function) -> int:
        """Operations that compute the gradient of a depthwise filter 5 high and 3 wide."""
        kind = "DepthwiseConv2dNativeBackpropFilter"
        operations = [one for one in function.get_concrete_function().graph.get_operations() if one.type == kind]
        sizes = [tf.get_static_value(one.inputs[1])[:2].tolist() for one in operations]
        return sizes.count([5, 3])

    before = gradients()
    assert filters_of_three_columns(gradients) == 0
    with quick_gradients(model):
        quick = gradients.python_function()
        assert filters_of_three_columns(tf.function(gradients.python_function)) == 2 * 7
    scale = max(float(tf.reduce_max(tf.abs(each))) for each in before)
    for again in (quick, gradients.python_function()):
        for one, other in zip(before, again, strict=True):
            assert one.dtype == float64
            np.testing.assert_allclose(one, other, atol=1e-8 * scale)
    assert not [layer for layer in model.submodules if "call" in vars(layer)]

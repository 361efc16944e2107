"""Hooks into TensorFlow and Model Garden: each still does what it is for."""

import ast
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parent.parent


def test_hooks_were_written_for_the_versions_that_are_installed():
    """Who raises a version looks at every hook, then changes this."""
    from scripts.tools.doctor import locked_versions

    tree = ast.parse((PROJECT / "scripts/modeling/hooks.py").read_text("utf-8"))
    pinned = next(ast.literal_eval(node.value) for node in tree.body
                  if isinstance(node, ast.Assign) and node.targets[0].id == "PINNED")
    locked = locked_versions(PROJECT / "requirements.txt")
    locked.setdefault("tensorflow", locked.get("tensorflow-cpu"))
    assert {name: locked[name] for name in pinned} == pinned


@pytest.mark.slow
def test_a_noting_optimizer_looks_like_its_own_and_tells_the_norm_before_clipping():
    import tensorflow as tf
    import tf_keras

    from scripts.modeling.hooks import NormNoting

    plain = tf_keras.optimizers.legacy.SGD(1.0, global_clipnorm=1.0)
    norm = tf_keras.metrics.Mean()
    optimizer, weight = NormNoting(plain, norm), tf.Variable([0.0, 0.0])
    assert isinstance(optimizer, type(plain)) and optimizer.learning_rate == plain.learning_rate
    optimizer.apply_gradients([(tf.constant([3.0, 4.0]), weight)])
    assert norm.result().numpy() == pytest.approx(5.0)
    assert weight.numpy() == pytest.approx([-0.6, -0.8]), "the optimizer still clips"


@pytest.mark.slow
def test_the_optimizer_of_a_training_has_exact_averages():
    from official.modeling.optimization import EMAConfig, OptimizationConfig

    from scripts.modeling.hooks import ExactAverages
    from scripts.training.task import DetectorTask

    settings = {"optimizer": {"type": "adam"}, "learning_rate": {"type": "constant"}}
    plain = DetectorTask.create_optimizer(OptimizationConfig(settings))
    assert not isinstance(plain, ExactAverages)
    averages = EMAConfig(average_decay=0.9, trainable_weights_only=False).as_dict()
    optimizer = DetectorTask.create_optimizer(OptimizationConfig(settings | {"ema": averages}))
    assert type(optimizer) is ExactAverages


@pytest.mark.slow
def test_the_evaluator_keeps_pycocotools_evaluation():
    import tensorflow as tf

    from scripts.modeling.hooks import KeptEvaluator

    evaluator = KeptEvaluator(None, 100)
    assert evaluator.evaluation is None
    box = np.float32([[[10, 20, 50, 60]]])  # [batch, boxes, 4], yxyx in pixels
    truth = {"source_id": np.array([7]), "height": np.array([100]), "width": np.array([100]),
             "num_detections": np.array([1]), "boxes": box, "classes": np.array([[1]]),
             "image_info": np.float32([[[100, 100], [100, 100], [1, 1], [0, 0]]])}
    found = {"source_id": np.array([7]), "detection_boxes": box, "num_detections": np.array([1]),
             "detection_classes": np.array([[1]]), "detection_scores": np.float32([[0.9]]),
             "image_info": truth["image_info"]}
    evaluator.update_state(*(
        {key: tf.constant(value) for key, value in part.items()} for part in (truth, found)))
    assert evaluator.result()["AP"] == pytest.approx(1.0)
    assert evaluator.evaluation.eval["precision"].shape[0] == 10
    assert list(evaluator.evaluation.cocoDt.imgToAnns) == [7]


@pytest.mark.slow
@pytest.mark.parametrize("model_id", ["lite0-256", "mnv2-256-coco"])
def test_private_layers_are_where_they_were(model_id):
    from official.vision.modeling.layers.nn_blocks import InvertedBottleneckBlock

    from scripts.modeling.experiment import build_network
    from scripts.modeling.hooks import bottleneck_pairs, first_pair, head_parts
    from scripts.modeling.zoo import zoo_entry

    network, _ = build_network(zoo_entry(model_id), classes=2)
    convolution, norm = first_pair(network.backbone)
    assert convolution.kernel.shape == (3, 3, 3, 32) and norm.gamma.shape == (32,)
    for block in network.backbone.layers:
        if isinstance(block, InvertedBottleneckBlock):
            *expansion, (depthwise, _), (project, project_norm) = bottleneck_pairs(block)
            config = block.get_config()
            assert len(expansion) == (config["expand_ratio"] > 1)
            assert depthwise.depthwise_kernel.shape[0] == config["kernel_size"]
            assert project.filters == project_norm.gamma.shape[0] == config["out_filters"]
    kept = {id(variable) for part in flat(head_parts(network.head)) for variable in part}
    fresh = {variable.name for variable in network.head.variables if id(variable) not in kept}
    assert {name.split("/", 1)[1] for name in fresh} == {
        "scores/pointwise_kernel:0", "scores/bias:0"}


def flat(parts: dict):
    """Yield the variables of each layer in nested lists; a checkpoint holds one variable."""
    for part in parts.values():
        if isinstance(part, (list, tuple)):
            yield from flat(dict(enumerate(part)))
        else:
            yield [part.depthwise_kernel] if hasattr(part, "restore") else part.variables


@pytest.fixture
def quantizer():
    """A quantizer of activations, its variables, and a function that runs it in training."""
    import tensorflow as tf
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    made = quantizers.MovingAverageQuantizer(
        num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    variables = made.build(tf.TensorShape([2]), "test", tf_keras.layers.Layer())

    def run(values):
        made(tf.constant(values), True, variables)
        return [float(variables["min_var"]), float(variables["max_var"])]

    return run


@pytest.mark.slow
def test_ranges_of_activations_are_widened_or_kept(quantizer):
    from scripts.modeling.hooks import quantizer_ranges

    start = quantizer([0.0, 0.0])
    with quantizer_ranges(widen=False):
        assert quantizer([-90.0, 90.0]) == start
    with quantizer_ranges(widen=True):
        assert quantizer([-90.0, 80.0]) == [-90.0, 80.0]
        assert quantizer([-1.0, 95.0]) == [-90.0, 95.0]
    assert -90.0 < quantizer([-1.0, 1.0])[0] < -80.0, "the moving average is back"


@pytest.mark.slow
def test_the_variable_behind_a_quantized_kernel_is_found():
    import tensorflow as tf
    import tf_keras
    from official.projects.qat.vision.quantization import configs
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

    from scripts.modeling.hooks import inner_variable, made_by

    config = configs.Default8BitConvQuantizeConfig(["kernel"], ["activation"], False)
    wrapper = quantize_wrapper.QuantizeWrapperV2(tf_keras.layers.Conv2D(2, 1), config)
    inputs = tf_keras.Input((4, 4, 3))
    output = wrapper(inputs)
    assert made_by(output) is wrapper
    kernel = inner_variable(wrapper, "kernel")
    assert isinstance(kernel, tf.Variable) and kernel.shape == (1, 1, 3, 2)
    assert inner_variable(wrapper, "gamma") is None
    kernel.assign(tf.zeros_like(kernel))
    model = tf_keras.Model(inputs, output)
    assert not model(tf.ones([1, 4, 4, 3])).numpy().any()


# Moving averages of the weights: what is scored, and what training continues from.

@pytest.fixture
def trained_steps():
    """A small network after three steps of the optimizer that trainings have, and its optimizer."""
    import tensorflow as tf
    import tf_keras
    from official.modeling.optimization import EMAConfig, OptimizationConfig

    from scripts.training.task import DetectorTask

    network = tf_keras.Sequential([
        tf_keras.layers.Dense(5, input_shape=(3,)), tf_keras.layers.BatchNormalization()])
    averages = EMAConfig(average_decay=0.9, trainable_weights_only=False).as_dict()
    config = OptimizationConfig({"optimizer": {"type": "adam"}, "ema": averages,
                                 "learning_rate": {"type": "constant"}})
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


@pytest.mark.slow
def test_averages_are_scored_and_training_goes_on_from_the_same_bits(trained_steps):
    network, optimizer, _ = trained_steps
    weights = [weight.numpy() for weight in network.weights]
    averages = [optimizer.get_slot(weight, "average").numpy() for weight in network.weights]
    assert not any(map(np.array_equal, weights, averages))
    optimizer.swap_weights()
    assert all(map(np.array_equal, network.weights, averages))
    optimizer.swap_weights()
    assert all(map(np.array_equal, network.weights, weights))


@pytest.mark.slow
def test_the_first_step_creates_nothing_so_that_it_is_traced_once(trained_steps):
    assert trained_steps[2].experimental_get_tracing_count() == 1


# Gradients of 5 x 5 depthwise filters.

@pytest.mark.slow
@pytest.mark.parametrize(("size", "stride"), [(8, 1), (16, 2), (7, 1), (7, 2), (2, 1), (1, 2)])
def test_a_filter_in_two_parts_has_the_gradient_of_the_whole(size, stride):
    import tensorflow as tf

    from scripts.modeling.hooks import filter_gradient

    x = tf.random.stateless_normal([2, size, size, 6], [1, size])
    upstream = tf.random.stateless_normal([2, -(-size // stride), -(-size // stride), 6], [2, size])
    expected = tf.nn.depthwise_conv2d_backprop_filter(
        x, [5, 5, 6, 1], upstream, [1, stride, stride, 1], "SAME")
    found = filter_gradient(x, upstream, 5, stride)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def float64():
    """Layers in float64: batch norms of fresh weights raise the rounding of float32 to percents on
    some processors."""
    import tensorflow as tf
    import tf_keras

    tf_keras.backend.set_floatx("float64")
    yield tf.float64
    tf_keras.backend.set_floatx("float32")


@pytest.mark.slow
def test_a_network_learns_the_same_and_is_left_as_it_was(float64):
    import tensorflow as tf

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
        graph = function.get_concrete_function().graph
        operations = [made for made in graph.get_operations() if made.type == kind]
        sizes = [tf.get_static_value(made.inputs[1])[:2].tolist() for made in operations]
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

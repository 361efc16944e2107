"""The pre-trained weights are read rightly: the classifier they belong to, rebuilt from them, names photographs."""

import json

import pytest

# Classes of ImageNet that a person would accept. Photographs: scikit-image's `chelsea` and `coffee`, matplotlib's
# portrait of Grace Hopper in uniform.
NAMED = {
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967, 504, 968},  # espresso, coffee mug, cup
    "grace_hopper": {652},  # military uniform
}

CLASSIFY = """
import json, sys
from pathlib import Path
import matplotlib, numpy as np, skimage.data, tf_keras
import tensorflow as tf
from PIL import Image
from scripts.training.backbone import EfficientNetLite
from scripts.training.inputs import normalize_pixels
from scripts.training.weights import load_backbone, read_weights
from scripts.training.zoo import zoo_entry

tensors = read_weights(zoo_entry("lite0-256").weights)
backbone = EfficientNetLite(model_id="lite0", input_specs=tf_keras.layers.InputSpec(shape=[None, 224, 224, 3]))
load_backbone(backbone, tensors)
norm = [tensors["_bn1." + part] for part in ("weight", "bias", "running_mean", "running_var")]

def top(picture):
    image = tf.image.resize(picture[None], [224, 224], antialias=True)
    features = backbone(normalize_pixels(image), training=False)["5"]
    features = tf.nn.conv2d(features, tensors["_conv_head.weight"].transpose(2, 3, 1, 0), 1, "SAME")
    gamma, beta, mean, variance = norm
    features = tf.nn.relu6(tf.nn.batch_normalization(features, mean, variance, beta, gamma, 1e-3))
    logits = tf.reduce_mean(features, [1, 2]) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    return int(tf.argmax(logits[0]))

portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
pictures = {"chelsea": skimage.data.chelsea(), "coffee": skimage.data.coffee(),
            "grace_hopper": np.asarray(Image.open(portrait).convert("RGB"))}
print(json.dumps({name: top(picture) for name, picture in pictures.items()}))
"""


@pytest.mark.slow
def test_the_classifier_rebuilt_from_the_weights_names_photographs(bake):
    answer = bake().run("-c", CLASSIFY)
    assert answer.returncode == 0, answer.stderr
    named = json.loads(answer.stdout.splitlines()[-1])
    assert {name: named[name] in right for name, right in NAMED.items()} == dict.fromkeys(NAMED, True), named

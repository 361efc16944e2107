"""The pre-trained weights are read rightly: the classifiers they belong to, rebuilt from them, name
photographs."""

import json

import pytest

# Classes of ImageNet that a person would accept. Photographs: scikit-image's `chelsea` and
# `coffee`, matplotlib's portrait of Grace Hopper in uniform.
NAMED = {
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967, 504, 968},  # espresso, coffee mug, cup
    "grace_hopper": {652},  # military uniform
}
# Side of the input: that of training, but MobileNetV2 (224) is sure of the portrait only at 256.
# Names in the file of torch: convolution and batch norm behind the features, and the last layer.
CLASSIFIERS = {
    "lite0-256": (224, "_conv_head", "_bn1", "_fc"),
    "lite1-384": (240, "_conv_head", "_bn1", "_fc"),
    "lite2-448": (260, "_conv_head", "_bn1", "_fc"),
    "mnv2-256": (256, "features.18.0", "features.18.1", "classifier.1"),
}

CLASSIFY = """
import json, sys
from pathlib import Path
import matplotlib, numpy as np, skimage.data
import tensorflow as tf
from PIL import Image
from scripts.modeling.backbone import InvertedBottleneckNet
from scripts.training.inputs import normalize_pixels
from scripts.modeling.weight_files import read_state_dict
from scripts.modeling.weight_sources import package_file
from scripts.core.layout import Layout
from scripts.steps.pretrained import pretrained
from scripts.modeling.zoo import zoo_entry

def classifier(model_id, side_px, convolution, norm, last):
    entry = zoo_entry(model_id)
    pretrained(Path("."), entry)
    backbone = InvertedBottleneckNet(model_id=entry.backbone)
    tf.train.Checkpoint(backbone=backbone).read(str(Layout(Path(".")).pretrained(entry.id))).assert_consumed()
    tensors = read_state_dict(package_file(entry.weights))
    gamma, beta, mean, variance = (tensors[f"{norm}.{part}"] for part in
                                   ("weight", "bias", "running_mean", "running_var"))

    def top(image):
        image = tf.image.resize(image[None], [side_px, side_px], antialias=True)
        features = backbone(normalize_pixels(image), training=False)["5"]
        features = tf.nn.conv2d(features, tensors[convolution + ".weight"].transpose(2, 3, 1, 0), 1, "SAME")
        epsilon = entry.weights.norm_epsilon
        features = tf.nn.relu6(tf.nn.batch_normalization(features, mean, variance, beta, gamma, epsilon))
        logits = tf.reduce_mean(features, [1, 2]) @ tensors[last + ".weight"].T + tensors[last + ".bias"]
        return int(tf.argmax(logits[0]))

    return top

portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
images = {"chelsea": skimage.data.chelsea(), "coffee": skimage.data.coffee(),
            "grace_hopper": np.asarray(Image.open(portrait).convert("RGB"))}
found = {}
for model_id, names in json.loads(sys.argv[1]).items():
    top = classifier(model_id, *names)
    found[model_id] = {name: top(image) for name, image in images.items()}
print(json.dumps(found))
"""


# One backbone of each kind; the others before a release.
EACH_KIND = [
    "lite0-256",
    "mnv2-256",
    pytest.param("lite1-384", marks=pytest.mark.release),
    pytest.param("lite2-448", marks=pytest.mark.release),
]


@pytest.mark.slow
@pytest.mark.parametrize("model_id", EACH_KIND)
def test_a_classifier_rebuilt_from_the_weights_names_photographs(bake, model_id):
    answer = bake().run("-c", CLASSIFY, json.dumps({model_id: CLASSIFIERS[model_id]}))
    assert answer.returncode == 0, answer.stderr
    named = json.loads(answer.stdout.splitlines()[-1])[model_id]
    assert {name: named[name] in right for name, right in NAMED.items()} == dict.fromkeys(
        NAMED, True)

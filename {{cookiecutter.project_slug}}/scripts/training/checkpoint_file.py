"""Reads pre-trained weights of TensorFlow checkpoints as Model Garden's trainer writes them.

Such a checkpoint is a tree of named objects; `backbone`, `decoder` and `head` hang on its root.
"""

from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.training.matched import Matched

# The head without `_classifier`, whose pointwise kernel and bias are of the classes of the old data.
HEAD_PARTS = ("_cls_convs", "_cls_norms", "_box_regressor", "_box_convs", "_box_norms")
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def transferable_parts(network) -> dict:
    """Part name to the trackable object that pre-trained weights may fill; of the head all but what knows classes."""
    import tensorflow as tf

    head = network.head
    kept = {name: getattr(head, name) for name in HEAD_PARTS}
    classifier = tf.train.Checkpoint(depthwise_kernel=head._classifier.depthwise_kernel)
    return {"backbone": network.backbone, "decoder": network.decoder,
            "head": tf.train.Checkpoint(_classifier=classifier, **kept)}


def load_checkpoint(network, prefix: Path) -> Matched:
    """Sets the variables of the network that have a tensor of the same place and shape; fills parts as `Matched` says.

    Raises DetectorError if there is no readable checkpoint, or none with a backbone.
    """
    import tensorflow as tf

    reader, nodes = _open(prefix)
    stored = {child.local_name for child in nodes[0].children}
    parts = {name: part for name, part in transferable_parts(network).items() if name in stored}
    if "backbone" not in parts:
        raise DetectorError(f"checkpoint without a backbone (it holds {', '.join(sorted(stored))}): {prefix}: use one "
                            "of a detector that Model Garden's trainer wrote")
    tensors = {}
    root = tf.train.Checkpoint(**parts)
    for number, thing in tf.train.CheckpointView(str(prefix)).match(root).items():
        if isinstance(thing, tf.Variable) and nodes[number].attributes:
            tensors[thing.ref()] = nodes[number].attributes[0].checkpoint_key
    matched = Matched(tuple(parts))
    for variable in _variables(root):
        key = tensors.get(variable.ref())
        value = None if key is None else reader.get_tensor(key)
        if matched.count(variable.name, tuple(variable.shape), None if value is None else value.shape):
            variable.assign(value)
    return matched


def restore(network, prefix: str, modules: str | list[str] = "all") -> None:
    """Sets what the checkpoint that `pretrained` wrote holds; `modules` may leave some of its parts out.

    Raises AssertionError if a variable of a part is missing in it.
    """
    import tensorflow as tf

    stored = {child.local_name for child in _open(Path(prefix))[1][0].children}
    wanted = stored if modules == "all" else stored & set(modules)
    parts = {name: part for name, part in transferable_parts(network).items() if name in wanted}
    tf.train.Checkpoint(**parts).read(prefix).expect_partial().assert_existing_objects_matched()


def checkpoint_in(folder: Path) -> Path:
    """Prefix of the checkpoint with the highest number in a folder and those below. DetectorError if there is none."""
    prefixes = [path.with_suffix("") for path in folder.rglob("*.index")]
    if not prefixes:
        raise DetectorError(f"no checkpoint (*.index): {folder}: name a folder, an archive or a prefix that has one")
    return max(prefixes, key=lambda path: (_number(path), str(path)))


def _number(prefix: Path) -> int:
    digits = prefix.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _open(prefix: Path):
    """(reader of tensors, nodes of the object graph; node 0 is the root)."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        graph = TrackableObjectGraph.FromString(reader.get_tensor(GRAPH))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DetectorError(f"not a checkpoint of TensorFlow 2 ({reason}): {prefix}: name the prefix before .index, "
                            "with its .data files beside it") from None
    return reader, graph.nodes


def _variables(root) -> list:
    import tensorflow as tf

    found = [thing for thing in tf.train.TrackableView(root).descendants() if isinstance(thing, tf.Variable)]
    return list({variable.ref(): variable for variable in found}.values())

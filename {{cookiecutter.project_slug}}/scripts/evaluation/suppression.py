"""Suppression as the shipped file does it, in TensorFlow, for the checkpoint and the SavedModel.

`TFLite_Detection_PostProcess` with `use_regular_nms` false: each anchor stands for its best class, and a box is dropped
when it overlaps a better one of any class. The other mode, suppression per class, is not safe to ship: run with N
threads, LiteRT 2.3 and TensorFlow Lite 2.20 never look at class id N (two threads lose the third class).
"""


def suppress(yxyx_norm, scores, score_threshold: float, iou: float, slots: int):
    """Boxes [batch, slots, 4], classes [batch, slots], scores [batch, slots], all float32, and counts int32 [batch].

    `yxyx_norm` are boxes [batch, anchors, 4], `scores` 0..1 [batch, anchors, classes]. Best first; boxes are clipped to
    0..1 after suppression; slots past the count are zero.
    """
    import tensorflow as tf

    def one_picture(inputs):
        boxes, best, classes = inputs
        kept = tf.image.non_max_suppression(boxes, best, slots, iou, score_threshold)
        chosen = [tf.gather(part, kept) for part in (tf.clip_by_value(boxes, 0.0, 1.0), classes, best)]
        empty = slots - tf.shape(kept)[0]
        padded = [tf.pad(part, [[0, empty]] + [[0, 0]] * (part.shape.rank - 1)) for part in chosen]
        shapes = ([slots, 4], [slots], [slots])
        return (*(tf.ensure_shape(part, shape) for part, shape in zip(padded, shapes, strict=True)), tf.size(kept))

    classes = tf.cast(tf.argmax(scores, -1), tf.float32)
    return tf.map_fn(
        one_picture,
        (yxyx_norm, tf.reduce_max(scores, -1), classes),
        fn_output_signature=(tf.float32, tf.float32, tf.float32, tf.int32),
    )

"""Pictures as training sees them.

JPEG decoders differ by a few of 255 steps: Pillow's and TensorFlow's are not the same. Every figure of ours
(checkpoint, `.tflite`, calibration) comes from this one decoder, the one that training uses, so that no difference of
decoders is taken for one of models. `invoke predict` reads with Pillow, as a client would with its own decoder.
"""


def decode_rgb(encoded: bytes):
    """The pixels of a JPEG or PNG file as stored (EXIF is not applied): uint8 [height, width, 3].

    Raises tensorflow.errors.InvalidArgumentError for anything else; `records` has refused such files before.
    """
    import tensorflow as tf

    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()

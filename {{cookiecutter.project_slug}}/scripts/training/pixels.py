"""From the bytes of a picture file to pixels, the same in training, evaluation and other people's programs."""

import tensorflow as tf


def decode_picture(encoded: tf.Tensor) -> tf.Tensor:
    """The pixels of a JPEG or PNG file as stored (EXIF is not applied): uint8 [height, width, 3].

    JPEG as Pillow, browsers and phones decode it: TensorFlow's default is a faster transform that is off by one of 255
    on the mean, which moved AP by up to 1.4 points on the same file.
    """
    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False))
    return tf.ensure_shape(pixels, [None, None, 3])

"""SavedModel, `.tflite` files, their reader and their proof."""

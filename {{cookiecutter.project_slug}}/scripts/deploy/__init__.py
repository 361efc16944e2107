"""Conversion to `.tflite`, its metadata and its readers."""

"""Detections, figures and errors of a trained detector."""

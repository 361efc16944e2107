"""Labeled images: reading, matching, splitting, checking and writing them."""

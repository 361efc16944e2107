"""Labelled pictures: reading, drawing, splitting, organising and checking them."""

"""Settings, steps, errors and files: what every other room uses."""

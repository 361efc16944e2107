"""Settings, steps, state, files and messages: what every other package uses."""

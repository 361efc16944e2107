"""Input pipeline, task, runner and state of a training."""

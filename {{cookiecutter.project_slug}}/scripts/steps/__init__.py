"""One module a step of the pipeline, named as the task."""

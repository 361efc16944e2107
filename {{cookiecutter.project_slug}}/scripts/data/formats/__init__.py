"""One module a label format: readers into `Labels`, writers out of `Picture`."""

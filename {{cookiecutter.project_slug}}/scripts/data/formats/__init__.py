"""One module a label format: readers into `Labels`, writers out of `Image`."""

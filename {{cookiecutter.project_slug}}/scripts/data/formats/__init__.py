"""A module for each label format: a reader into `Labels`, for some a writer out of `Image`."""

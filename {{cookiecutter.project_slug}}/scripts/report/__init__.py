"""What people look at: the report of a training and its model card."""

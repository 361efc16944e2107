"""Label map, CSV and TFRecords."""

"""Open Images by class: names to ids, metadata streamed and filtered, images chosen, fetched and
verified."""

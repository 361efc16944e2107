"""Open Images by class: names to ids, metadata streamed and filtered, pictures chosen, fetched and verified."""

"""One module a command that is no step."""

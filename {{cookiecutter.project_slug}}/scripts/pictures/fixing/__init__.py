"""What `invoke check --fix` does to files of `images/`, a module a topic; the source is never touched."""

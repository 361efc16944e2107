"""The rules of `check`, a module a topic: each looks at pictures of `images/` and yields findings."""

"""Which modules of `scripts/` run when a step runs, and whether their code changed.

Found from syntax trees: nothing is imported, and comments, docstrings and blank lines do not count.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from scripts.core.state import Digests, Tree

PLUMBING = frozenset(f"scripts/core/{name}.py" for name in (
    "files", "folder_lock", "imports", "layout", "runtime", "settings", "state", "step", "text",
    "transfer"))
"""Modules that decide when a step runs, hand it its settings, move files and word messages.

No box and no figure that a step writes comes from them, and nearly every step imports them: if they
counted, a new message would make everything run again. Settings and the places of files are watched
by themselves. `core/schema.py` counts, because its constants go into models.
"""


class Modules:
    """The modules below `scripts/` of a project, as they are when this process first asks."""

    def __init__(self, root: Path, memory: Path) -> None:
        self._tree, self.digests = Tree(root), Digests(root, memory, read_module)

    def closure(self, names: Iterable[str]) -> dict[str, str]:
        """Return label -> digest of the modules with these names and all that they import.

        Imports inside functions count too; `PLUMBING` is left out, and what only it imports.
        """
        found: dict[str, str] = {}
        waiting = self._files(names)
        while waiting:
            label = waiting.pop()
            if label not in found:
                found[label] = self._read[label][0]
                waiting += self._imports[label]
        return dict(sorted(found.items()))

    @cached_property
    def _read(self) -> dict[str, tuple[str, list[str]]]:
        """Label -> digest and imported names of every module that counts."""
        read = self.digests.of(self._tree.match(["scripts/**/*.py"]))
        return {label: read[label] for label in read if label not in PLUMBING}

    @cached_property
    def _imports(self) -> dict[str, list[str]]:
        return {label: self._files(names) for label, (_, names) in self._read.items()}

    def _files(self, names: Iterable[str]) -> list[str]:
        """Return the files that imports of `names` run: their own, and those of their packages."""
        files: set[str] = set()
        for name in names:
            parts = name.split(".")
            folders = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            files |= {f"{folder}/__init__.py" for folder in folders} | {f"{folders[-1]}.py"}
        return [label for label in files if label in self._read]


def imported_names(code: CodeType) -> list[str]:
    """Return the modules of `scripts/` that the body of a task imports."""
    # The names in a function's code hold the module of each `from MODULE import ...`.
    return [name for name in code.co_names if name.startswith("scripts.")]


def read_module(path: Path) -> tuple[str, list[str]]:
    """Return the digest of the code of a module, and the names that it imports from `scripts`."""
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a half-finished edit: the step itself will complain
        return hashlib.blake2b(source, digest_size=16).hexdigest(), []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "scripts":
            # `from scripts.core import lock` may name a module or something inside one.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "scripts"}
    code = repr(_without_words(tree)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(code, digest_size=16).hexdigest(), sorted(names)


def _without_words(node: Any) -> Any:
    """Return a syntax tree as tuples, without places in the file and texts that stand alone.

    No `ast.dump`: what is empty is left out, as each new Python has more such fields.
    """
    if isinstance(node, list):
        return [_without_words(item) for item in node if not _is_text(item)]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _without_words(value)) for name, value in ast.iter_fields(node)
              if value is not None and value != []]
    return (type(node).__name__, *fields)


def _is_text(node: Any) -> bool:
    """Say if a statement is a text and nothing else, as a docstring is."""
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))

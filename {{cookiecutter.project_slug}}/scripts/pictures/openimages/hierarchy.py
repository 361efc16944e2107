"""The tree of classes: Open Images labels a limousine as Limousine and not as Car as well."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def _links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of parent and child. `Part` is left out: a human face is a part of a person, not a kind of one."""
    for child in node.get("Subcategory", ()):
        yield node["LabelName"], child["LabelName"]
        yield from _links(child)


def owners(asked: Sequence[str], tree: Mapping[str, Any]) -> dict[str, str]:
    """MID of a class -> the asked MID under which its boxes are kept: its own, or that of the nearest asked ancestor.

    With Car and Vehicle asked, a limousine is a Car. Two ancestors at the same distance: the one asked first.
    """
    children: dict[str, list[str]] = {}
    for parent, child in _links(tree):
        children.setdefault(parent, []).append(child)
    owner = {mid: mid for mid in asked}
    level = list(asked)
    while level:
        below = []
        for mid in level:
            for child in children.get(mid, ()):
                if child not in owner:
                    owner[child] = owner[mid]
                    below.append(child)
        level = below
    return owner

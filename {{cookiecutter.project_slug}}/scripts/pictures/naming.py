"""Names in `images/`: the picture's own name, made distinct where two pictures share one."""

from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from scripts.pictures.reading import Item
from scripts.pictures.source import same_name


def _longer_names(shown: str):
    """`stem`, `folder_stem`, `upper_folder_stem`, ... then numbered ones."""
    path = PurePosixPath(shown)
    name = path.stem
    for folder in reversed([part for part in path.parts[:-1] if part not in ("/", "..", ".", "~")]):
        name = f"{folder}_{name}"
        yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def give_names(items: list[Item], known: dict[str, str]) -> tuple[list[Item], int]:
    """Items with their `name`, and how many differ from the name of their file.

    `known` maps a source file to the name it got in an earlier run: it keeps that, whatever came later.
    Of several new pictures with one name all get the folder in front, so the order does not matter.
    """
    shared = Counter(same_name(PurePosixPath(item.shown).stem) for item in items)
    used = {same_name(name) for name in known.values()}
    named, renamed = [], 0
    for item in items:
        stem = PurePosixPath(item.shown).stem
        name = known.get(item.shown, "")
        if not name:
            free = same_name(stem) not in used and shared[same_name(stem)] == 1
            name = stem if free else next(name for name in _longer_names(item.shown) if same_name(name) not in used)
        used.add(same_name(name))
        renamed += name != stem
        named.append(replace(item, name=name))
    return named, renamed

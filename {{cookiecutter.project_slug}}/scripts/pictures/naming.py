"""Names in `images/`: the picture's own name, made distinct where two pictures share one."""

from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

from scripts.pictures.reading import Item
from scripts.pictures.source import same_name

_DEEPEST = 8


def _with_folders(shown: str, depth: int) -> str:
    """`upper_folder_stem` with `depth` folders in front, or fewer when the path has fewer."""
    path = PurePosixPath(shown)
    folders = [part for part in path.parts[:-1] if part not in ("/", "..", ".", "~")]
    return "_".join([*folders[len(folders) - min(depth, len(folders)) :], path.stem])


def _distinct(shown: list[str], used: set[str]) -> list[str]:
    """A free name for each path of a group, with as few folders in front as tell them apart."""
    for depth in range(len(shown) > 1, _DEEPEST):
        names = [_with_folders(path, depth) for path in shown]
        keys = {same_name(name) for name in names}
        if len(keys) == len(names) and not keys & used:
            return names
    numbered = (f"{_with_folders(shown[0], 1)}_{number}" for number in range(2, 2 + len(used) + 2 * len(shown)))
    return [name for name in numbered if same_name(name) not in used][: len(shown)]


def give_names(items: list[Item], known: dict[str, str]) -> tuple[list[Item], int]:
    """Items with their `name`, and how many differ from the name of their file.

    `known` maps a source file to the name it got in an earlier run: it keeps that, whatever came later.
    Of several new pictures with one name all get folders in front, so the order does not matter.
    """
    names = {item.shown: known[item.shown] for item in items if item.shown in known}
    used = {same_name(name) for name in known.values()}
    groups = defaultdict(list)
    for item in items:
        if item.shown not in names:
            groups[same_name(PurePosixPath(item.shown).stem)].append(item.shown)
    for _, shown in sorted(groups.items(), key=lambda group: (len(group[1]) > 1, group[0])):  # plain names first
        for path, name in zip(shown, _distinct(shown, used), strict=True):
            names[path] = name
            used.add(same_name(name))
    renamed = sum(names[item.shown] != PurePosixPath(item.shown).stem for item in items)
    return [replace(item, name=names[item.shown]) for item in items], renamed

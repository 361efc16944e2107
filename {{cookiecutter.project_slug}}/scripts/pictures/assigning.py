"""The split of every picture of a source: where it lies, else as remembered, else as given, else by balance."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from scripts.pictures.findings import Finding, finding
from scripts.pictures.ledger import ImagesFolder
from scripts.pictures.near import near_groups
from scripts.pictures.reading import Item
from scripts.pictures.source import respects_folders
from scripts.pictures.split import SPLITS, Group, assign

_RANK = {split: rank for rank, split in enumerate(SPLITS)}


def wanted_splits(items: list[Item], source, split, shown: str) -> list[Item]:
    """Items whose `picture.split` is what the source decides: a split, or "" where ours is free to choose."""
    found = Counter(item.picture.split for item in items)
    if source.merge_validation:
        found["train"] += found.pop("validation", 0)
    if not respects_folders(found, split.mode, shown):
        return [_with_split(item, "") for item in items]
    # What the source lacks is carved out of its train pictures; a folder without a split's name counts as train.
    free = not found["validation"] or not found["test"]
    pool = "" if free else "train"
    fixed = {"test": "test", "validation": pool if source.merge_validation else "validation"}
    return [_with_split(item, fixed.get(item.picture.split, pool)) for item in items]


def _with_split(item: Item, split: str) -> Item:
    return replace(item, picture=replace(item.picture, split=split))


@dataclass
class _Kin:
    """Pictures that are identical or nearly so, with the splits that are settled already."""

    items: list[int]
    splits: Counter


def _kin_of(items: list[Item], respected: set[str]) -> list[_Kin]:
    """All groups of kin; a split that the source decides about does not draw others to it."""
    near = near_groups([item.facts.signature for item in items])
    first: dict[str, int] = {}
    kin: dict[int, _Kin] = defaultdict(lambda: _Kin([], Counter()))
    for index, (item, group) in enumerate(zip(items, near, strict=True)):
        # Pictures without any structure are near to none, but equal bytes are equal all the same.
        one = kin[first.setdefault(item.facts.sha256, group)]
        one.items.append(index)
        if item.picture.split and item.picture.split not in respected:
            one.splits[item.picture.split] += 1
    return list(kin.values())


def assign_splits(
    items: list[Item], images: ImagesFolder, known: dict[str, list[str]], split
) -> tuple[list[Item], list[Finding]]:
    """Give every item its split, and say where that is not what its folder says or parts nearly identical pictures.

    `known` is `split.csv`, `split` the table of detector.toml. A new picture goes where its kin is, unless the source
    itself decides about that split.
    """
    respected = {item.picture.split for item in items} - {""}
    decided, findings = _settled(items, images, known)
    groups, open_kin = [], []
    kin = _kin_of(decided, respected)
    for one in kin:
        free = [index for index in one.items if not decided[index].picture.split]
        home = max(one.splits, key=lambda name: (one.splits[name], -SPLITS.index(name)), default="")
        if free:
            open_kin.append((_group(decided, free, home), free))
        for name in one.splits:
            placed = [index for index in one.items if decided[index].picture.split == name]
            groups.append(_group(decided, placed, name))
    validation = 0.0 if "validation" in respected else split.validation
    test = 0.0 if "test" in respected else split.test
    assign([*groups, *(group for group, _ in open_kin)], validation, test, split.seed)
    for group, free in open_kin:
        for index in free:
            decided[index] = _with_split(decided[index], group.split)
    return decided, findings + [found for one in kin for found in _likeness(decided, one)]


def _settled(
    items: list[Item], images: ImagesFolder, known: dict[str, list[str]]
) -> tuple[list[Item], list[Finding]]:
    """Items with the split that they have already; W110 for those whose folder says another."""
    decided, findings = [], []
    for item in items:
        wanted, remembered = item.picture.split, known.get(item.facts.sha256, [])
        earlier = wanted if wanted in remembered else (remembered or [""])[0]
        final = images.split_of(item) or earlier or wanted
        if wanted and final != wanted:
            findings.append(finding("W110", item.shown, f"lies in {final}, its folder says {wanted}"))
        decided.append(_with_split(item, final))
    return decided, findings


def _group(items: list[Item], members: list[int], split: str) -> Group:
    """Members as one group of `assign`; its key does not depend on their order."""
    classes = {box.class_name for index in members for box in items[index].picture.boxes if box.class_name}
    return Group(min(items[index].facts.sha256 for index in members), classes, len(members), split)


def _likeness(items: list[Item], kin: _Kin) -> list[Finding]:
    """W113 for pictures in another split than a nearly identical one, R216 for those kept with it."""
    findings = []
    members = sorted((items[index] for index in kin.items), key=lambda item: (_RANK[item.picture.split], item.shown))
    for number, item in enumerate(members):
        split = item.picture.split
        earlier = [other for other in members[:number] if other.facts.sha256 != item.facts.sha256]
        apart = next((other for other in earlier if other.picture.split != split), None)
        if apart:  # the picture that is scored is the one to look at
            text = f"in {split}, nearly the same picture as {apart.shown} in {apart.picture.split}"
            findings.append(finding("W113", item.shown, text, picture=item.shown))
        elif earlier:
            text = f"nearly the same picture as {earlier[0].shown}, both in {split}"
            findings.append(finding("R216", item.shown, text, picture=item.shown))
    return findings


def remember(known: dict[str, list[str]], entries: list[dict], forgotten: list[dict]) -> None:
    """Bring `known` up to date; the split of a `forgotten` drawing means nothing beside pictures of the user."""
    for entry in forgotten:
        known.pop(entry["sha256"], None)
    now = defaultdict(set)
    for entry in entries:
        now[entry["sha256"]].add(entry["split"])
    known.update({sha256: sorted(splits, key=SPLITS.index) for sha256, splits in now.items()})

"""Which image goes to train, validation or test; what was assigned once stays.

Images with equal content are one group. New groups are assigned in an order that depends on the
seed and the content only: first so that each class stands in each split, then to where most is
missing.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.text import DetectorError
from scripts.data.dataset import SPLITS
from scripts.data.duplicates import near_groups
from scripts.data.findings import Finding, finding
from scripts.data.manifest import ImagesFolder
from scripts.data.reading import Item
from scripts.data.source import respects_folders

# A class in a single image is for training, a second one for the test.
_COVER_ORDER = ("train", "test", "validation")


@dataclass
class Group:
    """Images that stay together: the classes on them, how many they are, and their split ("": none
    yet)."""

    key: str
    classes: set[str] = field(default_factory=set)
    images: int = 1
    split: str = ""


def _order(group: Group, seed: int) -> str:
    return hashlib.sha256(f"{seed} {group.key}".encode()).hexdigest()


class _Balance:
    """Images in each split, all and those of each class, against the wanted shares.

    Images are counted and not boxes: one image of a crowd would else make its split look full.
    """

    def __init__(self, groups: list[Group], shares: dict[str, float]):
        self.shares = {split: share for split, share in shares.items() if share > 0}
        self.total, self.have = Counter(), {split: Counter() for split in SPLITS}
        for group in groups:
            self.total.update(self._weights(group))
            if group.split:
                self.put(group, group.split)

    @staticmethod
    def _weights(group: Group) -> Counter:
        return Counter(dict.fromkeys([*group.classes, ""], group.images))  # "" stands for any image

    def put(self, group: Group, split: str) -> None:
        group.split = split
        self.have[split].update(self._weights(group))

    def missing(self, split: str, group: Group) -> float:
        """How much of what this group holds is still wanted in the split, each class weighing the
        same."""
        lacks = [self.shares[split] - self.have[split][name] / self.total[name] for name in self._weights(group)]
        # Relative to the share: otherwise the largest split takes everything first.
        return sum(lacks) / len(lacks) / self.shares[split]

    def neediest(self, group: Group) -> str:
        return max(self.shares, key=lambda split: (self.missing(split, group), self.shares[split]))


def assign(groups: list[Group], validation: float, test: float, seed: int) -> None:
    """Set `split` of all groups that have none. Shares are parts of all images, 0 to 1; 0 leaves a
    split as it is."""
    shares = {"train": 1.0 - validation - test, "validation": validation, "test": test}
    balance = _Balance(groups, shares)
    waiting = sorted((group for group in groups if not group.split), key=lambda group: _order(group, seed))
    count = Counter(name for group in groups for name in group.classes)
    for name in sorted(count, key=lambda name: (count[name], name)):  # rarest first: it has the least choice
        for split in _COVER_ORDER:
            if split in balance.shares and not balance.have[split][name]:
                _cover(balance, waiting, name, split)
    rarest = {group.key: min((count[name] for name in group.classes), default=len(groups)) for group in waiting}
    for group in sorted(waiting, key=lambda group: rarest[group.key]):
        if not group.split:
            balance.put(group, balance.neediest(group))


def _cover(balance: _Balance, waiting: list[Group], name: str, split: str) -> None:
    for group in waiting:
        if not group.split and name in group.classes:
            balance.put(group, split)
            return


def read_split(path: Path) -> dict[str, list[str]]:
    """`split.csv`: the splits of each image's SHA-256 (more than one only if the source itself had
    it twice)."""
    known = defaultdict(list)
    if not path.exists():
        return known
    for number, row in enumerate(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))), start=2):
        if not row.get("sha256") or row.get("split") not in SPLITS:
            raise DetectorError(
                f"line is not 'sha256,split' with a split of {', '.join(SPLITS)}: "
                f"annotations/split.csv:{number}: correct the line or delete it"
            )
        known[row["sha256"]].append(row["split"])
    return known


def write_split(path: Path, known: dict[str, list[str]]) -> None:
    """Write `split.csv` sorted by SHA-256."""
    rows = [f"{sha256},{split}" for sha256 in sorted(known) for split in known[sha256]]
    write_text(path, "\n".join(["sha256,split", *rows]) + "\n")


# The split of every image of a source: where it lies, else as remembered, else as given, else by
# balance.

_RANK = {split: rank for rank, split in enumerate(SPLITS)}


def wanted_splits(items: list[Item], source, split, shown: str) -> list[Item]:
    """Items whose `image.split` is what the source decides: a split, or "" where ours is free to
    choose."""
    found = Counter(item.image.split for item in items)
    if source.merge_validation:
        found["train"] += found.pop("validation", 0)
    if not respects_folders(found, split.mode, shown):
        return [_with_split(item, "") for item in items]
    # What the source lacks is carved out of its train images; a folder without a split's name
    # counts as train.
    free = not found["validation"] or not found["test"]
    pool = "" if free else "train"
    fixed = {"test": "test", "validation": pool if source.merge_validation else "validation"}
    return [_with_split(item, fixed.get(item.image.split, pool)) for item in items]


def _with_split(item: Item, split: str) -> Item:
    return replace(item, image=replace(item.image, split=split))


@dataclass
class _Kin:
    """Images that are identical or nearly so, with the splits that are settled already."""

    items: list[int]
    splits: Counter


def _kin_of(items: list[Item], respected: set[str]) -> list[_Kin]:
    """All groups of kin; a split that the source decides about does not draw others to it."""
    near = near_groups([item.facts.signature for item in items])
    first: dict[str, int] = {}
    kin: dict[int, _Kin] = defaultdict(lambda: _Kin([], Counter()))
    for index, (item, group) in enumerate(zip(items, near, strict=True)):
        # Images without any structure are near to none, but equal bytes are equal all the same.
        one = kin[first.setdefault(item.facts.sha256, group)]
        one.items.append(index)
        if item.image.split and item.image.split not in respected:
            one.splits[item.image.split] += 1
    return list(kin.values())


def assign_splits(
    items: list[Item], images: ImagesFolder, known: dict[str, list[str]], split
) -> tuple[list[Item], list[Finding]]:
    """Give every item its split, and say where that is not what its folder says or parts nearly
    identical images.

    `known` is `split.csv`, `split` the table of detector.toml. A new image goes where its kin is,
    unless the source itself decides about that split.
    """
    respected = {item.image.split for item in items} - {""}
    decided, findings = _settled(items, images, known)
    groups, open_kin = [], []
    kin = _kin_of(decided, respected)
    for one in kin:
        free = [index for index in one.items if not decided[index].image.split]
        home = max(one.splits, key=lambda name: (one.splits[name], -SPLITS.index(name)), default="")
        if free:
            open_kin.append((_group(decided, free, home), free))
        for name in one.splits:
            placed = [index for index in one.items if decided[index].image.split == name]
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
        wanted, remembered = item.image.split, known.get(item.facts.sha256, [])
        earlier = wanted if wanted in remembered else (remembered or [""])[0]
        final = images.split_of(item) or earlier or wanted
        if wanted and final != wanted:
            findings.append(finding("W110", item.shown, f"lies in {final}, its folder says {wanted}"))
        decided.append(_with_split(item, final))
    return decided, findings


def _group(items: list[Item], members: list[int], split: str) -> Group:
    """Members as one group of `assign`; its key does not depend on their order."""
    classes = {box.class_name for index in members for box in items[index].image.boxes if box.class_name}
    return Group(min(items[index].facts.sha256 for index in members), classes, len(members), split)


def _likeness(items: list[Item], kin: _Kin) -> list[Finding]:
    """W113 for images in another split than a nearly identical one, R216 for those kept with it."""
    findings = []
    members = sorted((items[index] for index in kin.items), key=lambda item: (_RANK[item.image.split], item.shown))
    for number, item in enumerate(members):
        split = item.image.split
        earlier = [other for other in members[:number] if other.facts.sha256 != item.facts.sha256]
        apart = next((other for other in earlier if other.image.split != split), None)
        if apart:  # the image that is scored is the one to look at
            text = f"in {split}, nearly the same image as {apart.shown} in {apart.image.split}"
            findings.append(finding("W113", item.shown, text, image=item.shown))
        elif earlier:
            text = f"nearly the same image as {earlier[0].shown}, both in {split}"
            findings.append(finding("R216", item.shown, text, image=item.shown))
    return findings


def remember(known: dict[str, list[str]], entries: list[dict], forgotten: list[dict]) -> None:
    """Bring `known` up to date; the split of a `forgotten` drawing means nothing beside images of
    the user."""
    for entry in forgotten:
        known.pop(entry["sha256"], None)
    now = defaultdict(set)
    for entry in entries:
        now[entry["sha256"]].add(entry["split"])
    known.update({sha256: sorted(splits, key=SPLITS.index) for sha256, splits in now.items()})

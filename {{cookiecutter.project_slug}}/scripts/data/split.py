"""Which image goes to train, validation or test; what was assigned once stays.

Images that are identical or nearly so are one group. New groups are assigned in an order that
depends on the seed and the content only: first so that each class stands in each split, then to
where most is missing.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.text import DetectorError
from scripts.data.dataset import SPLITS
from scripts.data.duplicates import near_groups
from scripts.data.findings import Finding, finding
from scripts.data.reading import Item
from scripts.data.source import respects_folders

# `split.csv`: the memory of what was assigned.


def read_split(path: Path) -> dict[str, list[str]]:
    """Read `split.csv`: the splits of each image by the SHA-256 of its file.

    More than one split only if the source itself has the image in several.

    Raises:
        DetectorError: a line is not `sha256,split`.
    """
    known = defaultdict(list)
    if not path.exists():
        return known
    rows = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
    for number, row in enumerate(rows, start=2):
        if not row.get("sha256") or row.get("split") not in SPLITS:
            raise DetectorError(
                f"line is not 'sha256,split' with a split of {', '.join(SPLITS)}: "
                f"annotations/{path.name}:{number}: correct the line or delete it")
        known[row["sha256"]].append(row["split"])
    return known


def write_split(path: Path, known: dict[str, list[str]]) -> None:
    """Write `split.csv` sorted by SHA-256."""
    rows = [f"{sha256},{split}" for sha256 in sorted(known) for split in known[sha256]]
    write_text(path, "\n".join(["sha256,split", *rows]) + "\n")


def forget(known: dict[str, list[str]], entries: list[dict]) -> None:
    """Take the images of an earlier source out of `known`: they say nothing about other images."""
    for entry in entries:
        known.pop(entry["sha256"], None)


def remember(known: dict[str, list[str]], entries: list[dict]) -> None:
    """Bring `known` up to date with the entries of the manifest."""
    now = defaultdict(set)
    for entry in entries:
        now[entry["sha256"]].add(entry["split"])
    known.update({sha256: sorted(splits, key=SPLITS.index) for sha256, splits in now.items()})


# Where an image belongs: where it lies, else as remembered, as the source says, or by balance.


def wanted_splits(items: list[Item], source, split, shown: str) -> list[Item]:
    """Set `image.split` to what the source decides, "" where organize is free to choose.

    Args:
        items: the images of the source; `image.split` is what their folder or label file says.
        source: the table [source] of detector.toml.
        split: the table [split].
        shown: the source as messages name it.
    """
    found = Counter(item.image.split for item in items)
    if source.merge_validation:
        found["train"] += found.pop("validation", 0)
    if not respects_folders(found, split.mode, shown):
        return [_with_split(item, "") for item in items]
    # What the source lacks is carved out of its train images; a folder without a split's name
    # counts as train.
    lacks = not found["validation"] or not found["test"]
    train = "" if lacks else "train"
    fixed = {"test": "test", "validation": train if source.merge_validation else "validation"}
    return [_with_split(item, fixed.get(item.image.split, train)) for item in items]


def assign_splits(items: list[Item], split_of: Callable[[Item], str], known: dict[str, list[str]],
                  split) -> tuple[list[Item], list[Finding]]:
    """Give every image its split; a new one goes where its near-duplicates are.

    Args:
        items: the images, with what the source decides in `image.split`.
        split_of: returns the split where an image lies already, "" for a new one.
        known: the content of `split.csv`.
        split: the table [split] of detector.toml.

    Returns:
        The images with their split, and findings: an image that is not where its folder says,
        near-duplicates, and those on both sides of a split.
    """
    respected = {item.image.split for item in items} - {""}
    decided, findings = _settled(items, split_of, known)
    groups, undecided = [], []
    duplicates = _near_duplicates(decided, respected)
    for near in duplicates:
        new = [index for index in near.items if not decided[index].image.split]
        home = max(near.splits, default="",
                   key=lambda name: (near.splits[name], -SPLITS.index(name)))
        if new:
            undecided.append((_group(decided, new, home), new))
        for name in near.splits:
            placed = [index for index in near.items if decided[index].image.split == name]
            groups.append(_group(decided, placed, name))

    # A split that the source decides about gets no other images.
    validation = 0.0 if "validation" in respected else split.validation
    test = 0.0 if "test" in respected else split.test
    assign([*groups, *(group for group, _ in undecided)], validation, test, split.seed)
    for group, members in undecided:
        for index in members:
            decided[index] = _with_split(decided[index], group.split)
    for near in duplicates:
        findings += _near_findings([decided[index] for index in near.items])
    return decided, findings


def _with_split(item: Item, split: str) -> Item:
    return replace(item, image=replace(item.image, split=split))


def _settled(items: list[Item], split_of: Callable[[Item], str],
             known: dict[str, list[str]]) -> tuple[list[Item], list[Finding]]:
    """Set the split that images have already; W110 for those whose folder says another."""
    decided, findings = [], []
    for item in items:
        wanted, remembered = item.image.split, known.get(item.facts.sha256, [])
        earlier = wanted if wanted in remembered else (remembered or [""])[0]
        final = split_of(item) or earlier or wanted
        if wanted and final != wanted:
            text = f"lies in {final}, its folder says {wanted}"
            findings.append(finding("W110", item.shown, text))
        decided.append(_with_split(item, final))
    return decided, findings


@dataclass
class _NearDuplicates:
    """Numbers of images that are identical or nearly so, and how many lie in which split."""

    items: list[int] = field(default_factory=list)
    splits: Counter = field(default_factory=Counter)


def _near_duplicates(items: list[Item], respected: set[str]) -> list[_NearDuplicates]:
    """Group all images; a split that the source decides about does not draw others to it."""
    near = near_groups([item.facts.signature for item in items])
    first: dict[str, int] = {}
    found: dict[int, _NearDuplicates] = defaultdict(_NearDuplicates)
    for index, (item, group) in enumerate(zip(items, near, strict=True)):
        # Images without any structure are near to none, but equal bytes are equal all the same.
        duplicates = found[first.setdefault(item.facts.sha256, group)]
        duplicates.items.append(index)
        if item.image.split and item.image.split not in respected:
            duplicates.splits[item.image.split] += 1
    return list(found.values())


def _near_findings(items: list[Item]) -> Iterator[Finding]:
    """Yield W113 for near-duplicates in another split, R216 for those in the same one."""
    items = sorted(items, key=lambda item: (SPLITS.index(item.image.split), item.shown))
    for number, item in enumerate(items):
        split = item.image.split
        earlier = [other for other in items[:number] if other.facts.sha256 != item.facts.sha256]
        apart = next((other for other in earlier if other.image.split != split), None)
        if apart:  # the image that is scored is the one to look at
            text = f"in {split}, nearly the same image as {apart.shown} in {apart.image.split}"
            yield finding("W113", item.shown, text, image=item.shown)
        elif earlier:
            text = f"nearly the same image as {earlier[0].shown}, both in {split}"
            yield finding("R216", item.shown, text, image=item.shown)


# Groups by balance.

# A class in a single image is for training, a second one for the test.
_COVER_ORDER = ("train", "test", "validation")


@dataclass
class Group:
    """Images that stay together: their classes, how many they are, their split ("": none yet)."""

    key: str
    classes: set[str] = field(default_factory=set)
    images: int = 1
    split: str = ""


def _group(items: list[Item], members: list[int], split: str) -> Group:
    """Return members as one group; its key does not depend on their order."""
    classes = {box.class_name for index in members for box in items[index].image.boxes
               if box.class_name}
    key = min(items[index].facts.sha256 for index in members)
    return Group(key, classes, len(members), split)


def assign(groups: list[Group], validation: float, test: float, seed: int) -> None:
    """Set `split` of all groups that have none.

    Shares are parts of all images, 0 to 1; a share of 0 leaves a split as it is.
    """
    shares = {"train": 1.0 - validation - test, "validation": validation, "test": test}
    balance = _Balance(groups, shares)
    waiting = sorted((group for group in groups if not group.split),
                     key=lambda group: hashlib.sha256(f"{seed} {group.key}".encode()).hexdigest())
    count = Counter(name for group in groups for name in group.classes)
    for name in sorted(count, key=lambda name: (count[name], name)):  # rarest first: least choice
        for split in _COVER_ORDER:
            if split in balance.shares and not balance.have[split][name]:
                _cover(balance, waiting, name, split)
    rarest = {group.key: min((count[name] for name in group.classes), default=len(groups))
              for group in waiting}
    for group in sorted(waiting, key=lambda group: rarest[group.key]):
        if not group.split:
            balance.put(group, balance.neediest(group))


def _cover(balance: "_Balance", waiting: list[Group], name: str, split: str) -> None:
    """Put the first waiting group with a class into a split that lacks it."""
    for group in waiting:
        if not group.split and name in group.classes:
            balance.put(group, split)
            return


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
        return Counter(dict.fromkeys([*group.classes, ""], group.images))  # "": any image

    def put(self, group: Group, split: str) -> None:
        group.split = split
        self.have[split].update(self._weights(group))

    def neediest(self, group: Group) -> str:
        return max(self.shares, key=lambda split: (self._missing(split, group), self.shares[split]))

    def _missing(self, split: str, group: Group) -> float:
        """Return how much of what a group holds a split still wants, each class alike."""
        share = self.shares[split]
        lacks = [share - self.have[split][name] / self.total[name]
                 for name in self._weights(group)]
        # Relative to the share: otherwise the largest split takes everything first.
        return sum(lacks) / len(lacks) / share

"""Which picture goes to train, validation or test; what was assigned once stays.

Pictures with equal content are one group. New groups are assigned in an order that depends on the seed and the
content only: first so that each class stands in each split, then to where most is missing.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_text

SPLITS = ("train", "validation", "test")
# A class in a single picture is for training, a second one for the test.
_COVER_ORDER = ("train", "test", "validation")


@dataclass
class Group:
    """Pictures that stay together: the classes on them, how many they are, and their split ("": none yet)."""

    key: str
    classes: set[str] = field(default_factory=set)
    pictures: int = 1
    split: str = ""


def _order(group: Group, seed: int) -> str:
    return hashlib.sha256(f"{seed} {group.key}".encode()).hexdigest()


class _Balance:
    """Pictures in each split, all and those of each class, against the wanted shares.

    Pictures are counted and not boxes: one picture of a crowd would else make its split look full.
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
        return Counter(dict.fromkeys([*group.classes, ""], group.pictures))  # "" stands for any picture

    def put(self, group: Group, split: str) -> None:
        group.split = split
        self.have[split].update(self._weights(group))

    def missing(self, split: str, group: Group) -> float:
        """How much of what this group holds is still wanted in the split, each class weighing the same."""
        lacks = [self.shares[split] - self.have[split][name] / self.total[name] for name in self._weights(group)]
        # Relative to the share: otherwise the largest split takes everything first.
        return sum(lacks) / len(lacks) / self.shares[split]

    def neediest(self, group: Group) -> str:
        return max(self.shares, key=lambda split: (self.missing(split, group), self.shares[split]))


def assign(groups: list[Group], validation: float, test: float, seed: int) -> None:
    """Set `split` of all groups that have none. Shares are parts of all pictures, 0 to 1; 0 leaves a split as it is."""
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
    """`split.csv`: the splits of each picture's SHA-256 (more than one only if the source itself had it twice)."""
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

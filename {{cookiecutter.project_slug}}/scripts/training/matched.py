"""Counts which tensors of pre-trained weights fit a network, and refuses weights of another one."""

from dataclasses import dataclass, field

from scripts.pipeline.errors import DetectorError

LEAST_SHARE = 0.9
SHOWN = 3


@dataclass
class Matched:
    """`parts` of the network that were to be filled; tensors `taken` and `expected`; reasons for those not taken."""

    parts: tuple[str, ...]
    taken: int = 0
    expected: int = 0
    reasons: list[str] = field(default_factory=list)

    def count(self, name: str, shape: tuple[int, ...], found: tuple[int, ...] | None) -> bool:
        """Note one tensor of the network and the shape that the file has in its place (None: nothing); True if it
        fits."""
        self.expected += 1
        if found is not None and tuple(found) == tuple(shape):
            self.taken += 1
            return True
        there = "is not there" if found is None else f"is {list(found)} there"
        self.reasons.append(f"{name} {list(shape)} {there}")
        return False

    def refuse_other_model(self, model_id: str, origin: str) -> None:
        """Raises DetectorError when fewer than nine of ten tensors fit: these are the weights of something else."""
        if self.taken >= LEAST_SHARE * self.expected:
            return
        more = f" and {len(self.reasons) - SHOWN:,} more" if len(self.reasons) > SHOWN else ""
        shown = ", ".join(self.reasons[:SHOWN]) + more
        raise DetectorError(
            f"only {self.taken} of {self.expected} tensors of {model_id} fit ({shown}): {origin}: choose the model.id "
            "that these weights belong to, or other weights in model.weights")

"""Two processes on loopback against one: the same records, the same global batch, the same number
of steps.

python -m benchmarks.workers --out FOLDER

Prints the loss on the validation split after both, the largest difference, and the validation AP.
"""

import argparse
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kills import invoke, start, tiny_project

ENDING_S = 300
"""In which the second process has to end after the first; a busy machine takes more than a minute.
"""


@dataclass(frozen=True)
class Compared:
    """Step -> loss on validation after one process and after two, and the best AP of each (0..1).
    """

    one: dict[int, float]
    two: dict[int, float]
    one_ap: float
    two_ap: float

    @property
    def largest_difference(self) -> float:
        """Largest difference of losses at a step, as a share of that of one process."""
        return max(abs(self.two[step] - loss) / loss for step, loss in self.one.items())


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    result = compare(parser.parse_args().out.resolve())
    print("| step | validation loss, one process | two workers |\n|---|---|---|")
    for step, loss in result.one.items():
        print(f"| {step} | {loss:.6f} | {result.two[step]:.6f} |")
    print(f"largest difference {100 * result.largest_difference:.4f} %; validation AP {100 * result.one_ap:.2f} and "
          f"{100 * result.two_ap:.2f}")


def compare(out: Path, epochs: int = 15) -> Compared:
    """Trains the same tiny network with one process and with two workers, in folders of `out`."""
    budget = {"INVOKE_TRAIN_EPOCHS": str(epochs)}
    one = tiny_project(out, "one")
    invoke(one, "train", **budget)
    two, machines = tiny_project(out, "two"), budget | two_machines()
    invoke(two, "configure", "pretrained", **machines)
    worker = start(two, "worker", **machines, INVOKE_RUNTIME_TASK_INDEX="1")
    try:
        invoke(two, "train", **machines, INVOKE_RUNTIME_TASK_INDEX="0")
        if worker.wait(ENDING_S):
            raise RuntimeError((two / "invoke.log").read_text(encoding="utf-8")[-3000:])
    finally:
        worker.kill()
    aps = [json.loads((project / "training/run.json").read_text(encoding="utf-8"))["best_AP"]
           for project in (one, two)]
    return Compared(losses(one), losses(two), *aps)


def two_machines() -> dict[str, str]:
    """Settings of two machines that are both this one; each adds its own
    `INVOKE_RUNTIME_TASK_INDEX`."""
    hosts = ",".join(f"localhost:{port}" for port in free_ports(2))
    return {"INVOKE_RUNTIME_DISTRIBUTION_STRATEGY": "multi_worker_mirrored",
            "INVOKE_RUNTIME_WORKER_HOSTS": hosts}


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens at."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def losses(project: Path) -> dict[int, float]:
    """Step -> loss on the whole validation split, as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(project / "training/validation")).Reload()
    return {event.step: float(make_ndarray(event.tensor_proto))
            for event in events.Tensors("validation_loss")}


if __name__ == "__main__":
    main()

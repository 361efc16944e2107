"""What an explanation of a code consists of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """Plain sentences about a code: what it is and why it matters, what `--fix` does, what follows when it is accepted.

    `fixing` "": `--fix` leaves it. `accepting` is for errors; the others never stop.
    """

    why: str
    fixing: str = ""
    accepting: str = ""

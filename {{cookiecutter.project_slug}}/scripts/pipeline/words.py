"""Words that several rooms use in their one line."""


def counted(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,212 pictures`, `2 boxes`; `many` is for words whose plural is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"

"""A function over many items, in all cores when it pays, with a progress bar on a terminal."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

# Starting two spawned workers costs about as much as decoding this many pictures.
SMALLEST_POOL = 100


def map_items(
    function: Callable, items: Sequence, name: str, processes: int | None = None, smallest_pool: int = SMALLEST_POOL
) -> Iterator:
    """Results of `function(item)` in the order of `items`.

    `function` has to be a plain function of a module (workers are spawned, on every system alike).
    `processes` None: one for each core, and none of them below `smallest_pool` items.
    """
    from tqdm import tqdm

    if processes is None:
        processes = (os.cpu_count() or 1) if len(items) >= smallest_pool else 1
    bar = {"total": len(items), "desc": name, "unit": "", "disable": None, "leave": False}
    if processes <= 1:
        yield from tqdm(map(function, items), **bar)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        chunk = max(1, min(32, len(items) // (processes * 4)))
        yield from tqdm(pool.map(function, items, chunksize=chunk), **bar)

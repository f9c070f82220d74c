"""Work on the cores of this machine, in order, a bounded number of items ahead."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ige.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORTHWHILE = 20
"""Items that it takes to make up for the seconds in which a process starts."""

_AHEAD = 4
"""Items per process that are read before their results are asked for."""


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def worthwhile(items: int, processes: int) -> int:
    """Returns how many of `processes` are of use for so many items, of a tenth of a second each."""
    return max(1, min(processes, items // _WORTHWHILE))


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[Result]:
    """Yields `function(item)` of every item, in order.

    Args:
        function: of a module that is quick to import; what it raises is raised here.
        items: consumed little by little; they and the results are pickled.
        processes: 1 for none but this one. Others are started anew (spawned), so that nothing of
            what this one holds is copied; they import what the main script imports at its top.

    Raises:
        UserError: a process was killed, as when memory runs out.
    """
    if processes == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pool = ProcessPoolExecutor(processes, context, initializer=_begin)
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes was ended from outside, perhaps for want of memory; "
                "run the command again, with fewer processes"
            ) from error


def _begin() -> None:
    """Leaves Ctrl-C to the process that started this one, and sees to it that they end together."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Of a parent that was killed a process would wait for work for ever.
    multiprocessing.parent_process().join()
    os._exit(1)

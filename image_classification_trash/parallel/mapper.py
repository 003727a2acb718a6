"""The same work with each of many items: in threads of this process, or on an engine of `distributed`, which this does not know.

for hashed in THREADS.map(hash_photo, paths): ...
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")
AHEAD = 64
"""Items that are given to the threads before their results are taken: no memory for all of a million photos."""


class Mapper(Protocol):
    """Does the same work with each of many items."""

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield what `work` returns for each item, in their order, as it comes; few are done ahead.

        The first error of the work is raised. Work, items and results can be pickled, and paths in them are absolute:
        they may go to other processes and machines.
        """
        ...


class Threads:
    """A thread on each core."""

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield what `work` returns for each item, in their order; `AHEAD` of them are done ahead."""
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(cores) as pool:
            coming = iter(items)
            waiting = deque(pool.submit(work, item) for item in islice(coming, max(AHEAD, 2 * cores)))
            try:
                while waiting:
                    result = waiting.popleft().result()
                    waiting.extend(pool.submit(work, item) for item in islice(coming, 1))
                    yield result
            finally:
                pool.shutdown(cancel_futures=True)


THREADS = Threads()

"""Decodes photos and runs the model in a bounded pool of threads behind a bounded queue, a lane for heavy photos beside it.

The event loop never waits for a photo, and the queue cannot grow beyond its limit: what does not fit is refused at once.
Each photo runs alone, as a batch is no faster in LiteRT on a CPU; Pillow and the engines release the GIL.

A job that meets a photo which takes far more memory or time than most starts again in the lane for heavy ones, which
is as wide, but admits only as many at once as fit into its memory. So ordinary photos never wait for heavy ones.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from image_classification_trash.config.serving import ServeSettings
from image_classification_trash.serving.http.api_errors import RefusalError, full

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def photos_at_once(settings: ServeSettings, is_remote: bool) -> int:
    """Return how many ordinary photos a worker has at work at once, and how many heavy ones beside them.

    Args:
        settings: of the stage `serve`.
        is_remote: whether a model server runs the model, so that a photo mostly waits for it.
    """
    if is_remote:
        return settings.backend_connections
    return max(1, cores() // (settings.workers * settings.threads))


class HeavyPhotoError(Exception):
    """A job met a photo that belongs into the lane for heavy ones."""


@dataclass(frozen=True)
class Turn:
    """What a job may do.

    Attributes:
        deadline: when it is given up, on the monotonic clock.
        is_heavy: whether it runs in the lane for heavy photos.
    """

    deadline: float
    is_heavy: bool = False


class MemoryBudget:
    """Bytes that are lent to jobs in the order in which they asked."""

    def __init__(self, total: int) -> None:
        self._free = self._total = total
        self._asking: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def lent(self, count: int, deadline: float) -> Iterator[None]:
        """Wait until `count` bytes are free, or all of them where it is more, and hold them.

        Raises:
            TimeoutError: they were not free at the deadline, on the monotonic clock.
        """
        count, ticket = min(count, self._total), object()
        with self._changed:
            self._asking.append(ticket)
            try:
                if not self._changed.wait_for(
                    lambda: self._asking[0] is ticket and self._free >= count, deadline - time.monotonic()
                ):
                    raise TimeoutError
                self._free -= count
            finally:
                self._asking.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


class Lane:
    """Runs at most `threads` jobs at once while at most `waiting` wait."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="photo")
        self._lock = threading.Lock()
        self._threads, self._capacity = threads, threads + waiting
        self._jobs, self._moved = 0, 0.0

    @property
    def waiting(self) -> int:
        """Number of jobs that no thread has begun."""
        return max(0, self._jobs - self._threads)

    @property
    def is_full(self) -> bool:
        """Whether another job would be refused."""
        return self._jobs >= self._capacity

    @property
    def stuck_seconds(self) -> float:
        """How long no thread has been free, and none has ended a job; 0 where one is free."""
        return time.monotonic() - self._moved if self._jobs >= self._threads else 0.0

    def submit(
        self, function: Callable[[_In, Turn], _Out], items: Sequence[_In], turn: Turn
    ) -> list["Future[_Out]"]:
        """Start a job for each item: all of them, or none where there is no room for all.

        Raises:
            RefusalError: 503, there is no room.
        """

        def release(_: "Future[_Out]") -> None:
            with self._lock:
                self._jobs -= 1
                self._moved = time.monotonic()

        with self._lock:
            if self._jobs + len(items) > self._capacity:
                raise full()
            if self._jobs < self._threads:
                self._moved = time.monotonic()
            self._jobs += len(items)
        futures = [self._pool.submit(function, item, turn) for item in items]
        for future in futures:  # a job that was given up keeps its place until its thread is free again
            future.add_done_callback(release)
        return futures

    def close(self) -> None:
        """Let running jobs finish, and drop waiting ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class WorkQueue:
    """Runs jobs in a lane of `threads` and `waiting` places, heavy ones in another; gives up what takes longer than `seconds`."""

    def __init__(self, threads: int, waiting: int, seconds: float) -> None:
        self._lane, self._heavy = Lane(threads, waiting), Lane(threads, waiting)
        self._seconds = seconds

    @property
    def waiting(self) -> int:
        """Number of jobs that no thread has begun."""
        return self._lane.waiting + self._heavy.waiting

    @property
    def is_full(self) -> bool:
        """Whether another job would be refused."""
        return self._lane.is_full

    @property
    def stuck_seconds(self) -> float:
        """How long no place for ordinary photos has been free or has become free; 0 where one is free."""
        return self._lane.stuck_seconds

    async def run(
        self, function: Callable[[_In, Turn], _Out], items: Sequence[_In]
    ) -> list[_Out | BaseException]:
        """Run a job for each item: all of them, or none where there is no room for all.

        Args:
            function: the job; where it raises HeavyPhotoError, it starts again in the lane for heavy photos.
            items: one for each job.

        Returns:
            What each job returned or raised, in order; a RefusalError, 503, where there is no room for a heavy one.

        Raises:
            RefusalError: 503 if the queue is full, 504 if the jobs are not done in time.
        """
        turn = Turn(time.monotonic() + self._seconds)

        async def result(item: _In, future: "Future[_Out]") -> _Out:
            try:
                return await asyncio.wrap_future(future)
            except HeavyPhotoError:
                (again,) = self._heavy.submit(function, [item], Turn(turn.deadline, is_heavy=True))
                return await asyncio.wrap_future(again)

        futures = self._lane.submit(function, items, turn)
        results = asyncio.gather(*map(result, items, futures), return_exceptions=True)
        try:
            found = await asyncio.wait_for(results, self._seconds)
        except TimeoutError as error:
            raise self._too_slow() from error
        return [self._too_slow() if isinstance(each, TimeoutError) else each for each in found]

    def close(self) -> None:
        """Let running jobs finish, and drop waiting ones."""
        self._lane.close()
        self._heavy.close()

    def _too_slow(self) -> RefusalError:
        message = f"The model did not answer within {self._seconds:g} seconds. Try again later."
        return RefusalError(504, "too_slow", message)

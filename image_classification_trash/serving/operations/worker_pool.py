"""Decodes photos and runs the model in a bounded pool of threads behind a bounded queue.

The event loop never waits for a photo, and the queue cannot grow beyond its limit: what does not fit is refused at once.
Each photo runs alone, as a batch is no faster in LiteRT on a CPU; Pillow and the engines release the GIL.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from image_classification_trash.serving.http.api_errors import RefusalError, full

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkQueue:
    """Runs at most `threads` jobs at once while at most `waiting` wait; gives up jobs that take longer than `seconds`."""

    def __init__(self, threads: int, waiting: int, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="photo")
        self._lock = threading.Lock()
        self._threads, self._capacity, self._seconds = threads, threads + waiting, seconds
        self._jobs = 0

    @property
    def waiting(self) -> int:
        """Number of jobs that no thread has begun."""
        return max(0, self._jobs - self._threads)

    @property
    def is_full(self) -> bool:
        """Whether another job would be refused."""
        return self._jobs >= self._capacity

    async def run(self, function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out | BaseException]:
        """Run a job for each item: all of them, or none where there is no room for all.

        Returns:
            What each job returned or raised, in order.

        Raises:
            RefusalError: 503 if the queue is full, 504 if the jobs are not done in time.
        """
        futures = self._submit(function, items)
        results = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        try:
            return await asyncio.wait_for(results, self._seconds)
        except TimeoutError as error:
            message = f"The model did not answer within {self._seconds:g} seconds. Try again later."
            raise RefusalError(504, "too_slow", message) from error

    def close(self) -> None:
        """Let running jobs finish, and drop waiting ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, function: Callable[[_In], _Out], items: Sequence[_In]) -> list["Future[_Out]"]:
        def release(_: "Future[_Out]") -> None:
            with self._lock:
                self._jobs -= 1

        with self._lock:
            if self._jobs + len(items) > self._capacity:
                raise full()
            self._jobs += len(items)
        futures = [self._pool.submit(function, item) for item in items]
        for future in futures:  # a job that was given up keeps its place until its thread is free again
            future.add_done_callback(release)
        return futures

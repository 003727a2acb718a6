"""The queue: a lane for heavy photos, memory that is lent in order, places that become free again."""

import asyncio
import threading
import time

import pytest
from helpers.patient import PATIENCE, wait_until

from image_classification_trash.serving.http.api_errors import RefusalError
from image_classification_trash.serving.operations.worker_pool import (
    HeavyPhotoError,
    MemoryBudget,
    Turn,
    WorkQueue,
)


def test_a_heavy_job_starts_again_and_does_not_hold_up_others() -> None:
    release = threading.Event()

    def job(name: str, turn: Turn) -> str:
        if name == "heavy" and not turn.is_heavy:
            raise HeavyPhotoError
        if name == "heavy":
            assert release.wait(PATIENCE)
        return name

    async def asked() -> list[object]:
        queue = WorkQueue(1, 4, PATIENCE)
        heavy = asyncio.create_task(queue.run(job, ["heavy"]))
        light = await queue.run(job, ["light"])
        assert not heavy.done()
        release.set()
        return [*light, *await heavy]

    assert asyncio.run(asked()) == ["light", "heavy"]


def test_heavy_jobs_beyond_the_room_for_them_are_refused() -> None:
    release = threading.Event()

    def job(_: int, turn: Turn) -> bool:
        if not turn.is_heavy:
            raise HeavyPhotoError
        return release.wait(PATIENCE)

    async def asked() -> list[object]:
        queue = WorkQueue(1, 1, PATIENCE)
        first = [asyncio.create_task(queue.run(job, [n])) for n in range(2)]
        while queue.waiting < 1:
            await asyncio.sleep(0.01)
        (refused,) = await queue.run(job, [2])
        release.set()
        assert [await task for task in first] == [[True], [True]]
        return [refused]

    (refused,) = asyncio.run(asked())
    assert isinstance(refused, RefusalError) and (refused.status, refused.code) == (503, "full")


def test_a_time_out_of_a_job_is_the_requests() -> None:
    def job(_: int, turn: Turn) -> None:
        raise TimeoutError

    (found,) = asyncio.run(WorkQueue(1, 0, PATIENCE).run(job, [1]))
    assert isinstance(found, RefusalError) and (found.status, found.code) == (504, "too_slow")


def test_a_queue_is_stuck_while_no_place_is_free() -> None:
    release = threading.Event()

    async def asked() -> None:
        queue = WorkQueue(1, 2, PATIENCE)
        assert queue.stuck_seconds == 0
        held = asyncio.create_task(queue.run(lambda *_: release.wait(PATIENCE), [1]))
        while queue.stuck_seconds < 0.05:
            await asyncio.sleep(0.01)
        release.set()
        await held
        while queue.stuck_seconds:
            await asyncio.sleep(0.01)

    asyncio.run(asked())


def test_memory_is_lent_in_order_and_not_beyond_the_deadline() -> None:
    budget, order = MemoryBudget(10), []

    def take(name: str, count: int) -> None:
        with budget.lent(count, time.monotonic() + PATIENCE):
            order.append(name)

    with budget.lent(6, time.monotonic() + PATIENCE):
        with pytest.raises(TimeoutError), budget.lent(5, time.monotonic() + 0.01):
            pass
        large = threading.Thread(target=take, args=("large", 1000))  # more than there is: all of it
        large.start()
        wait_until(lambda: len(budget._asking) == 1)
        small = threading.Thread(target=take, args=("small", 1))
        small.start()
        wait_until(lambda: len(budget._asking) == 2)
        assert order == []
    large.join(PATIENCE)
    small.join(PATIENCE)
    assert order == ["large", "small"]

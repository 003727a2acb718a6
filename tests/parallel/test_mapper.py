"""Results come in the order of the items, few of them are made ahead, and the first error ends the work."""

import threading
import time
from collections.abc import Iterator

import pytest

from image_classification_trash.parallel.mapper import AHEAD, THREADS


def test_results_are_in_order() -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(THREADS.map(work, range(200))) == [item * item for item in range(200)]
    assert list(THREADS.map(work, [])) == []


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100_000):
            taken.append(item)
            yield item

    results = THREADS.map(abs, items())
    assert not taken, "nothing is done before the first result is asked for"
    assert [next(results) for _ in range(10)] == list(range(10))
    assert AHEAD <= len(taken) < 1000
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 1000


def test_an_error_is_raised_in_its_place_and_ends_the_work() -> None:
    begun = set()

    def work(item: int) -> int:
        begun.add(item)
        if item == 5:
            raise ValueError("item 5")
        time.sleep(0.001)
        return item

    results = THREADS.map(work, range(10_000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="item 5"):
        next(results)
    assert len(begun) < 1000 and threading.active_count() < 50

"""The pool of actors gives every shard an outcome, whatever is lost, and ends where nothing can be done; Ray is played by a script."""

import logging
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.commands import GUARD
from helpers.ray_nodes import ATTEMPTS

from image_classification_trash.distributed.mapping import RayMapper
from image_classification_trash.distributed.ray_engine import (
    MOST_ATTEMPTS,
    MOST_STARTS,
    ActorPool,
    started_ray,
)
from image_classification_trash.distributed.shard_work import Outcome, ShardJob
from image_classification_trash.distributed.shards import Shard
from image_classification_trash.errors import PhotoError, ShardError

SHARDS = [Shard(number, "0" * 64) for number in range(12)]
JOB = ShardJob("shards", "answers", "shipped")
START = "start"


class RayError(Exception):
    """Ray's: a process is lost, or what ran in it failed with `cause`."""

    def __init__(self, text: str, cause: Exception | None = None) -> None:
        super().__init__(text)
        self.cause = cause


class RayTaskError(RayError):
    pass


Fate = Callable[[int, str | Shard], Exception | None]
"""What becomes of the start of an actor, by its number, or of a shard that it answers."""


class ScriptedRay:
    """Runs what it is asked for when it is waited for; `fate` decides what is lost."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, fate: Fate, silent: int = 0) -> None:
        self.fate, self.actors, self.carefully, self._silent = fate, 0, Counter[int](), silent

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options == {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        return lambda _: SimpleNamespace(remote=self._actor)

    def _actor(self, job: ShardJob) -> Any:
        self.actors += 1
        number = self.actors

        def result(what: str | Shard, carefully: bool = False) -> Callable[[], Outcome | None]:
            def run() -> Outcome | None:
                if isinstance(what, Shard):
                    self.carefully[what.number] += carefully
                if error := self.fate(number, what):
                    raise error
                return Outcome(what, 10) if isinstance(what, Shard) else None

            return run

        start, answer = (SimpleNamespace(remote=work) for work in (lambda: result(START), result))
        return SimpleNamespace(start=start, answer=answer)

    def put(self, value: Any) -> Any:
        return value

    def wait(self, running: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        self._silent -= 1
        return ([], running) if self._silent >= 0 else (running[:1], running[1:])

    def get(self, done: Callable[[], Any]) -> Any:
        return done()

    def kill(self, actor: Any) -> None:
        pass

    def available_resources(self) -> dict[str, float]:
        return {"memory": 1.0}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}


def outcomes(ray: ScriptedRay, actors: int = 3) -> list[Outcome]:
    return list(ActorPool(ray, JOB, SHARDS, actors).outcomes())


def test_every_shard_has_one_outcome() -> None:
    ray = ScriptedRay(lambda number, what: None)
    assert sorted(found.shard.number for found in outcomes(ray)) == list(range(12))
    assert ray.actors == 3 and not ray.carefully.total()


def test_a_shard_that_is_lost_again_and_again_fails_alone() -> None:
    """Another actor answers it photo by photo each time."""
    ray = ScriptedRay(lambda number, what: RayError("gone") if what == SHARDS[5] else None)
    found = outcomes(ray)
    assert sorted(it.shard.number for it in found) == list(range(12))
    (failed,) = (it for it in found if it.failure)
    assert failed.shard == SHARDS[5] and failed.lost == MOST_ATTEMPTS == 4
    assert failed.failure == "it was lost with 4 actors"
    assert ray.carefully == Counter({5: MOST_ATTEMPTS - 1}) and ray.actors == 3 + MOST_ATTEMPTS


def test_what_is_lost_a_few_times_is_answered_and_counted() -> None:
    lost = Counter[str | Shard]()

    def fate(number: int, what: str | Shard) -> Exception | None:
        lost[what] += 1
        return RayError("gone") if what == SHARDS[2] and lost[what] < 3 else None

    found = {it.shard.number: it for it in outcomes(ScriptedRay(fate))}
    assert len(found) == 12 and not any(it.failure for it in found.values())
    assert found[2].lost == 1, "the actors beside the one that `answer_carefully` counts"


def test_a_machine_that_is_lost_while_all_actors_start_there_ends_no_run() -> None:
    ray = ScriptedRay(lambda number, what: RayError("node died") if number <= 16 and what == START else None)
    assert len(outcomes(ray, 16)) == 12 and ray.actors == 32


def test_actors_that_never_start_end_the_run() -> None:
    ray = ScriptedRay(lambda number, what: RayError("no such module"))
    with pytest.raises(ShardError, match="actors do not start: no such module"):
        outcomes(ray, 4)
    assert ray.actors < 4 + 4 + MOST_STARTS


def test_what_an_actor_refuses_is_said_at_once() -> None:
    refused = ShardError("The model is another one here.", "Copy it.")
    ray = ScriptedRay(lambda number, what: RayTaskError("ray::start", refused))
    with pytest.raises(ShardError, match="another one here") as caught:
        outcomes(ray)
    assert caught.value.hint == "Copy it." and ray.actors == 3


def test_a_cluster_without_room_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(outcomes(ScriptedRay(lambda number, what: None, silent=5))) == 12
    (line,) = caplog.messages
    assert "of the 8 CPUs of the Ray cluster 0 are free" in line


class ScriptedTasks:
    """Tasks that run when they are waited for; each is lost if `fate` says so of its items."""

    exceptions = ScriptedRay.exceptions

    def __init__(self, fate: Callable[[list[int]], Exception | None]) -> None:
        self.fate, self.running, self.most = fate, 0, 0

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        assert options == {"num_cpus": 1, "max_retries": 2}
        return lambda work: SimpleNamespace(remote=lambda shared, items: self._begin(work, shared, items))

    def _begin(self, work: Any, shared: Any, items: list[int]) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        return SimpleNamespace(run=lambda: work(shared, items), items=items)

    def put(self, value: Any) -> Any:
        return value

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.running -= 1  # the last one is done first: results come in order all the same
        return running[-1:], running[:-1]

    def get(self, done: Any) -> Any:
        if error := self.fate(done.items):
            raise error
        return done.run()


def test_a_mapper_gives_few_tasks_ahead_and_keeps_the_order() -> None:
    ray, taken = ScriptedTasks(lambda items: None), list[int]()

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    results = RayMapper(ray, 3).map(abs, items())
    assert [next(results) for _ in range(100)] == list(range(100))
    assert len(taken) < 300 and ray.most == 3


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (RayTaskError("ray::done", PhotoError("bad.jpg is bad.", "x")), PhotoError, "bad.jpg is bad"),
        (RayError("out of memory"), ShardError, "3 of Ray's processes ended with 4, 5, 6, 7: out of memory"),
        (RayTaskError("ray::done", ValueError("1")), RayTaskError, "ray::done"),
    ],
)
def test_a_mapper_raises_what_ended_its_work(error: Exception, expected: type[Exception], words: str) -> None:
    def work(item: int) -> int:
        return item

    results = RayMapper(ScriptedTasks(lambda items: error if 5 in items else None), 2).map(work, range(40))
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(expected, match=words):
        list(results)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:99999", "localhost:{}"])
def test_an_address_where_nobody_listens_is_refused_before_ray_tries(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray tries for more than ten minutes, and says nothing meanwhile."""
    asked: list[Any] = []
    ray = SimpleNamespace(init=lambda *given, **more: asked.append(given))
    monkeypatch.setitem(sys.modules, "ray", ray)
    address = address.format(free_port())
    with (
        pytest.raises(ShardError, match=f"The Ray cluster {address} cannot be reached"),
        started_ray(address, 1),
    ):
        pass
    assert not asked


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("auto", RayError("Token authentication is enabled but no token was found"), "Ray cluster auto cannot be reached: Token"),
        (None, Exception("The current node timed out during startup.\nMore."), "Ray does not start: The current node timed out"),
    ],
)  # fmt: skip
def test_what_ray_raises_at_the_start_is_no_traceback(
    address: str | None, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*given: Any, **more: Any) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(ShardError, match=words), started_ray(address, 1):
        pass


def test_addresses_that_ray_finds_itself_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    ray = SimpleNamespace(init=lambda address, **more: asked.append((address, more)), shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    for address in ("auto", None):
        with started_ray(address, 4):
            pass
    (auto, of_cluster), (local, own) = asked
    assert (auto, local) == ("auto", "local") and "object_store_memory" not in of_cluster
    assert own["object_store_memory"] == (80 + 4 * 16) * 2**20 and own["num_cpus"] == 4


ANOTHER_MODEL = """
from image_classification_trash.distributed.ray_engine import answer_on_ray
from image_classification_trash.distributed.shard_work import ShardJob

list(answer_on_ray(ShardJob("shards", "answers", "shipped", made_with={"model": "other"}), [], None, 2))
"""
NO_MEMORY = """
import time
from image_classification_trash.distributed.mapping import RayMapper
from image_classification_trash.distributed.ray_engine import started_ray

def work(item):
    time.sleep(600)  # until Ray ends the process

with started_ray(None, 1) as ray:
    list(RayMapper(ray, 1).map(work, range(8)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "environment", "words"),
    [
        (ANOTHER_MODEL, {}, "is another one here than where the run was started: model other -> "),
        # Ray ends every process at once, as one that takes all memory.
        (NO_MEMORY, {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}, "3 of Ray's processes ended with 0, 1, 2, 3: "),
    ],
)  # fmt: skip
def test_ray_itself_ends_what_cannot_be_done(
    code: str, environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "on_ray.py").write_text(code)
    line, given = [sys.executable, "on_ray.py"], {**os.environ, **environment}
    for _ in range(ATTEMPTS):
        done = subprocess.run(line, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=GUARD, check=False)  # fmt: skip
        if "Ray does not start" not in done.stderr:
            break
    assert done.returncode == 1 and "ShardError" in done.stderr and words in done.stderr, done.stderr

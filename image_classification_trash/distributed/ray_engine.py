"""Shards answered by actors of Ray, on this machine or on a cluster; the only file that imports Ray.

trash-classifier predict --shards s3://bucket/shards --parquet s3://bucket/answers --engine ray --address HOST:6379 --actors 64

Ray's core alone: a task is a shard, and nothing but its number and counts goes through Ray. Ray restarts no actor and
repeats no task: what a lost actor had begun is answered photo by photo by another one, so that a photo which ends its
process cannot do so for ever.
"""

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from image_classification_trash.distributed.mapping import ATTEMPTS
from image_classification_trash.distributed.shard_process import answer_carefully
from image_classification_trash.distributed.shard_work import Outcome, ShardJob, ShardWork
from image_classification_trash.distributed.shards import Shard
from image_classification_trash.errors import MissingExtraError, ShardError, TrashClassifierError, first_line

ACTORS = 2
"""Number of actors, or of processes, where the settings name none."""
MOST_ATTEMPTS = 4
"""Number of actors that are lost with a shard before the shard fails: machines can be lost too."""
MOST_STARTS = 5
"""Number of actors that are lost in a row while they start, beside one machine's, before the run fails."""
SILENCE = 60
"""Seconds without a started actor after which the run says that it waits for one."""
_STORE_BYTES, _STORE_BYTES_OF_A_PROCESS = 80 * 2**20, 16 * 2**20
"""Ray's least is 75 MiB, which shards do not use; results of a `RayMapper` lie there until their turn comes, and on disk if there is no room."""
_REACHED = 10
"""Seconds within which somebody answers at a cluster's address."""

logger = logging.getLogger(__name__)


class ShardActor:
    """Answers shards in a process of Ray's, with one core."""

    def __init__(self, job: ShardJob) -> None:
        self.job = replace(job, workers=1)

    def start(self) -> None:
        """Load the model; not when the actor is made, since of an error there Ray keeps no more than its text.

        Raises:
            As `ShardWork` does.
        """
        self.work = ShardWork(self.job)

    def answer(self, shard: Shard, carefully: bool) -> Outcome:
        """Answer a shard, or photo by photo, where it ended an actor before."""
        return answer_carefully(self.job, shard) if carefully else self.work(shard)


@dataclass(frozen=True)
class Task:
    """A shard that may have been lost with actors before."""

    shard: Shard
    lost: int = 0


class ActorPool:
    """Actors that answer shards, and what each of them does now."""

    def __init__(self, ray: Any, job: ShardJob, shards: Iterable[Shard], actors: int) -> None:
        self._ray, self._actors = ray, actors
        self._remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(ShardActor)
        self._job = ray.put(job)
        self._again: deque[Task] = deque()
        self._coming = map(Task, shards)
        self._running: dict[Any, tuple[Any, Task | None]] = {}
        self._lost_starts, self._has_all_given, self._has_said = 0, False, False

    def start_actor(self) -> None:
        """Start one more actor; it takes a shard when it has loaded the model."""
        actor = self._remote.remote(self._job)
        self._running[actor.start.remote()] = (actor, None)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of each shard as it comes.

        Raises:
            ShardError: actors do not start.
        """
        for _ in range(self._actors):
            self.start_actor()
        while self._running and not self.is_done():
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=SILENCE)
            if not done:
                self.say_if_none_works()
                continue
            actor, task = self._running.pop(done[0])
            try:
                outcome = self._ray.get(done[0])
            except self._ray.exceptions.RayError as error:
                yield from self.replace_actor(task, error)
                continue
            self._lost_starts = 0
            if task is not None:
                yield replace(outcome, lost=outcome.lost + max(0, task.lost - 1))
            self.give_work(actor)

    def is_done(self) -> bool:
        """Return whether no shard is left and no actor has one; actors for which the cluster has no room are not waited for."""
        return (
            self._has_all_given
            and not self._again
            and all(task is None for _, task in self._running.values())
        )

    def say_if_none_works(self) -> None:
        """Log once that no actor has started: while other work has all cores of a cluster, Ray waits and says nothing."""
        if self._has_said or any(task is not None for _, task in self._running.values()):
            return
        self._has_said = True
        free, cores = (
            found.get("CPU", 0) for found in (self._ray.available_resources(), self._ray.cluster_resources())
        )
        text = "no actor has started for %d seconds; of the %g CPUs of the Ray cluster %g are free, and each actor needs one"
        logger.warning(text, SILENCE, cores, free)

    def give_work(self, actor: Any) -> None:
        """Give an actor the next shard, or end it if there is none."""
        task = self._again.popleft() if self._again else next(self._coming, None)
        if task is None:
            self._has_all_given = True
            self._ray.kill(actor)
        else:
            self._running[actor.answer.remote(task.shard, task.lost > 0)] = (actor, task)

    def replace_actor(self, task: Task | None, error: Exception) -> Iterator[Outcome]:
        """Start another actor for one that was lost; yield an outcome if its shard is given up."""
        if task is None:
            self._lost_starts += 1
            cause = getattr(error, "cause", None)
            if isinstance(cause, TrashClassifierError):
                raise ShardError(cause.found, cause.hint) from error
            if self._lost_starts == MOST_STARTS + self._actors:  # all may start on the machine that is lost
                hint = "See Ray's logs; every machine needs this package and the model."
                raise ShardError(f"Ray's actors do not start: {first_line(error)}.", hint) from error
        elif task.lost + 1 == MOST_ATTEMPTS:
            yield Outcome(task.shard, failure=f"it was lost with {MOST_ATTEMPTS} actors", lost=MOST_ATTEMPTS)
        else:
            self._again.append(replace(task, lost=task.lost + 1))
        self.start_actor()


def answer_on_ray(
    job: ShardJob, shards: Iterable[Shard], address: str | None, actors: int | None
) -> Generator[Outcome]:
    """Answer shards with actors, on the cluster at an address or on a Ray of this machine's.

    Raises:
        MissingExtraError: Ray is not installed.
        ShardError: the cluster cannot be reached, or its actors do not start.
    """
    count = actors or ACTORS
    with started_ray(address, count) as ray:
        yield from ActorPool(ray, job, shards, count).outcomes()


@contextmanager
def started_ray(address: str | None, cpus: int) -> Iterator[Any]:
    """Yield Ray's module, connected to a cluster; without an address, to a Ray of this machine's that ends with the context.

    Raises:
        MissingExtraError: Ray is not installed.
        ShardError: the cluster cannot be reached, or Ray does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray reads it when it is imported, and by default repeats for ever what it ends for its memory.
    os.environ.setdefault("RAY_task_oom_retries", str(ATTEMPTS - 1))
    try:
        import ray  # noqa: PLC0415  an extra
    except ImportError as error:
        hint = "Install it with: pip install 'image-classification-trash[ray]'"
        raise MissingExtraError("--engine ray needs the library ray.", hint) from error
    own: dict[str, Any] = {
        "num_cpus": cpus,
        "object_store_memory": _STORE_BYTES + cpus * _STORE_BYTES_OF_A_PROCESS,
        "include_dashboard": False,
    }
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:  # without an address of its own, Ray would join whatever cluster runs on this machine
        if port.isdecimal():  # where nobody listens, Ray itself tries for more than ten minutes
            socket.create_connection((host.strip("[]"), int(port)), _REACHED).close()
        ray.init(
            address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own)
        )
    except Exception as error:  # Ray raises all kinds, on a busy machine a bare Exception
        where = f"The Ray cluster {address} cannot be reached" if address else "Ray does not start"
        raise ShardError(f"{where}: {first_line(error)}.", "Check the address, and its token.") from error
    try:
        with redirect_stdout(sys.stderr):  # Ray prints there what becomes of its workers
            yield ray
    finally:
        ray.shutdown()

"""The same work with each of many items on Ray: what `data` and `features` take as a `Mapper`.

trash-classifier data mine --source /shared/photos --data-dir /shared/data --engine ray --address HOST:6379 --actors 16
trash-classifier features mine --data-dir /shared/data --engine ray --address HOST:6379 --actors 16

A task of Ray's is `GROUP` items. Ray repeats the tasks of a process or machine that is lost.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from image_classification_trash.config.base import EngineSettings
from image_classification_trash.errors import ShardError, TrashClassifierError, first_line
from image_classification_trash.parallel.mapper import A, B, Mapper

GROUP = 4
"""Items in a task: a task costs a millisecond of computing, an item ten and more."""
AHEAD = 4
"""Tasks, for each process, whose results may wait for one that takes longer."""
ATTEMPTS = 3
"""Number of processes that are lost with a task before the run fails."""


@contextmanager
def chosen_mapper(settings: EngineSettings) -> Iterator[Mapper | None]:
    """Yield the mapper that the settings name, for as long as Ray is connected; None: this process does the work.

    Raises:
        MissingExtraError: Ray is not installed.
        ShardError: the cluster cannot be reached.
    """
    if settings.engine == "embedded":
        yield None
        return
    from image_classification_trash.distributed.ray_engine import ACTORS, started_ray  # noqa: PLC0415  an extra

    processes = settings.actors or ACTORS
    with started_ray(settings.address, processes) as ray:
        yield RayMapper(ray, processes)


class RayMapper:
    """Processes of Ray's, at most `processes` of them at a time, with one core each."""

    def __init__(self, ray: Any, processes: int) -> None:
        self._ray, self._processes = ray, processes

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield what `work` returns for each item, in their order.

        Raises:
            ShardError: a group of items ended `ATTEMPTS` processes.
        """
        task = self._ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(done_with_all)
        shared, coming = self._ray.put(work), iter(items)
        waiting: deque[tuple[Any, list[A]]] = deque()
        running: list[Any] = []
        while True:
            while len(running) < self._processes and len(waiting) < AHEAD * self._processes:
                if not (group := list(islice(coming, GROUP))):
                    break
                running.append(task.remote(shared, group))
                waiting.append((running[-1], group))
            if not waiting:
                return
            if waiting[0][0] in running:
                _, running = self._ray.wait(running, num_returns=1)
            else:
                yield from self.results(*waiting.popleft())

    def results(self, done: Any, group: Sequence[A]) -> Iterator[Any]:
        """Yield the results of a task; raise the error of the work, or a ShardError where it was lost."""
        try:
            yield from self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, TrashClassifierError):
                raise cause from error
            if isinstance(error, self._ray.exceptions.RayTaskError):
                raise
            found = f"{ATTEMPTS} of Ray's processes ended with {named(group)}: {first_line(error)}."
            hint = "Leave the photo at fault out, or give each process more memory."
            raise ShardError(found, hint) from error


def done_with_all(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Return what `work` returns for each item; runs in a process of Ray's."""
    return list(map(work, items))


def named(items: Sequence[Any]) -> str:
    """Return the photos of some items as text: paths, lists of paths, or what has a path."""
    names: list[str] = []
    for item in items:
        names += [str(getattr(one, "path", one)) for one in (item if isinstance(item, list) else [item])]
    more = f" and {len(names) - GROUP} more" if len(names) > GROUP else ""
    return ", ".join(names[:GROUP]) + more

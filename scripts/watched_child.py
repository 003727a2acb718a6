"""A child process that works on hostile inputs one by one, so that a crash, a hang or a bloat is seen and survived."""

import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[..., str]


@dataclass(frozen=True)
class Limits:
    """What one input may take.

    Attributes:
        seconds: of waiting, beyond which the child counts as hung.
        memory: bytes of address space, beyond which the child's allocations fail.
    """

    seconds: float
    memory: int


class WatchedChild:
    """Runs `work(*arguments)`, a function of a module, in a child process; a new one is started when it dies or hangs."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._start()

    def run(self, *arguments: Any) -> str:
        """Return what `work` returned, or a failure and its cause: `raised: ...`, `hung: ...` or `crashed: ...`."""
        try:
            self._pipe.send(arguments)
            if self._pipe.poll(self._limits.seconds):
                return str(self._pipe.recv())
            outcome = f"hung: longer than {self._limits.seconds:g} s"
        except (EOFError, OSError):
            self._process.join(5)
            outcome = f"crashed: exit status {self._process.exitcode}"
        self.close()
        self._start()
        return outcome

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=work_on_all, args=(other, self._work, self._limits.memory), daemon=True
        )
        self._process.start()
        other.close()


def work_on_all(pipe: Connection, work: Work, memory: int) -> None:
    """The child: works on what comes, within bounded memory."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    while True:
        try:
            pipe.send(work(*pipe.recv()))
        except EOFError:
            return
        except BaseException as error:
            pipe.send(f"raised: {error!r}")

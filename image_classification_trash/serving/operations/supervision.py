"""Ends servers in time, and replaces workers that died, hang or hold too much memory; on top of uvicorn's supervisor.

What uvicorn's own lacks: workers that end with their parent, gauges of dead workers that are removed, a stop that is
bounded, a look at memory, and replacements that never keep the supervisor from noticing a signal.
"""

import ctypes
import logging
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from image_classification_trash.serving.operations.prometheus import forget_worker

logger = logging.getLogger("uvicorn.error")

HANG_SECONDS, START_SECONDS = 60.0, 300.0
"""How long a worker may leave the supervisor without an answer: once it serves, and while it starts."""
RESPAWN_SECONDS = 1.0
"""Time between two replacements of workers that died, so that a fault at the start does not take all processors."""
MIN_AGE = 10.0
"""Seconds that a worker serves before it is replaced because of its memory."""
LARGE = 2**20
"""Bytes from which on memory is taken from the system and given back to it, each piece by itself."""
_MMAP_THRESHOLD = -3  # of `mallopt`; what is set no longer grows by itself
_TICK, _LOOK_AT_MEMORY = 0.2, 2.0


class EndingServer(uvicorn.Server):
    """A server whose process ends within a second of the time for requests in flight, whatever still runs in it."""

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes; large bodies go back to the system once they are freed."""
        with suppress(OSError, AttributeError, TypeError):  # C libraries other than GNU's
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; the first signal also sets the time of the end."""
        if not self.should_exit:
            end_after((self.config.timeout_graceful_shutdown or 0) + 0.4)
        super().handle_exit(sig, frame)


def end_after(seconds: float) -> None:
    """End this process after so many seconds, even where no Python code can run any more."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 0.4)


def end_with_parent(seconds: float) -> None:
    """Wait until the process that started this one ends, then end within `seconds` and one more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds + 1)
        os._exit(1)


class Worker(Process):
    """A server in a process of its own.

    Attributes:
        born: when it was made, on the monotonic clock.
        heard: when it last answered.
        serves: whether it has said that it serves.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.born = self.heard = time.monotonic()
        self.serves, self._asked = False, False

    @property
    def server(self) -> uvicorn.Server:
        """The server, made in the worker's process."""
        if self._server is None:
            self._server = EndingServer(self.config)
        return self._server

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes, or the parent ends."""
        grace = self.config.timeout_graceful_shutdown or 0
        threading.Thread(target=end_with_parent, args=(grace,), daemon=True).start()
        super().target(sockets)

    def ask(self) -> None:
        """Take the answer to the last question, if it is there, and ask again; never waits."""
        with suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self.serves, self.heard, self._asked = self.parent_conn.recv(), time.monotonic(), False
            if not self._asked:
                self.parent_conn.send(b"ping")
                self._asked = True

    @property
    def is_lost(self) -> bool:
        """Whether its process has ended, or hangs."""
        patience = HANG_SECONDS if self.serves else START_SECONDS
        return not self.process.is_alive() or time.monotonic() - self.heard > patience

    def bury(self) -> None:
        """Kill it if it still runs, and remove what it leaves behind."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        if self.pid is not None:
            forget_worker(self.pid)


class Supervisor(Multiprocess):
    """Keeps `config.workers` workers running until a signal comes, then ends all in time.

    Args:
        config: of the servers; `timeout_graceful_shutdown` is the time for requests in flight.
        sockets: they listen on.
        worker_mb: memory of a worker in MiB, beyond which a new one takes its place; None: never.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], worker_mb: int | None) -> None:
        super().__init__(config, sockets)
        self._limit = None if worker_mb is None else worker_mb * 2**20
        self._due: list[Worker] = []
        self._successor: Worker | None = None
        self._retired: dict[Worker, float] = {}
        self._replaced = self._looked = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.should_exit.set())

    def run(self) -> None:
        """Serve until a signal comes."""
        self.processes = [self._started() for _ in range(self.processes_num)]
        while not self.should_exit.wait(_TICK):
            self.handle_signals()
            self.keep_subprocess_alive()
            self.replace_due()
        self.stop()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are lost, and note those that hold too much memory."""
        now = time.monotonic()
        for index, worker in enumerate(self.processes):
            worker.ask()
            if worker.is_lost and now - self._replaced > RESPAWN_SECONDS:
                worker.bury()
                if worker.exitcode == STARTUP_FAILURE:  # it would fail in the same way again
                    logger.error("Worker %d cannot start; stopping.", worker.pid)
                    self.should_exit.set()
                    return
                logger.warning("Worker %d has ended; another takes its place.", worker.pid)
                self.processes[index], self._replaced = self._started(), now
        if self._limit is not None and now - self._looked > _LOOK_AT_MEMORY:
            self._looked = now
            for worker in self.processes:
                if now - worker.born > MIN_AGE and memory_of(worker.pid) > self._limit:
                    self._note_due(worker)
        for worker, until in list(self._retired.items()):
            if not worker.process.is_alive() or now > until:
                worker.bury()
                del self._retired[worker]

    def restart_all(self) -> None:
        """Replace each worker, one after the other, by one that starts from now on; a model may have come since the last."""
        if self._successor is not None:
            self._successor.terminate()
            self._retired[self._successor] = time.monotonic() + self._grace
            self._successor = None
        for worker in self.processes:
            self._note_due(worker)

    def handle_ttin(self) -> None:
        """Keep the number of workers."""

    def handle_ttou(self) -> None:
        """Keep the number of workers."""

    def _started(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _note_due(self, worker: Worker) -> None:
        if worker not in self._due:
            self._due.append(worker)

    def replace_due(self) -> None:
        """Start the next worker's successor, or let the one that has started take its place."""
        self._due = [worker for worker in self._due if worker in self.processes]
        if self._successor is None:
            self._successor = self._started() if self._due else None
            return
        self._successor.ask()
        if self._successor.is_lost or not self._due:
            if self._due:
                logger.error("A new worker did not start; worker %d stays.", self._due[0].pid)
            self._successor.bury()
            self._due, self._successor = [], None
        elif self._successor.serves:
            worker = self._due.pop(0)
            self.processes[self.processes.index(worker)], self._successor = self._successor, None
            worker.terminate()
            self._retired[worker] = time.monotonic() + self._grace

    @property
    def _grace(self) -> float:
        """Seconds after a signal in which a worker ends by itself."""
        return (self.config.timeout_graceful_shutdown or 0) + 0.9

    def stop(self) -> None:
        """End all workers, those that take longer than they may by force."""
        deadline = time.monotonic() + self._grace
        workers = [*self.processes, *([self._successor] if self._successor else [])]
        for worker in workers:
            worker.terminate()
        workers += self._retired
        while time.monotonic() < deadline and any(worker.process.is_alive() for worker in workers):
            time.sleep(0.02)
        for worker in workers:
            worker.bury()


def memory_of(pid: int | None) -> int:
    """Return the memory of a process in bytes, what it shares in proportion; 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(size) for size in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)) * 1024

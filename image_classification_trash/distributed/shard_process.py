"""A child process that answers shards or single photos, so that a photo that ends a process ends only this one.

python -m image_classification_trash.distributed.shard_process     # started by `ShardProcess`, speaks JSON lines
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, Self

from image_classification_trash.distributed.shard_work import (
    Outcome,
    ShardJob,
    ShardWork,
    error_row,
    write_answers,
)
from image_classification_trash.distributed.shards import Shard, read_shard
from image_classification_trash.distributed.stores import store_at
from image_classification_trash.errors import ShardError, TrashClassifierError
from image_classification_trash.inference.prediction_table import Row

TIMES = 2
"""Number of processes that a photo ends before it becomes a row with an error; the first may have ended for another reason."""
MOST_LOST = 40
"""Number of processes after which a shard fails: then it is not the photos."""


class ProcessEndedError(Exception):
    """The child process ended before it answered."""


class ShardProcess:
    """A child process with a loaded model.

    Raises:
        ShardError: the model cannot be loaded there.
    """

    def __init__(self, job: ShardJob) -> None:
        line = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            self.ask(asdict(job))
        except BaseException as error:
            self.__exit__()
            if not isinstance(error, ProcessEndedError):
                raise
            raise ShardError(f"The process that answers shards does not start: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            ProcessEndedError: the process ended meanwhile.
            ShardError: it reports an error.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is found below
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            code = self._process.wait()
            reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            raise ProcessEndedError(reason)
        found: dict[str, Any] = json.loads(answer)
        if "found" in found:
            raise ShardError(found["found"], found["hint"])
        return found


def answer_embedded(job: ShardJob, shards: Iterable[Shard]) -> Generator[Outcome]:
    """Answer shards on this machine: one child process that uses all cores, and another where a photo ends it."""
    with ExitStack() as running:
        process = running.enter_context(ShardProcess(job))
        for shard in shards:
            try:
                answer = process.ask({"number": shard.number, "digest": shard.digest})
                yield Outcome(shard, **answer)
            except ProcessEndedError:
                running.close()
                yield answer_carefully(job, shard)
                process = running.enter_context(ShardProcess(job))


def answer_carefully(job: ShardJob, shard: Shard) -> Outcome:
    """Answer a shard that ended a process: photo by photo in a child, so that the photo at fault becomes a row."""
    try:
        names = read_shard(store_at(job.shards), shard)
        with OneByOne(job) as one:
            rows = [one.row(name) for name in names]
        return write_answers(job, shard, rows, one.lost + 1)
    except (TrashClassifierError, OSError) as error:
        return Outcome(shard, failure=str(error))


class OneByOne:
    """Answers single photos in a child process, and starts another where a photo ends it.

    Attributes:
        lost: number of processes that ended.
    """

    def __init__(self, job: ShardJob) -> None:
        self.job, self.lost = replace(job, workers=1), 0
        self._running = ExitStack()
        self._process: ShardProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def row(self, name: str) -> Row:
        """Return the row of a photo; one with an error, where the photo ends its process `TIMES` times.

        Raises:
            ShardError: `MOST_LOST` processes ended, or a store fails.
        """
        reason = ""
        for _ in range(TIMES):
            if self.lost == MOST_LOST:
                found = f"The photos of a shard ended {MOST_LOST} processes, the last one {name}: {reason}."
                raise ShardError(found, "Check the memory that a process has, and run the command again.")
            if self._process is None:
                self._process = self._running.enter_context(ShardProcess(self.job))
            try:
                row: Row = self._process.ask({"photo": name})["row"]
                return row
            except ProcessEndedError as error:
                self._running.close()
                self._process, self.lost, reason = None, self.lost + 1, str(error)
        return error_row(
            name, f"It ended the process that read it, {TIMES} times: {reason}.", self.job.labels
        )


def main() -> None:
    """Answer requests from standard input, one JSON line each, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    requests = queue.Queue[str]()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(1)  # the parent is gone: what it asked for is not waited for

    threading.Thread(target=read, daemon=True).start()
    work: ShardWork | None = None
    while True:
        request = json.loads(requests.get())
        try:
            if work is None:
                work, answer = ShardWork(ShardJob(**request)), dict[str, Any]()
            elif "photo" in request:
                answer = {"row": next(work.rows([request["photo"]]))}
            else:
                outcome = work(Shard(request["number"], request["digest"]))
                answer = {key: value for key, value in asdict(outcome).items() if key != "shard"}
        except TrashClassifierError as error:
            answer = {"found": error.found, "hint": error.hint}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

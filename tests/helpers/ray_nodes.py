"""A cluster of Ray with two nodes of one CPU each on this machine, whose processes obey `helpers.killer`.

It belongs to a process of its own (`python -m helpers.ray_nodes`), since Ray reads the environment once in a process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.killer import environment_with_killer
from helpers.processes import command, descendants

TESTS = Path(__file__).parents[1]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
"""What all processes of the cluster and its drivers have in the environment."""
ATTEMPTS = 3
"""Ray's start fails at times on a busy machine."""


class TwoNodes:
    """A cluster: its address, and a second node that a test may end."""

    def __init__(self, folder: Path) -> None:
        environment = {**environment_with_killer(folder), **TOKEN}
        with (folder / "log.txt").open("ab") as log:
            self._owner = subprocess.Popen(
                [sys.executable, "-m", "helpers.ray_nodes"], cwd=TESTS, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )  # fmt: skip
        self._read()

    def _read(self) -> None:
        assert self._owner.stdout is not None
        line = self._owner.stdout.readline()
        if not line:
            self.end()
            raise ChildProcessError("Ray's cluster does not start")
        self.address, self._raylet = json.loads(line)

    def processes(self) -> list[int]:
        """The second node's processes: the raylet, which comes first, and what it started."""
        return [self._raylet, *descendants(self._raylet)]

    def busy(self, with_what: str) -> list[int]:
        """Those among them that run a function now."""
        return [pid for pid in self.processes() if command(pid).startswith(f"ray::{with_what}")]

    def replace_second(self) -> None:
        """End the second node, if a test has not, and start another."""
        assert self._owner.stdin is not None
        self._owner.stdin.write("\n")
        self._owner.stdin.flush()
        self._read()

    def end(self) -> None:
        self._owner.communicate()


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def two_nodes(folder: Path) -> Iterator[TwoNodes]:
    """Start the cluster, again where Ray fails to, and end it."""
    for attempt in range(ATTEMPTS):
        try:
            cluster = TwoNodes(folder)
            break
        except ChildProcessError as error:
            if attempt == ATTEMPTS - 1:
                raise AssertionError((folder / "log.txt").read_text()[-3000:]) from error
    try:
        yield cluster
    finally:
        cluster.end()


def main() -> None:
    """Own a cluster: print its address and the second raylet's process; replace it at each line; end with the input."""
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints too
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    while True:
        raylet = second.all_processes["raylet"][0].process.pid
        print(json.dumps([cluster.address, raylet]), file=answers, flush=True)
        if not sys.stdin.readline():
            break
        cluster.remove_node(second, allow_graceful=False)
        second = cluster.add_node(**node)
    cluster.shutdown()


if __name__ == "__main__":
    main()
